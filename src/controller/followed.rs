//! Wakes the Elections whose followed Lease may have expired: silence has no event.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::observe::world::Changes;
use super::server::ApiServer;
use super::shared::Shared;

/// The longest time between two looks: a Lease that is observed meanwhile may expire earlier than those known before.
const LONGEST: Duration = Duration::from_secs(1);

/// Queues these Elections until the end of the process.
pub async fn expire<S: ApiServer>(shared: Arc<Shared<S>>) {
    loop {
        let (affected, next) = shared.world().expired(Instant::now());
        shared.queue(Changes { affected, ..Changes::default() });
        let latest = Instant::now() + LONGEST;
        sleep_until(next.map_or(latest, |next| next.min(latest))).await;
    }
}
