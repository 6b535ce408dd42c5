//! A controller in the test process, on its own thread and runtime, so that it can die or hang as a whole.

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

/// Connections of all controllers to the API server: opening them is most of the cost of a short run. They belong to the
/// runtime that created them, so a dying or hanging controller does not affect others.
#[derive(Clone)]
pub struct Connections {
    controllers: Client,
    people: Client,
    runtime: Handle,
}

impl Connections {
    /// For controllers, and for the clients that interfere with them.
    pub async fn new(controllers: &Kubeconfig, people: &Kubeconfig) -> Self {
        Self { controllers: direct(controllers).await, people: direct(people).await, runtime: Handle::current() }
    }

    /// A client for another runtime. It cancels requests that no task awaits.
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

/// Like the command's client: without retries.
async fn direct(kubeconfig: &Kubeconfig) -> Client {
    let config = Config::from_custom_kubeconfig(kubeconfig.clone(), &KubeConfigOptions::default()).await;
    let mut config = config.expect("a usable kubeconfig");
    config.default_retry = false;
    Client::try_from(config).expect("a usable kubeconfig")
}

/// A controller of one namespace. On drop, it is resumed and stops.
pub struct Inside {
    /// Controls its writes.
    pub control: Arc<Control>,
    /// Counts decisions: each reads the time after its snapshot.
    decisions: Arc<AtomicU64>,
    stop: Option<oneshot::Sender<()>>,
    ended: Option<oneshot::Receiver<()>>,
    log: Arc<Mutex<Vec<u8>>>,
}

impl Inside {
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
                    // To die, it is dropped at any point.
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

    /// Number of decisions.
    pub fn decisions(&self) -> u64 {
        self.decisions.load(Ordering::Relaxed)
    }

    pub fn log(&self) -> String {
        String::from_utf8_lossy(&self.log.lock().unwrap_or_else(std::sync::PoisonError::into_inner)).into_owned()
    }

    /// Completes when it is dead.
    pub async fn dead(&mut self) {
        if let Some(ended) = self.ended.take() {
            // A panic also ends it; its log has the reason.
            let _ = ended.await;
        }
    }

    /// Stops it gracefully, and waits until it has finished.
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
