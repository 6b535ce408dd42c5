//! A server in front of the API server that injects a fault at one write of a controller: the controller dies or hangs,
//! loses the response, or another client changes the object, before or after the write. It records all writes.

use std::fmt::Debug;
use std::future::pending;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Instant;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Patch, PatchParams};
use kube::core::NamespaceResourceScope;
use kube::{Api, Client, Resource, ResourceExt};
use podium::api::Election;
use podium::controller::kube_server::KubeServer;
use podium::controller::observe::cached::Named;
use podium::controller::server::{ApiServer, Read, Refusal, Write};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::watch;

/// A fault at a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The controller dies and loses its memory.
    Die(Side),
    /// The controller hangs, as under SIGSTOP, until it is resumed.
    Hang(Side),
    /// The controller gets no response.
    Lose(Side),
    /// Another client changes or creates the object right before the write.
    Edit,
}

impl Fault {
    fn side(self) -> Side {
        match self {
            Self::Die(side) | Self::Hang(side) | Self::Lose(side) => side,
            Self::Edit => Side::Before,
        }
    }
}

/// Position of a fault, relative to the write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The write is not sent, or not yet.
    Before,
    /// The write was applied.
    After,
}

/// One requested write.
#[derive(Clone, Debug)]
pub struct Noted {
    /// Verb and object: `label web-1`.
    pub what: String,
    /// The API server's response, if any.
    pub answer: Option<Answer>,
    /// The controller got its result, or no longer waits for it.
    pub over: bool,
}

/// The API server's response to a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Applied, with the object's new revision (not kept for Events).
    Applied(Option<i64>),
    /// No change.
    Unchanged,
    /// The object had changed since it was read.
    Outdated(String),
    /// Rejected for another reason.
    Refused(String),
}

/// Controls the faults.
pub struct Control {
    state: Mutex<State>,
    resumed: Condvar,
    changed: watch::Sender<()>,
}

#[derive(Default)]
struct State {
    /// Number of the write, 0 being the next one, and its fault. Outdated writes do not count, because they are retried.
    plan: Option<(usize, Fault)>,
    /// The write with the fault.
    struck: Option<usize>,
    noted: Vec<Noted>,
    /// Number of writes before it was armed.
    before: usize,
    /// Revisions of other clients' changes.
    edits: Vec<i64>,
    reached: Option<Instant>,
    dead: bool,
    hung: bool,
}

impl Noted {
    /// Returns whether the object had changed since the controller read it.
    pub fn is_outdated(&self) -> bool {
        matches!(self.answer, Some(Answer::Outdated(_)))
    }
}

impl State {
    /// Writes since it was armed.
    fn counted(&self) -> &[Noted] {
        &self.noted[self.before..]
    }
}

