//! A door in front of an API server, to be closed and opened: an API server that is not there, without touching the real one.

use kube::config::Kubeconfig;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// A local port that is closed at first. Whoever is connected when it closes again is cut off.
pub struct Door {
    port: u16,
    server: String,
    open: JoinSet<()>,
}

impl Door {
    /// A closed door to the API server of this kubeconfig.
    pub async fn closed(kubeconfig: &Kubeconfig) -> Self {
        let server = kubeconfig.clusters[0].cluster.as_ref().and_then(|cluster| cluster.server.clone());
        let server =
            server.expect("a kubeconfig names a server").trim_start_matches("https://").trim_end_matches('/').to_owned();
        // A port that was free a moment ago: nobody listens there until the door opens.
        let port =
            TcpListener::bind("127.0.0.1:0").await.and_then(|listener| listener.local_addr()).expect("a free port").port();
        Self { port, server, open: JoinSet::new() }
    }

    /// The same kubeconfig, through the door.
    pub fn through(&self, kubeconfig: &Kubeconfig) -> Kubeconfig {
        let mut kubeconfig = kubeconfig.clone();
        let cluster = kubeconfig.clusters[0].cluster.as_mut().expect("a cluster");
        // The certificate is checked for the real server's name.
        let host = self.server.rsplit_once(':').map_or(self.server.as_str(), |(host, _)| host);
        cluster.tls_server_name.get_or_insert_with(|| host.into());
        cluster.server = Some(format!("https://127.0.0.1:{}", self.port));
        kubeconfig
    }

    /// Lets connections through from now on.
    pub async fn open(&mut self) {
        let listener = TcpListener::bind(("127.0.0.1", self.port)).await.expect("the port is still free");
        let server = self.server.clone();
        self.open.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((mut client, _)) = listener.accept().await {
                let server = server.clone();
                connections.spawn(async move {
                    if let Ok(mut server) = TcpStream::connect(server).await {
                        // Whichever side ends it, it has ended.
                        let _ = copy_bidirectional(&mut client, &mut server).await;
                    }
                });
            }
        });
    }

    /// Cuts all connections, and refuses new ones.
    pub async fn close(&mut self) {
        self.open.shutdown().await;
    }
}
