//! `podium run -- COMMAND`: the options of the sidecar and of the command.

use std::ffi::OsString;
use std::time::Duration;

use clap::Args;
use podium::sidecar::{Mode, ReadinessOptions};
use podium::watchdog::{CommandOptions, Finished, WatchdogOptions};
use podium_campaign::Timing;

use super::Failure;
use super::leader_elect::duration;
use super::ready::ReadyArgs;
use super::sidecar::{Form, SidecarArgs, begin};

#[derive(Debug, Args)]
pub struct RunArgs {
    #[command(flatten)]
    sidecar: SidecarArgs,
    /// Time between SIGTERM and SIGKILL when leadership is lost.
    #[arg(long, env = "PODIUM_GRACE", value_parser = duration, default_value = "3s", value_name = "DURATION")]
    grace: Duration,
    /// Time between SIGTERM and SIGKILL when this pod is terminated. The pod keeps leading until the command has ended. Must be less
    /// than terminationGracePeriodSeconds of the pod.
    #[arg(long, env = "PODIUM_TERMINATION_GRACE", value_parser = duration, default_value = "25s", value_name = "DURATION")]
    termination_grace: Duration,
    /// Start the command again when this pod leads again after it lost leadership, instead of exiting.
    #[arg(long)]
    restart: bool,
    /// Run the command under an Election without heartbeats. Commands may overlap: a partition keeps the former leader's command
    /// running while the next leader starts its own.
    #[arg(long)]
    allow_overlap: bool,
    #[command(flatten)]
    ready: ReadyArgs,
    /// The command and its arguments. Its environment has PODIUM_NAME and, if known, PODIUM_TERM.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// Runs a command while this pod leads. Returns the exit code.
pub fn run_command(args: RunArgs) -> Result<u8, Failure> {
    let RunArgs { sidecar, grace, termination_grace, restart, allow_overlap, ready, command } = args;
    let sidecar = sidecar.called_as(Form::Run);
    let readiness = ready.options().map_err(Failure::usage)?;
    let run = Run { grace, termination_grace, restart, allow_overlap, readiness, command };
    Ok(match begin(sidecar, Some(run))? {
        Finished::Stopped => 0,
        Finished::Ended(status) => status.exit_code(),
        Finished::Lost => {
            eprintln!(
                "podium: leadership was lost and the command was stopped: use --restart to start it again when this pod leads again"
            );
            1
        }
    })
}

/// Options of a command.
#[derive(Clone, Debug)]
pub struct Run {
    grace: Duration,
    termination_grace: Duration,
    restart: bool,
    /// The command may run in a term without heartbeats.
    pub allow_overlap: bool,
    /// How `/readyz` decides.
    pub readiness: ReadinessOptions,
    command: Vec<OsString>,
}

impl Run {
    /// Checks the options for this mode.
    pub fn command_options(self, mode: Mode) -> Result<CommandOptions, String> {
        let Self { grace, termination_grace, restart: restarts, allow_overlap, readiness: _, command } = self;
        match mode {
            Mode::Campaign { timing, .. } => survives_a_lost_renewal(&timing, grace)?,
            Mode::Follow if allow_overlap => {}
            Mode::Follow => {
                return Err(
                    "an Election has no heartbeats, so nothing stops the command of a leader that a partition separates: use \
                     --allow-overlap to accept that, or --mode campaign"
                        .into(),
                );
            }
        }
        Ok(CommandOptions { restarts, grace, termination_grace, ..CommandOptions::new(command, "") })
    }
}

/// Checks that one lost renewal does not stop the command.
fn survives_a_lost_renewal(timing: &Timing, grace: Duration) -> Result<(), String> {
    let Timing { lease_duration, renew_deadline, retry_period } = *timing;
    // After the last successful renewal: a lost one, the next one, and the time that that one takes.
    let needed = retry_period * 3 + grace + WatchdogOptions::LATENESS;
    if renew_deadline >= needed {
        return Ok(());
    }
    let longest = renew_deadline.saturating_sub(retry_period * 3 + WatchdogOptions::LATENESS);
    Err(format!(
        "--grace {grace:?} must be at most {longest:?} with --ttl {lease_duration:?}: the command must have ended \
         {renew_deadline:?} after the last renewal, and one lost renewal must not stop it; use a shorter --grace or a longer --ttl"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(allow_overlap: bool, grace: u64) -> Run {
        let seconds = Duration::from_secs;
        let (grace, termination_grace) = (seconds(grace), seconds(25));
        let readiness = ReadinessOptions { check: None, startup_timeout: grace, interval: grace, timeout: grace };
        Run { grace, termination_grace, restart: false, allow_overlap, readiness, command: vec!["true".into()] }
    }

    fn campaign(timing: Timing) -> Mode {
        Mode::Campaign { lock: podium::sidecar::LockKind::Lease, timing, request_timeout: Some(timing.retry_period) }
    }

    #[test]
    fn grace_that_is_too_long_is_rejected_with_the_remedy() {
        let accepted = run(false, 3).command_options(campaign(Timing::default())).unwrap();
        assert_eq!((accepted.grace, accepted.restarts), (Duration::from_secs(3), false));
        let error = run(false, 4).command_options(campaign(Timing::default())).unwrap_err();
        assert!(error.contains("must be at most 3s"), "{error}");
    }

    #[test]
    fn follower_runs_a_command_only_if_overlaps_are_allowed() {
        let follow = Mode::Follow;
        let error = run(false, 3).command_options(follow).unwrap_err();
        assert!(error.contains("--allow-overlap"), "{error}");
        assert!(run(true, 3).command_options(follow).is_ok());
    }
}
