//! A controller inside the test process, on a thread and a runtime of its own, so that it can die or stand still as a whole.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use k8s_openapi::jiff::Timestamp;
use kube::client::Body;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use podium::controller::key::Scope;
use podium::controller::kube_server::KubeServer;
use podium::controller::limits::{LabelKeys, Limits};
use podium::controller::options::Options;
use podium::controller::run_through;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tracing_subscriber::EnvFilter;

use super::faulty::{Control, Faulty};

/// The connections to the API server of all controllers: most of what a short life costs is to make its own. They are kept by
/// the runtime that this was made on, so that a controller that dies or stands still takes nobody's along.
#[derive(Clone)]
pub struct Connections {
    controllers: Client,
    people: Client,
    runtime: Handle,
}

impl Connections {
    /// For controllers, and for the people who get in their way.
    pub async fn new(controllers: &Kubeconfig, people: &Kubeconfig) -> Self {
        Self { controllers: direct(controllers).await, people: direct(people).await, runtime: Handle::current() }
    }

    /// A client for another runtime. A request that is no longer waited for is given up.
    fn elsewhere(&self, client: &Client) -> Client {
        let (client, runtime) = (client.clone(), self.runtime.clone());
        let namespace = client.default_namespace().to_owned();
        let service = tower::service_fn(move |request: http::Request<Body>| {
            let client = client.clone();
            let mut sent = JoinSet::new();
            sent.spawn_on(async move { client.send(request).await }, &runtime);
            async move { sent.join_next().await.expect("it was sent").expect("no panic") }
        });
        Client::new(service, namespace)
    }
}

/// As the command makes it: without retries of its own.
async fn direct(kubeconfig: &Kubeconfig) -> Client {
    let config = Config::from_custom_kubeconfig(kubeconfig.clone(), &KubeConfigOptions::default()).await;
    let mut config = config.expect("a usable kubeconfig");
    config.default_retry = false;
    Client::try_from(config).expect("a usable kubeconfig")
}

/// A controller of one namespace. It goes on, and ends, when this is dropped.
pub struct Inside {
    /// What happens to its writes.
    pub control: Arc<Control>,
    /// Counts its decisions: each asks for the time, once it has taken its snapshot.
    decisions: Arc<AtomicU64>,
    stop: Option<oneshot::Sender<()>>,
    ended: Option<oneshot::Receiver<()>>,
    log: Arc<Mutex<Vec<u8>>>,
}

impl Inside {
    /// Starts it.
    pub fn start(connections: &Connections, namespace: &str, control: Arc<Control>) -> Self {
        let (stop, stopped) = oneshot::channel();
        let (end, ended) = oneshot::channel();
        let (log, decisions) = (Arc::<Mutex<Vec<u8>>>::default(), Arc::<AtomicU64>::default());
        let inside = Self { control: control.clone(), decisions, stop: Some(stop), ended: Some(ended), log };
        let options = inside.options(namespace);
        let client = connections.elsewhere(&connections.controllers);
        let people = connections.elsewhere(&connections.people);
        let writer = Log(inside.log.clone());
        thread::spawn(move || {
            let filter = EnvFilter::new("info,podium=debug,kube_client=off,kube_runtime=off");
            let subscriber = tracing_subscriber::fmt()
                .with_env_filter(filter)
                .with_ansi(false)
                .with_writer(move || writer.clone())
                .finish();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            tracing::subscriber::with_default(subscriber, || {
                runtime.block_on(async {
                    let server = KubeServer::new(client.clone(), options.limits.clone());
                    let server = Faulty::new(server, people, control.clone());
                    // Dropped in the middle of whatever it does, if it is to die.
                    tokio::select! {
                        biased;
                        () = control.death() => {}
                        ended = run_through(server, client, options, async { drop(stopped.await) }) => ended.expect("no watch ends"),
                    }
                });
                drop(runtime);
            });
            let _ = end.send(());
        });
        inside
    }

    fn options(&self, namespace: &str) -> Options {
        let decisions = self.decisions.clone();
        Options {
            candidacy: None,
            http: None,
            scope: Scope::Namespaces([namespace.to_owned()].into()),
            limits: Limits { label_keys: LabelKeys::new(["leader".into(), "*/leader".into()]), own_lease: None },
            instance: "inside".into(),
            clock: Arc::new(move || {
                decisions.fetch_add(1, Ordering::Relaxed);
                Timestamp::now()
            }),
        }
    }

    /// How many decisions it has made.
    pub fn decisions(&self) -> u64 {
        self.decisions.load(Ordering::Relaxed)
    }

    /// What it has said.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&self.log.lock().unwrap_or_else(std::sync::PoisonError::into_inner)).into_owned()
    }

    /// Completes when it is dead.
    pub async fn dead(&mut self) {
        if let Some(ended) = self.ended.take() {
            // An error is a panic: it has ended as well, and its log says how.
            let _ = ended.await;
        }
    }

    /// Asks it to end, and waits until it has finished what it was doing.
    pub async fn stop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        self.dead().await;
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        self.control.resume();
    }
}

#[derive(Clone)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
