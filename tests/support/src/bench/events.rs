//! Leader names from a sidecar's `/events`, with their times of arrival.

use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::Result;
use crate::waiting::eventually_within;

/// Bound on every wait of a benchmark.
const DEADLINE: Duration = Duration::from_secs(120);

/// Leader names that a sidecar sends, with their times of arrival.
pub struct LeaderEvents(mpsc::UnboundedReceiver<(Instant, String)>);

impl LeaderEvents {
    /// Connects to the sidecar at this address. Waits until it listens.
    pub async fn by(address: &str) -> Result<Self> {
        let connect = async || TcpStream::connect(address).await.map_err(|error| error.to_string());
        let stream = eventually_within(DEADLINE, "the sidecar listens", connect).await;
        let (reading, mut writing) = stream.into_split();
        writing.write_all(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n").await?;
        let (sender, receiver) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            let _open = writing;
            let mut lines = BufReader::new(reading).lines();
            while let Some(name) = next_name(&mut lines).await {
                if sender.send((Instant::now(), name)).is_err() {
                    return;
                }
            }
        });
        Ok(Self(receiver))
    }

    /// Drops everything that has arrived.
    pub fn forget(&mut self) {
        while self.0.try_recv().is_ok() {}
    }

    /// Waits for the first name that satisfies the condition. Returns its time of arrival.
    pub async fn first(&mut self, satisfies: impl Fn(&str) -> bool) -> Result<Instant> {
        let found = async {
            while let Some((arrived, name)) = self.0.recv().await {
                if satisfies(&name) {
                    return Ok(arrived);
                }
            }
            Err("the sidecar closed /events".into())
        };
        timeout(DEADLINE, found).await?
    }
}

/// Returns the name in the next event, or `None` at the end of the connection.
async fn next_name(lines: &mut Lines<BufReader<OwnedReadHalf>>) -> Option<String> {
    while let Ok(Some(line)) = lines.next_line().await {
        let Some(data) = line.strip_prefix("data: ") else { continue };
        let event: Value = serde_json::from_str(data).ok()?;
        return event["name"].as_str().map(str::to_owned);
    }
    None
}
