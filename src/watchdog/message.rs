//! What the sidecar and its watchdog tell each other: one line of JSON each.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use podium_campaign::Moment;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::options::{CommandStatus, WatchdogOptions};

/// The longest line: more than any command line that the kernel takes, as the bytes of it are written.
pub(super) const LONGEST: usize = 16 << 20;

/// What the sidecar tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum ToWatchdog {
    /// The first message, once. The standard input of the command comes with it.
    Configure(Config),
    /// This pod leads.
    Lead {
        /// Until then, in nanoseconds of `CLOCK_BOOTTIME`; `None`: without an end. Never moves a deadline to an earlier time.
        until: Option<u64>,
        term: Option<u64>,
        /// Counts the runs of the command. What has ended, or was withdrawn, does not begin again in the same turn, so that a
        /// renewal that crosses the news of the end revives nothing. A new turn only after the end of the last one was told.
        turn: u64,
    },
    /// This turn is over: the file goes, then the command within this many milliseconds.
    Withdraw { grace: u64 },
    /// What is being ended has no more time than this many milliseconds: the pod does not lead any more.
    ShortenGrace { grace: u64 },
    /// This signal is for the command's process group.
    Signal(i32),
}

/// What the watchdog tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum FromWatchdog {
    /// There is no file of a former life, and whatever comes can be kept.
    Ready,
    /// The command runs as this process and process group.
    Started { pid: i32 },
    /// Nothing of the command lives.
    Ended {
        status: CommandStatus,
        /// The watchdog had begun to stop it.
        stopped: bool,
    },
    /// The file is gone, and nothing of the command lives.
    Withdrawn,
    /// For people: something that the watchdog goes on trying.
    Trouble(String),
    /// The watchdog cannot do its options, and ends. For people: why, and the remedy.
    Failed { sentence: String, why: FailureKind },
}

/// What the watchdog failed at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum FailureKind {
    File,
    CommandNotFound,
    CommandNotExecutable,
    Other,
}

/// The watchdog's part of a [`WatchdogOptions`]. Paths and arguments need not be UTF-8.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Config {
    pub identity: String,
    file: Option<Vec<u8>>,
    pub command: Option<CommandConfig>,
    lateness: Duration,
}

/// The command to be run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct CommandConfig {
    argv: Vec<Vec<u8>>,
    pub lock: String,
    pub grace: Duration,
}

impl Config {
    pub fn new(options: &WatchdogOptions) -> Self {
        let WatchdogOptions { program: _, identity, file, command, lateness } = options;
        let command = command.as_ref().map(|command| CommandConfig {
            argv: command.argv.iter().map(|argument| argument.as_bytes().to_vec()).collect(),
            lock: command.lock.clone(),
            grace: command.grace,
        });
        let file = file.as_deref().map(|file: &Path| file.as_os_str().as_bytes().to_vec());
        Self { identity: identity.clone(), file, command, lateness: *lateness }
    }

    pub fn file(&self) -> Option<PathBuf> {
        self.file.clone().map(|bytes| OsString::from_vec(bytes).into())
    }

    pub fn lateness(&self) -> Duration {
        self.lateness
    }
}

impl CommandConfig {
    pub fn argv(&self) -> Vec<OsString> {
        self.argv.iter().cloned().map(OsString::from_vec).collect()
    }
}

/// One message as it is sent.
pub(super) fn encode(message: &impl Serialize) -> std::io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    Ok(line)
}

/// One message, with or without the end of its line.
pub(super) fn decode<T: DeserializeOwned>(line: &[u8]) -> std::io::Result<T> {
    Ok(serde_json::from_slice(line)?)
}

/// A deadline as it is sent.
pub(super) fn until(moment: Moment) -> Option<u64> {
    // What does not fit is centuries away.
    u64::try_from((moment - Moment::START).as_nanos()).ok()
}

/// A deadline as it was sent.
pub(super) fn moment(until: Option<u64>) -> Moment {
    until.map_or(Moment::NEVER, |nanos| Moment::after(Duration::from_nanos(nanos)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watchdog::options::CommandOptions;

    #[test]
    fn orders_arrive_as_they_were_given_even_if_they_are_not_utf_8() {
        let options = WatchdogOptions {
            program: "/podium".into(),
            identity: "web-0".into(),
            file: Some(OsString::from_vec(vec![b'/', 0xff]).into()),
            command: Some(CommandOptions::new([OsString::from_vec(vec![0xfe, b'\n'])], "default/web/web-0")),
            lateness: Duration::from_millis(1500),
        };
        let config = ToWatchdog::Configure(Config::new(&options));
        let line = encode(&config).unwrap();
        assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1, "one line");
        let ToWatchdog::Configure(arrived) = decode(&line).unwrap() else { panic!("not config") };
        assert_eq!(arrived.file(), options.file);
        assert_eq!(arrived.lateness(), options.lateness);
        assert_eq!(arrived.command.unwrap().argv(), options.command.unwrap().argv);
    }

    #[test]
    fn deadlines_arrive_to_the_nanosecond_and_those_that_never_come_never_come() {
        for at in [Moment::START, Moment::after(Duration::from_nanos(1_234_567_890_123)), Moment::NEVER] {
            assert_eq!(moment(until(at)), at);
        }
    }

    #[test]
    fn what_is_no_message_is_refused() {
        for line in
            ["", "\n", "{}", "{\"Lead\":{}}", "{\"Signal\":\"TERM\"}", "\"Withdraw\"", "{\"Withdraw\":{\"grace\":-1}}"]
        {
            assert!(decode::<ToWatchdog>(line.as_bytes()).is_err(), "{line}");
        }
    }
}