impl Control {
    /// No fault, and no recorded writes.
    pub fn new() -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), resumed: Condvar::new(), changed: watch::Sender::new(()) })
    }

    /// Counts writes from 0, and injects the fault at this one.
    pub fn arm(&self, plan: Option<(usize, Fault)>) {
        let mut state = self.lock();
        state.before = state.noted.len();
        (state.plan, state.struck) = (plan, None);
    }

    pub fn struck(&self) -> Option<Noted> {
        let state = self.lock();
        state.struck.map(|number| state.noted[number].clone())
    }

    /// Time of the fault.
    pub fn reached(&self) -> Option<Instant> {
        self.lock().reached
    }

    /// Number of outdated writes since it was armed, before a fault: another client had changed the object.
    pub fn outdated(&self) -> usize {
        let state = self.lock();
        let end = state.struck.unwrap_or(state.noted.len());
        state.noted[state.before..end].iter().filter(|noted| noted.is_outdated()).count()
    }

    /// Writes since it was armed.
    pub fn noted(&self) -> Vec<Noted> {
        self.lock().counted().to_vec()
    }

    /// Revisions of other clients' changes.
    pub fn edits(&self) -> Vec<i64> {
        self.lock().edits.clone()
    }

    /// Resumes a hanging controller.
    pub fn resume(&self) {
        self.lock().hung = false;
        self.resumed.notify_all();
    }

    /// Completes when the controller must die.
    pub async fn death(&self) {
        self.wait(|state| state.dead).await;
    }

    /// Completes when the recorded writes satisfy this.
    pub async fn until(&self, enough: impl Fn(&[Noted]) -> bool) {
        self.wait(|state| enough(state.counted())).await;
    }

    /// Completes after the fault.
    pub async fn fault(&self) {
        self.wait(|state| state.reached.is_some()).await;
    }

    /// Completes when the controller has the result of the write with the fault.
    pub async fn over(&self) {
        self.wait(|state| state.struck.is_some_and(|number| state.noted[number].over)).await;
    }

    async fn wait(&self, enough: impl Fn(&State) -> bool) {
        let mut changed = self.changed.subscribe();
        while !enough(&self.lock()) {
            // `self` owns the sender.
            let _ = changed.changed().await;
        }
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.lock());
        self.changed.send_replace(());
        result
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Blocks the thread, with all of the controller: its watches, timers and other requests.
    fn hang(&self) {
        self.change(|state| (state.hung, state.reached) = (true, Some(Instant::now())));
        let state = self.lock();
        let _going_on =
            self.resumed.wait_while(state, |state| state.hung).unwrap_or_else(std::sync::PoisonError::into_inner);
    }

    /// Records the write. Returns its number and fault; `None`: the controller is dead.
    fn begin(&self, what: String) -> Option<(usize, Option<Fault>)> {
        self.change(|state| {
            let number = state.noted.len();
            state.noted.push(Noted { what, answer: None, over: false });
            let in_time = state.noted[state.before..number].iter().filter(|noted| !noted.is_outdated()).count();
            let due = state.plan.filter(|(at, _)| *at == in_time && state.struck.is_none());
            (!state.dead).then_some((number, due.map(|(_, fault)| fault)))
        })
    }

    /// Injects the fault at this write only.
    fn strike(&self, number: usize) {
        self.change(|state| state.struck = Some(number));
    }
}

/// An API server with faults.
pub struct Faulty {
    server: KubeServer,
    people: Client,
    control: Arc<Control>,
}

impl Faulty {
    /// Other clients reach `server` by `people`.
    pub fn new(server: KubeServer, people: Client, control: Arc<Control>) -> Self {
        Self { server, people, control }
    }

    async fn send(&self, number: usize, namespace: &str, write: Write) -> Result<Option<Named>, Refusal> {
        let before = guard(&write);
        let answer = self.server.write(namespace, write).await;
        let noted = match &answer {
            Ok(None) => Answer::Applied(None),
            Ok(Some(item)) => {
                let revision = item.object.version().resource_version.to_string();
                if Some(&revision) == before.as_ref() { Answer::Unchanged } else { Answer::Applied(revision.parse().ok()) }
            }
            Err(Refusal::Outdated(message)) => Answer::Outdated(message.clone()),
            Err(refusal) => Answer::Refused(refusal.to_string()),
        };
        self.control.change(|state| state.noted[number].answer = Some(noted));
        answer
    }

    /// Simulates another client: adds an annotation, or creates the object first.
    async fn edit(&self, namespace: &str, write: &Write) {
        match write {
            Write::PatchPod { name, .. } => self.annotate::<Pod>(namespace, name).await,
            Write::PatchStatus { name, .. } => self.annotate::<Election>(namespace, name).await,
            Write::ReplaceLease(lease) => self.annotate::<Lease>(namespace, &lease.name_any()).await,
            Write::CreateLease(_) | Write::CreateEvent(_) => {
                let number = self.control.begin(what(write)).map(|(number, _)| number);
                let number = number.expect("the controller that does this is not dead");
                let _over = Over { control: &self.control, number };
                let _created = self.send(number, namespace, write.clone()).await;
            }
        }
    }

