//! The options of `/readyz` of `podium run`.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::time::Duration;

use clap::Args;
use podium::sidecar::{ReadinessOptions, ReadyCheck, ReadyUrl};

use super::leader_elect::duration;

#[derive(Clone, Debug, Args)]
pub struct ReadyArgs {
    /// Readiness check of the command by HTTP: it is ready while this URL answers 200 to 399. /readyz of --http reports it. Default:
    /// the command is ready while it runs.
    #[arg(long, env = "PODIUM_READY_URL", value_name = "URL")]
    ready_url: Option<String>,
    /// Readiness check of the command by a script, which `sh -c` runs: the command is ready while it exits with 0. Its output is
    /// discarded.
    #[arg(long, env = "PODIUM_READY_COMMAND", value_name = "SCRIPT")]
    ready_command: Option<OsString>,
    /// Time after the start of the command in which /readyz answers 200 until the first check has succeeded. Stops nothing.
    #[arg(long, env = "PODIUM_STARTUP_TIMEOUT", value_parser = duration, default_value = "60s", value_name = "DURATION")]
    startup_timeout: Duration,
    /// Time between two readiness checks.
    #[arg(long, env = "PODIUM_READY_INTERVAL", value_parser = duration, default_value = "2s", value_name = "DURATION")]
    ready_interval: Duration,
    /// Time after which a readiness check has failed.
    #[arg(long, env = "PODIUM_READY_TIMEOUT", value_parser = duration, default_value = "1s", value_name = "DURATION")]
    ready_timeout: Duration,
}

impl ReadyArgs {
    /// Checks the options.
    pub fn options(self) -> Result<ReadinessOptions, String> {
        let Self { ready_url, ready_command, startup_timeout, ready_interval: interval, ready_timeout: timeout } = self;
        let url = ready_url.filter(|url| !url.is_empty());
        let script = ready_command.filter(|script| !script.is_empty());
        let check = match (url, script) {
            (None, None) => None,
            (Some(url), None) => {
                let parsed = url.parse::<ReadyUrl>().map_err(|error| format!("--ready-url {url}: {error}"))?;
                Some(ReadyCheck::Url(parsed))
            }
            (None, Some(script)) => Some(ReadyCheck::Command(script.into_vec())),
            (Some(_), Some(_)) => {
                return Err("--ready-url and --ready-command must not be used together: the command has one check".into());
            }
        };
        for (option, value) in [("--ready-interval", interval), ("--ready-timeout", timeout)] {
            if value < Duration::from_millis(1) {
                return Err(format!("{option} {value:?} is too short: must be at least 1ms"));
            }
        }
        Ok(ReadinessOptions { check, startup_timeout, interval, timeout })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        ready: ReadyArgs,
    }

    fn options(line: &str) -> Result<ReadinessOptions, String> {
        let line = Line::try_parse_from(std::iter::once("podium").chain(line.split_whitespace()));
        line.map_err(|error| error.to_string())?.ready.options()
    }

    #[test]
    fn command_is_checked_every_two_seconds_for_one_and_has_a_minute_to_start() {
        let seconds = Duration::from_secs;
        let defaults =
            ReadinessOptions { check: None, startup_timeout: seconds(60), interval: seconds(2), timeout: seconds(1) };
        assert_eq!(options(""), Ok(defaults.clone()));
        let script = Some(ReadyCheck::Command(b"true".to_vec()));
        assert_eq!(options("--ready-command true"), Ok(ReadinessOptions { check: script.clone(), ..defaults }));
        let given = options("--ready-command true --startup-timeout 0s --ready-interval 5s --ready-timeout 500ms");
        let (startup_timeout, interval, timeout) = (seconds(0), seconds(5), Duration::from_millis(500));
        assert_eq!(given, Ok(ReadinessOptions { check: script, startup_timeout, interval, timeout }));
        let url = options("--ready-url http://localhost:8080/healthz").unwrap();
        assert!(matches!(url.check, Some(ReadyCheck::Url(_))), "{url:?}");
        assert_eq!(options("--ready-url= --ready-command=").unwrap().check, None, "empty variables are no check");
    }

    #[test]
    fn invalid_checks_are_rejected_with_the_remedy() {
        for (line, remedy) in [
            ("--ready-url http://localhost/ --ready-command true", "must not be used together"),
            ("--ready-url localhost:8080/healthz", "is no http:// URL"),
            ("--ready-url ftp://localhost/healthz", "must begin with http://"),
            ("--ready-url /healthz", "such as http://localhost:8080/healthz"),
            ("--ready-url https://localhost:8443/healthz", "https is not supported"),
            ("--ready-url http://user:secret@localhost/", "must not have a user name"),
            ("--ready-url http://localhost:port/", "--ready-url http://localhost:port/"),
            ("--ready-url http://localhost:99999/", "a port"),
            ("--ready-interval 0s", "--ready-interval 0ns is too short"),
            ("--ready-timeout 0s", "--ready-timeout 0ns is too short"),
            ("--startup-timeout soon", "such as 15s"),
        ] {
            let error = options(line).unwrap_err();
            assert!(error.contains(remedy), "{line}: {error}");
        }
    }
}
