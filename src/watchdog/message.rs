//! The messages between sidecar and watchdog: one line of JSON each.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use podium_campaign::Moment;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::options::{CommandStatus, WatchdogOptions};

/// The longest line: more than the longest command line of the kernel, encoded as numbers.
pub(super) const LONGEST: usize = 16 << 20;

/// A message of the sidecar.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum ToWatchdog {
    /// The first message, once. The standard input of the command is passed with it.
    Configure(Config),
    /// This pod leads.
    Lead {
        /// The deadline, in nanoseconds of `CLOCK_BOOTTIME`; `None`: unlimited. Never earlier than a former one.
        until: Option<u64>,
        term: Option<u64>,
        /// The number of the command's run. File and command do not start again in a turn that has ended or was withdrawn, so a
        /// renewal that crosses the message about the end starts nothing. A turn begins only after the end of the last one was reported.
        turn: u64,
    },
    /// The turn is over: remove the file, and end the command within this many milliseconds.
    Withdraw { grace: u64 },
    /// The pod no longer leads: what is being ended has at most this many milliseconds.
    ShortenGrace { grace: u64 },
    /// A signal for the command's process group.
    Signal(i32),
    /// Check whether the command is ready.
    Check(CheckRequest),
}

/// A check of the command. At most one runs at a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct CheckRequest {
    /// The number of the check.
    pub number: u64,
    /// A script for `sh -c`.
    pub script: Vec<u8>,
    /// The check fails after this many milliseconds.
    pub timeout: u64,
}

/// The result of a check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct CheckResult {
    /// The number of the check.
    pub number: u64,
    /// The cause of a failure.
    pub result: Result<(), String>,
}

/// A message of the watchdog.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum FromWatchdog {
    /// The watchdog is ready, and a file of a former process is removed.
    Ready,
    /// The command runs, with this PID and process group.
    Started { pid: i32 },
    /// The watchdog stops the command.
    Stopping,
    /// The result of a check.
    Checked(CheckResult),
    /// No process of the command lives.
    Ended {
        status: CommandStatus,
        /// The watchdog had stopped it.
        stopped: bool,
    },
    /// The file is removed, and no process of the command lives.
    Withdrawn,
    /// A problem that the watchdog keeps retrying.
    Problem(String),
    /// The watchdog fails and exits. The message has the remedy.
    Failed { message: String, kind: FailureKind },
}

/// The kind of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum FailureKind {
    File,
    CommandNotFound,
    CommandNotExecutable,
    Other,
}

/// The part of [`WatchdogOptions`] that the watchdog needs. Paths and arguments need not be UTF-8.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Config {
    pub identity: String,
    file: Option<Vec<u8>>,
    pub command: Option<CommandConfig>,
    lateness: Duration,
}

/// The command.
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

/// Encodes a message.
pub(super) fn encode(message: &impl Serialize) -> std::io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    Ok(line)
}

/// Decodes a message, with or without the end of its line.
pub(super) fn decode<T: DeserializeOwned>(line: &[u8]) -> std::io::Result<T> {
    Ok(serde_json::from_slice(line)?)
}

/// Encodes a deadline.
pub(super) fn until(moment: Moment) -> Option<u64> {
    // A larger number is centuries away.
    u64::try_from((moment - Moment::START).as_nanos()).ok()
}

/// Decodes a deadline.
pub(super) fn moment(until: Option<u64>) -> Moment {
    until.map_or(Moment::NEVER, |nanos| Moment::after(Duration::from_nanos(nanos)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watchdog::options::CommandOptions;

    #[test]
    fn config_is_decoded_as_it_was_encoded_even_if_it_is_not_utf_8() {
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
        let ToWatchdog::Configure(arrived) = decode(&line).unwrap() else { panic!("no config") };
        assert_eq!(arrived.file(), options.file);
        assert_eq!(arrived.lateness(), options.lateness);
        assert_eq!(arrived.command.unwrap().argv(), options.command.unwrap().argv);
    }

    #[test]
    fn deadlines_are_exact_to_the_nanosecond_and_unlimited_ones_stay_unlimited() {
        for at in [Moment::START, Moment::after(Duration::from_nanos(1_234_567_890_123)), Moment::NEVER] {
            assert_eq!(moment(until(at)), at);
        }
    }

    #[test]
    fn invalid_messages_are_rejected() {
        for line in
            ["", "\n", "{}", "{\"Lead\":{}}", "{\"Signal\":\"TERM\"}", "\"Withdraw\"", "{\"Withdraw\":{\"grace\":-1}}"]
        {
            assert!(decode::<ToWatchdog>(line.as_bytes()).is_err(), "{line}");
        }
    }
}