    async fn annotate<K>(&self, namespace: &str, name: &str)
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned + Debug,
    {
        let api: Api<K> = Api::namespaced(self.people.clone(), namespace);
        let edit = Patch::Merge(json!({ "metadata": { "annotations": { "e2e.example/edited": "true" } } }));
        let edited = api.patch(name, &PatchParams::default(), &edit).await.expect("it can be edited");
        let revision: Option<i64> = edited.resource_version().and_then(|version| version.parse().ok());
        self.control.change(|state| state.edits.extend(revision));
    }

    async fn die<T>(&self) -> T {
        self.control.change(|state| (state.dead, state.reached) = (true, Some(Instant::now())));
        pending().await
    }

    fn lost(&self) -> Refusal {
        self.control.change(|state| state.reached = Some(Instant::now()));
        Refusal::Unknown("the answer was lost".into())
    }
}

/// Lives as long as the controller waits for the response.
struct Over<'a> {
    control: &'a Control,
    number: usize,
}

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.control.change(|state| state.noted[self.number].over = true);
    }
}

impl ApiServer for Faulty {
    async fn write(&self, namespace: &str, write: Write) -> Result<Option<Named>, Refusal> {
        let Some((number, fault)) = self.control.begin(what(&write)) else { return pending().await };
        let _over = Over { control: &self.control, number };
        let side = fault.map(Fault::side);
        if side == Some(Side::Before) {
            self.control.strike(number);
        }
        match fault {
            Some(Fault::Die(Side::Before)) => self.die().await,
            Some(Fault::Hang(Side::Before)) => self.control.hang(),
            Some(Fault::Lose(Side::Before)) => return Err(self.lost()),
            Some(Fault::Edit) => {
                self.edit(namespace, &write).await;
                self.control.change(|state| state.reached = Some(Instant::now()));
            }
            _ => {}
        }
        let mut answer = self.send(number, namespace, write).await;
        if side == Some(Side::After) {
            // An outdated write was not applied, so the fault waits for the retry.
            if matches!(answer, Err(Refusal::Outdated(_))) {
                return answer;
            }
            self.control.strike(number);
        }
        match fault {
            Some(Fault::Die(Side::After)) => self.die().await,
            Some(Fault::Hang(Side::After)) => self.control.hang(),
            Some(Fault::Lose(Side::After)) => answer = Err(self.lost()),
            _ => {}
        }
        answer
    }

    async fn read(&self, namespace: &str, read: Read) -> Result<Vec<Named>, Refusal> {
        self.server.read(namespace, read).await
    }

    async fn serves_elections(&self) -> Result<bool, Refusal> {
        self.server.serves_elections().await
    }
}

/// Verb and object of the write.
fn what(write: &Write) -> String {
    match write {
        Write::CreateLease(_) => "create Lease".into(),
        Write::ReplaceLease(_) => "replace Lease".into(),
        Write::PatchPod { name, patch } => {
            let metadata = &patch["metadata"];
            let label = metadata["labels"].as_object().and_then(|labels| labels.values().next());
            match label {
                Some(value) if !value.is_null() => format!("label {name}"),
                Some(_) if metadata["annotations"].is_null() => format!("cleanup {name}"),
                _ => format!("fence {name}"),
            }
        }
        Write::PatchStatus { .. } => "status".into(),
        Write::CreateEvent(_) => "Event".into(),
    }
}

/// The revision that the write replaces.
fn guard(write: &Write) -> Option<String> {
    let guard = |patch: &Value| patch["metadata"]["resourceVersion"].as_str().map(str::to_owned);
    match write {
        Write::ReplaceLease(lease) => lease.resource_version(),
        Write::PatchPod { patch, .. } | Write::PatchStatus { patch, .. } => guard(patch),
        Write::CreateLease(_) | Write::CreateEvent(_) => None,
    }
}

pub fn describe(noted: &[Noted]) -> Value {
    noted.iter().map(|noted| json!(format!("{}: {:?}", noted.what, noted.answer))).collect()
}
