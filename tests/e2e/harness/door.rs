//! A TCP proxy in front of an API server: simulates its failure without touching the server.

use kube::config::Kubeconfig;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Treatment of connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Forwards them.
    Through,
    /// Resets them, and new ones immediately.
    Reset,
    /// Keeps them, without any response.
    Silent,
}

/// A local port, closed at first. Closing it cuts all connections.
pub struct Door {
    port: u16,
    server: String,
    way: watch::Sender<Way>,
    open: JoinSet<()>,
}

impl Door {
    /// Returns a closed door to the API server of this kubeconfig.
    pub async fn closed(kubeconfig: &Kubeconfig) -> Self {
        let server = kubeconfig.clusters[0].cluster.as_ref().and_then(|cluster| cluster.server.clone());
        let server =
            server.expect("a kubeconfig names a server").trim_start_matches("https://").trim_end_matches('/').to_owned();
        // A port that was just free: nothing listens until the door opens.
        let port =
            TcpListener::bind("127.0.0.1:0").await.and_then(|listener| listener.local_addr()).expect("a free port").port();
        Self { port, server, way: watch::Sender::new(Way::Through), open: JoinSet::new() }
    }

    /// Returns an open door.
    pub async fn opened(kubeconfig: &Kubeconfig) -> Self {
        let mut door = Self::closed(kubeconfig).await;
        door.open().await;
        door
    }

    /// The kubeconfig, with the address of the door.
    pub fn through(&self, kubeconfig: &Kubeconfig) -> Kubeconfig {
        let mut kubeconfig = kubeconfig.clone();
        let cluster = kubeconfig.clusters[0].cluster.as_mut().expect("a cluster");
        // The certificate is checked for the real server's name.
        let host = self.server.rsplit_once(':').map_or(self.server.as_str(), |(host, _)| host);
        cluster.tls_server_name.get_or_insert_with(|| host.into());
        cluster.server = Some(format!("https://127.0.0.1:{}", self.port));
        kubeconfig
    }

    /// Opens it for new connections. Swallowed ones stay silent forever, as if their packets were lost.
    pub async fn open(&mut self) {
        self.way.send_replace(Way::Through);
        if !self.open.is_empty() {
            return;
        }
        let listener = TcpListener::bind(("127.0.0.1", self.port)).await.expect("the port is still free");
        let (server, way) = (self.server.clone(), self.way.subscribe());
        self.open.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                connections.spawn(pass(client, server.clone(), way.clone()));
            }
        });
    }

    /// Cuts all connections, and refuses new ones.
    pub async fn close(&mut self) {
        self.open.shutdown().await;
    }

    /// Resets all connections, present and new.
    pub fn reset(&self) {
        self.way.send_replace(Way::Reset);
    }

    /// Drops all data. New connections are accepted, but get no response.
    pub fn swallow(&self) {
        self.way.send_replace(Way::Silent);
    }
}

async fn pass(mut client: TcpStream, server: String, mut way: watch::Receiver<Way>) {
    let copied = async {
        if let Ok(mut server) = TcpStream::connect(server).await {
            // The connection has ended, whichever side closed it.
            let _ = copy_bidirectional(&mut client, &mut server).await;
        }
    };
    let now = tokio::select! {
        biased;
        now = async { way.wait_for(|way| *way != Way::Through).await.map(|way| *way) } => now,
        () = copied => return,
    };
    match now {
        Ok(Way::Silent) => std::future::pending().await,
        Ok(Way::Reset) => client.set_zero_linger().expect("it is still open"),
        Ok(Way::Through) | Err(_) => {}
    }
}
