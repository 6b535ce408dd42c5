//! The nomination of a process for a lock whose holder is nominated, as its campaign learns of it.

use std::sync::Arc;

use tokio::sync::{Notify, watch};

use super::clock::Moment;

/// Whether a process is nominated, as a read from the server showed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nomination {
    /// The nominating object named this process.
    pub is_nominated: bool,
    /// A moment before the request was sent.
    pub asked: Moment,
}

/// What a campaign of a nominated process needs to know. For [`Campaign::nominated_by`](crate::Campaign::nominated_by).
#[derive(Clone, Debug)]
pub struct Nominations {
    /// The last nomination. `None`: none was read yet.
    pub nomination: watch::Receiver<Option<Nomination>>,
    /// The campaign asks for a nomination that is read from now on.
    pub wanted: Arc<Notify>,
    /// The work of this process may go on, whether it leads or not. The lock is not released meanwhile.
    pub works: watch::Receiver<bool>,
}

impl Nominations {
    /// Completes when the nomination or the work changes.
    pub(super) async fn changed(&mut self) {
        let Self { nomination, wanted: _, works } = self;
        let ended = tokio::select! {
            changed = nomination.changed() => changed.is_err(),
            changed = works.changed() => changed.is_err(),
        };
        if ended {
            // Nobody reports any more: the last state stands.
            std::future::pending::<()>().await;
        }
    }
}
