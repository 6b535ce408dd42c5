//! The real controllers: started, paused as by SIGSTOP, killed as by SIGKILL, each with its own wall clock.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use k8s_openapi::jiff::SignedDuration;
use podium::controller::identity::Identity;
use podium::controller::key::Scope;
use podium::controller::kube_server::KubeServer;
use podium::controller::limits::{LabelKeys, Limits};
use podium::controller::observe::cached::Named;
use podium::controller::options::Candidacy;
use podium::controller::options::Options;
use podium::controller::replicas::TIMING;
use podium::controller::run_through;
use podium::controller::server::{ApiServer, Read, Refusal, Write};
use podium_campaign::{Clock, Moment};
use tokio::task::JoinHandle;

use crate::cluster::{Cluster, NAMESPACE, lock};
use crate::network::Link;

/// The controllers' own Lease.
pub const OWN_LEASE: &str = "podium-controller";

pub struct Controller {
    cluster: Arc<Cluster>,
    /// Its connection to the server.
    pub link: Arc<Link>,
    name: String,
    whole_cluster: bool,
    /// It elects an active replica.
    candidacy: bool,
    starts: u64,
    skew_ms: Arc<AtomicI64>,
    running: Option<(Arc<Gate>, JoinHandle<()>)>,
}

impl Controller {
    /// A controller that is not yet started.
    pub fn new(cluster: Arc<Cluster>, link: Link, name: String, (whole_cluster, candidacy): (bool, bool)) -> Self {
        let (link, skew_ms) = (Arc::new(link), Arc::default());
        Self { cluster, link, name, whole_cluster, candidacy, starts: 0, skew_ms, running: None }
    }

    /// Its campaign against the other replicas, on the world's clock.
    fn candidacy(&self) -> Option<Candidacy> {
        let number = u32::try_from(self.starts).unwrap_or(u32::MAX);
        let (moment, wall) = (self.cluster.clone(), self.cluster.clone());
        self.candidacy.then(|| Candidacy {
            namespace: NAMESPACE.into(),
            name: OWN_LEASE.into(),
            identity: Identity::of_process(&self.name, "machine", number, self.starts),
            timing: TIMING,
            clock: Clock::new(move || Moment::after(moment.runs()), move || wall.now()),
        })
    }

    /// Starts it unless it runs.
    pub fn start(&mut self) {
        if self.running.is_some() {
            return;
        }
        self.cluster.log(&self.name, "starts");
        self.starts += 1;
        let gate = Arc::new(Gate::default());
        let client = self.link.client();
        let label_keys = LabelKeys::new(["leader".into(), "*/leader".into()]);
        let own_lease = self.candidacy.then(|| (NAMESPACE.into(), OWN_LEASE.into()));
        let limits = Limits { label_keys, own_lease };
        let server = Stoppable { server: KubeServer::new(client.clone(), limits.clone()), gate: gate.clone() };
        let scope = if self.whole_cluster { Scope::Cluster } else { Scope::Namespaces([NAMESPACE.into()].into()) };
        let (cluster, skew) = (self.cluster.clone(), self.skew_ms.clone());
        let clock = Arc::new(move || {
            let skew = SignedDuration::from_millis(skew.load(Ordering::Relaxed));
            cluster.now().saturating_add(skew).unwrap_or_else(|_| cluster.now())
        });
        let options = Options { scope, limits, instance: self.name.clone(), clock, candidacy: self.candidacy(), http: None };
        let cluster = self.cluster.clone();
        let name = self.name.clone();
        let run = run_through(server, client, options, std::future::pending());
        let run = async move {
            let ended = run.await;
            cluster.log(&name, format_args!("ended by itself: {ended:?}"));
        };
        let run = tokio::spawn(Stopped { inner: Box::pin(run), gate: gate.clone() });
        self.running = Some((gate, run));
    }

    /// Kills it. Its requests in flight may arrive.
    pub fn kill(&mut self) {
        if let Some((gate, run)) = self.running.take() {
            self.cluster.log(&self.name, "is killed");
            run.abort();
            // Its tasks outside of `run` stop as well.
            gate.kill();
        }
    }

    /// Kills it, or starts it.
    pub fn kill_or_start(&mut self) {
        if self.running.is_some() { self.kill() } else { self.start() }
    }

    /// Pauses or resumes it.
    pub fn stop(&self, stopped: bool) {
        if let Some((gate, _)) = &self.running {
            self.cluster.log(&self.name, if stopped { "is stopped" } else { "goes on" });
            gate.set(stopped);
        }
    }

    /// Pauses it, or resumes a paused one.
    pub fn stop_or_go_on(&self) {
        let stopped = self.running.as_ref().is_some_and(|(gate, _)| lock(&gate.0).0);
        self.stop(!stopped);
    }

    /// Sets the error of its wall clock.
    pub fn skew(&self, milliseconds: i64) {
        self.cluster.log(&self.name, format_args!("its clock is {milliseconds} ms off"));
        self.skew_ms.store(milliseconds, Ordering::Relaxed);
    }

    /// Returns whether it ended without being killed, which must not happen.
    pub fn has_ended(&self) -> bool {
        self.running.as_ref().is_some_and(|(_, run)| run.is_finished())
    }
}

/// Lets a controller run, or pauses it.
#[derive(Default)]
pub struct Gate(Mutex<(bool, Vec<Waker>)>);

impl Gate {
    /// Keeps all tasks from running again.
    fn kill(&self) {
        let mut state = lock(&self.0);
        (state.0, state.1) = (true, Vec::new());
    }

    fn set(&self, closed: bool) {
        let mut state = lock(&self.0);
        state.0 = closed;
        if !closed {
            state.1.drain(..).for_each(Waker::wake);
        }
    }
}

/// A task that is not polled while its controller is paused.
struct Stopped<F> {
    inner: Pin<Box<F>>,
    gate: Arc<Gate>,
}

impl<F: Future> Future for Stopped<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let mut state = lock(&self.gate.0);
        if state.0 {
            state.1.push(context.waker().clone());
            return Poll::Pending;
        }
        drop(state);
        self.inner.as_mut().poll(context)
    }
}

/// The production server, for a controller that can be paused.
struct Stoppable {
    server: KubeServer,
    gate: Arc<Gate>,
}

impl ApiServer for Stoppable {
    async fn write(&self, namespace: &str, write: Write) -> Result<Option<Named>, Refusal> {
        self.server.write(namespace, write).await
    }

    async fn read(&self, namespace: &str, read: Read) -> Result<Vec<Named>, Refusal> {
        self.server.read(namespace, read).await
    }

    async fn serves_elections(&self) -> Result<bool, Refusal> {
        self.server.serves_elections().await
    }

    fn around(&self, task: impl Future<Output = ()> + Send + 'static) -> impl Future<Output = ()> + Send + 'static {
        Stopped { inner: Box::pin(task), gate: self.gate.clone() }
    }
}
