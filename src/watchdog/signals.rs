//! Signals that are passed on to the command.

use std::future::poll_fn;
use std::io;
use std::task::Poll;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals that are meant for the command.
#[derive(Debug, Default)]
pub(super) struct ForwardedSignals {
    signals: Vec<(i32, Signal)>,
}

impl ForwardedSignals {
    /// From now on they do nothing to this process.
    ///
    /// # Errors
    /// They cannot be listened to.
    pub fn listen() -> io::Result<Self> {
        let kinds = [
            SignalKind::hangup(),
            SignalKind::quit(),
            SignalKind::user_defined1(),
            SignalKind::user_defined2(),
            SignalKind::window_change(),
        ];
        let signals = kinds.into_iter().map(|kind| Ok((kind.as_raw_value(), signal(kind)?)));
        Ok(Self { signals: signals.collect::<io::Result<_>>()? })
    }

    /// The next one. Waits for ever if there are none to listen to.
    pub async fn next(&mut self) -> i32 {
        poll_fn(|context| {
            let arrived = self.signals.iter_mut().find_map(|(number, signal)| match signal.poll_recv(context) {
                Poll::Ready(Some(())) => Some(*number),
                _ => None,
            });
            arrived.map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }
}
