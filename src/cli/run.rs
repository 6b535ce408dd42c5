//! `podium run -- COMMAND`: the options of the sidecar, and how the command is run.

use std::ffi::OsString;
use std::time::Duration;

use clap::Args;
use podium::sidecar::Mode;
use podium::watchdog::{CommandOptions, Finished, WatchdogOptions};
use podium_campaign::Timing;

use super::Failure;
use super::leader_elect::duration;
use super::sidecar::{Form, SidecarArgs, begin};

#[derive(Debug, Args)]
pub struct RunArgs {
    #[command(flatten)]
    sidecar: SidecarArgs,
    /// How long the command has to end, after SIGTERM, when leadership is lost. Then it is killed.
    #[arg(long, env = "PODIUM_GRACE", value_parser = duration, default_value = "3s", value_name = "DURATION")]
    grace: Duration,
    /// How long the command has to end, after SIGTERM, when this pod is terminated. It leads meanwhile. Less than the pod's
    /// terminationGracePeriodSeconds.
    #[arg(long, env = "PODIUM_TERMINATION_GRACE", value_parser = duration, default_value = "25s", value_name = "DURATION")]
    termination_grace: Duration,
    /// Start the command again when leadership comes back after it was lost, instead of ending.
    #[arg(long)]
    restart: bool,
    /// Run the command also while nothing stops it on a leader that is cut off from the cluster: of an Election without
    /// heartbeats.
    #[arg(long)]
    without_heartbeats: bool,
    /// The command and its arguments. In its environment are PODIUM_NAME and, where it is known, PODIUM_TERM.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// Runs a command while this pod leads. Returns what to exit with.
pub fn run_command(args: RunArgs) -> Result<u8, Failure> {
    let RunArgs { sidecar, grace, termination_grace, restart, without_heartbeats, command } = args;
    let sidecar = sidecar.called_as(Form::Run);
    let run = Run { grace, termination_grace, restart, without_heartbeats, command };
    Ok(match begin(sidecar, Some(run))? {
        Finished::Stopped => 0,
        Finished::Ended(status) => status.exit_code(),
        Finished::Lost => {
            eprintln!("podium: leadership was lost, and the command stopped; --restart starts it again when it comes back");
            1
        }
    })
}

/// What is to be run, and how.
#[derive(Clone, Debug)]
pub struct Run {
    grace: Duration,
    termination_grace: Duration,
    restart: bool,
    /// Whether it may run in a term without heartbeats.
    pub without_heartbeats: bool,
    command: Vec<OsString>,
}

impl Run {
    /// Checks that it works in this mode, and names what it excludes.
    pub fn command_options(self, mode: Mode) -> Result<CommandOptions, String> {
        let Self { grace, termination_grace, restart: restarts, without_heartbeats, command } = self;
        match mode {
            Mode::Campaign { timing, .. } => survives_a_lost_renewal(&timing, grace)?,
            Mode::Follow if without_heartbeats => {}
            Mode::Follow => {
                return Err(
                    "an Election has no heartbeats: nobody could stop the command of a leader that is cut off from the \
                            cluster. Give --without-heartbeats if that is acceptable, or --mode campaign"
                        .into(),
                );
            }
        }
        Ok(CommandOptions { restarts, grace, termination_grace, ..CommandOptions::new(command, "") })
    }
}

/// Checks that a command can be stopped in time although one renewal is lost.
fn survives_a_lost_renewal(timing: &Timing, grace: Duration) -> Result<(), String> {
    let Timing { lease_duration, renew_deadline, retry_period } = *timing;
    // A renewal that is lost, the next one, and how long that one takes: after the last one that succeeded.
    let needed = retry_period * 3 + grace + WatchdogOptions::LATENESS;
    if renew_deadline >= needed {
        return Ok(());
    }
    let longest = renew_deadline.saturating_sub(retry_period * 3 + WatchdogOptions::LATENESS);
    Err(format!(
        "--grace {grace:?} is too long for --ttl {lease_duration:?}: a command has to be stopped before {renew_deadline:?} \
         without a renewal are over, and one lost renewal must not stop it; use at most {longest:?}, or a longer --ttl"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(without_heartbeats: bool, grace: u64) -> Run {
        let seconds = Duration::from_secs;
        let (grace, termination_grace) = (seconds(grace), seconds(25));
        Run { grace, termination_grace, restart: false, without_heartbeats, command: vec!["true".into()] }
    }

    fn campaign(timing: Timing) -> Mode {
        Mode::Campaign { lock: podium::sidecar::LockKind::Lease, timing, request_timeout: Some(timing.retry_period) }
    }

    #[test]
    fn a_command_that_could_not_be_stopped_in_time_is_refused_with_the_remedy() {
        let accepted = run(false, 3).command_options(campaign(Timing::default())).unwrap();
        assert_eq!((accepted.grace, accepted.restarts), (Duration::from_secs(3), false));
        let error = run(false, 4).command_options(campaign(Timing::default())).unwrap_err();
        assert!(error.contains("use at most 3s"), "{error}");
    }

    #[test]
    fn without_heartbeats_a_follower_runs_a_command_only_if_it_is_told_that_it_may() {
        let follow = Mode::Follow;
        let error = run(false, 3).command_options(follow).unwrap_err();
        assert!(error.contains("--without-heartbeats"), "{error}");
        assert!(run(true, 3).command_options(follow).is_ok());
    }
}
