//! A lock in memory that answers as it is told.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::stream::{BoxStream, StreamExt};
use tokio::sync::broadcast;

use super::*;

/// How the server treats requests.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Weather {
    Fine,
    /// Requests are not answered, and not done.
    Silent,
    /// Writes are done, and not answered.
    Deaf,
    Denied,
    /// Writes are stored without their holder, and answered with success.
    Altered,
    /// Writes are answered with success, and nothing is stored.
    Kept,
}

pub struct State {
    pub lock: Option<LockState<()>>,
    revision: u64,
    weather: Weather,
    requests: u32,
}

/// A lock in memory, shared by those who campaign for it.
#[derive(Clone)]
pub struct Shared {
    pub state: Arc<Mutex<State>>,
    pub changes: broadcast::Sender<Option<LockState<()>>>,
    watched: bool,
}

impl Shared {
    pub fn new(watched: bool) -> Self {
        let state = State { lock: None, revision: 0, weather: Weather::Fine, requests: 0 };
        Self { state: Arc::new(Mutex::new(state)), changes: broadcast::channel(64).0, watched }
    }

    pub fn weather(&self, weather: Weather) {
        self.state.lock().unwrap().weather = weather;
    }

    pub fn holder(&self) -> String {
        self.state.lock().unwrap().lock.as_ref().map(|seen| seen.record.holder.clone()).unwrap_or_default()
    }

    pub fn requests(&self) -> u32 {
        self.state.lock().unwrap().requests
    }

    async fn request(&self) -> Result<Weather, LockError> {
        let weather = {
            let mut state = self.state.lock().unwrap();
            state.requests += 1;
            state.weather
        };
        match weather {
            Weather::Silent => std::future::pending().await,
            Weather::Denied => Err(LockError::Denied("grant the right".into())),
            weather => Ok(weather),
        }
    }

    async fn write(&self, guard: Option<ObjectVersion>, record: LeaderElectionRecord) -> Result<LockState<()>, LockError> {
        let weather = self.request().await?;
        let written = {
            let mut state = self.state.lock().unwrap();
            if state.lock.as_ref().map(|seen| seen.version.clone()) != guard {
                return Err(LockError::Conflict("another version".into()));
            }
            if let (Weather::Kept, Some(lock)) = (weather, &state.lock) {
                return Ok(lock.clone());
            }
            let record =
                if weather == Weather::Altered { LeaderElectionRecord { holder: String::new(), ..record } } else { record };
            state.revision += 1;
            let version = ObjectVersion { uid: "uid".into(), resource_version: state.revision.to_string() };
            let seen = LockState { record, version, claimed_by: None, parts: Vec::new(), object: () };
            state.lock = Some(seen.clone());
            seen
        };
        let _ = self.changes.send(Some(written.clone()));
        if weather == Weather::Deaf { std::future::pending().await } else { Ok(written) }
    }
}

impl Lock for Shared {
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
