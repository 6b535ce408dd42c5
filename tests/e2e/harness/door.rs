//! A door in front of an API server, to be closed and opened: an API server that is not there, without touching the real one.

use kube::config::Kubeconfig;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// What becomes of connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// They go through.
    Through,
    /// They are ended by a reset, the new ones as soon as they are there.
    Reset,
    /// They stay, and nothing comes back.
    Silent,
}

/// A local port that is closed at first. Whoever is connected when it closes again is cut off.
pub struct Door {
    port: u16,
    server: String,
    way: watch::Sender<Way>,
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
        Self { port, server, way: watch::Sender::new(Way::Through), open: JoinSet::new() }
    }

    /// An open one.
    pub async fn opened(kubeconfig: &Kubeconfig) -> Self {
        let mut door = Self::closed(kubeconfig).await;
        door.open().await;
        door
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

    /// Lets connections through from now on. Those that were silent stay so for ever, as if their packets had been lost.
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

    /// Resets all connections of an open door, and all new ones.
    pub fn reset(&self) {
        self.way.send_replace(Way::Reset);
    }

    /// Swallows everything that comes through an open door. New connections are taken, and never answered.
    pub fn swallow(&self) {
        self.way.send_replace(Way::Silent);
    }
}

async fn pass(mut client: TcpStream, server: String, mut way: watch::Receiver<Way>) {
    let copied = async {
        if let Ok(mut server) = TcpStream::connect(server).await {
            // Whichever side ends it, it has ended.
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
