//! Signals that are forwarded to the command.

use std::future::poll_fn;
use std::io;
use std::task::Poll;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals for the command.
#[derive(Debug, Default)]
pub(super) struct ForwardedSignals {
    signals: Vec<(i32, Signal)>,
}

impl ForwardedSignals {
    /// Receives the signals, which then have no other effect on this process.
    ///
    /// # Errors
    /// They cannot be received.
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

    /// Returns the next signal. Never completes if none is received.
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
