//! A lock in memory whose server misbehaves as configured.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::stream::{BoxStream, StreamExt};
use tokio::sync::broadcast;

use super::*;

/// The behavior of the server.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Behavior {
    Normal,
    /// Requests are neither applied nor answered.
    Unresponsive,
    /// Writes are applied, and not answered.
    ResponseLost,
    Denied,
    /// Writes are stored without their holder, and succeed.
    Altered,
    /// Writes succeed, and nothing is stored.
    Ignored,
}

pub struct State {
    pub lock: Option<LockState<()>>,
    revision: u64,
    behavior: Behavior,
    requests: u32,
}

/// A lock in memory, shared by its campaigners.
#[derive(Clone)]
pub struct MemoryLock {
    pub state: Arc<Mutex<State>>,
    pub changes: broadcast::Sender<Option<LockState<()>>>,
    watched: bool,
}

impl MemoryLock {
    pub fn new(watched: bool) -> Self {
        let state = State { lock: None, revision: 0, behavior: Behavior::Normal, requests: 0 };
        Self { state: Arc::new(Mutex::new(state)), changes: broadcast::channel(64).0, watched }
    }

    pub fn behavior(&self, behavior: Behavior) {
        self.state.lock().unwrap().behavior = behavior;
    }

    /// A lock that was released.
    pub fn release(&self) {
        let record = LeaderElectionRecord { released_by: Some("nobody".into()), ..LeaderElectionRecord::default() };
        let version = ObjectVersion { uid: "uid".into(), resource_version: "1".into() };
        let mut state = self.state.lock().unwrap();
        state.revision = 1;
        state.lock = Some(LockState { record, version, claimed_by: None, parts: Vec::new(), object: () });
    }

    pub fn holder(&self) -> String {
        self.state.lock().unwrap().lock.as_ref().map(|seen| seen.record.holder.clone()).unwrap_or_default()
    }

    pub fn requests(&self) -> u32 {
        self.state.lock().unwrap().requests
    }

    async fn request(&self) -> Result<Behavior, LockError> {
        let behavior = {
            let mut state = self.state.lock().unwrap();
            state.requests += 1;
            state.behavior
        };
        match behavior {
            Behavior::Unresponsive => std::future::pending().await,
            Behavior::Denied => Err(LockError::Denied("grant the permission".into())),
            behavior => Ok(behavior),
        }
    }

    async fn write(&self, guard: Option<ObjectVersion>, record: LeaderElectionRecord) -> Result<LockState<()>, LockError> {
        let behavior = self.request().await?;
        let written = {
            let mut state = self.state.lock().unwrap();
            if state.lock.as_ref().map(|seen| seen.version.clone()) != guard {
                return Err(LockError::Conflict("another version".into()));
            }
            if let (Behavior::Ignored, Some(lock)) = (behavior, &state.lock) {
                return Ok(lock.clone());
            }
            let record = if behavior == Behavior::Altered {
                LeaderElectionRecord { holder: String::new(), ..record }
            } else {
                record
            };
            state.revision += 1;
            let version = ObjectVersion { uid: "uid".into(), resource_version: state.revision.to_string() };
            let seen = LockState { record, version, claimed_by: None, parts: Vec::new(), object: () };
            state.lock = Some(seen.clone());
            seen
        };
        let _ = self.changes.send(Some(written.clone()));
        if behavior == Behavior::ResponseLost { std::future::pending().await } else { Ok(written) }
    }
}

impl Lock for MemoryLock {
    type Object = ();

    const TICK: Duration = Duration::from_micros(1);

    fn describe(&self) -> String {
        "Lease default/test".into()
    }

    async fn get(&self) -> Result<Option<LockState<()>>, LockError> {
        self.request().await?;
        Ok(self.state.lock().unwrap().lock.clone())
    }

    async fn create(&self, record: LeaderElectionRecord) -> Result<LockState<()>, LockError> {
        self.write(None, record).await
    }

    async fn update(&self, seen: LockState<()>, record: LeaderElectionRecord) -> Result<LockState<()>, LockError> {
        self.write(Some(seen.version), record).await
    }

    fn changes(&self) -> BoxStream<'static, Option<LockState<()>>> {
        if !self.watched {
            return futures::stream::pending().boxed();
        }
        let changes = self.changes.subscribe();
        futures::stream::unfold(changes, |mut changes| async move { Some((changes.recv().await.ok()?, changes)) }).boxed()
    }
}
