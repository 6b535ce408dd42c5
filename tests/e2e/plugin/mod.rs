//! The commands of `kubectl podium`.

mod change;
mod permissions;
mod show;

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use crate::harness::Scenario;

/// What a command printed, and its exit code.
#[derive(Debug)]
struct Ran {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Ran {
    /// Returns what it printed to stdout.
    fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.stdout
    }

    fn json(self) -> Value {
        serde_json::from_str(&self.ok()).expect("JSON")
    }

    /// Returns its error, which is one line.
    fn failed(self) -> String {
        assert_eq!((self.code, self.stdout.as_str()), (Some(1), ""), "{self:?}");
        let error = self.stderr.lines().last().unwrap_or_default().to_owned();
        assert!(error.starts_with("podium: "), "{self:?}");
        error
    }
}

/// A command for the test's namespace with this kubeconfig, in the environment of no other cluster.
fn command(world: &Scenario, kubeconfig: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_podium"));
    command.args(arguments).args(["--namespace", &world.namespace]).env_clear().env("KUBECONFIG", kubeconfig);
    command
}

/// Runs a command as an administrator.
fn run(world: &Scenario, arguments: &[&str]) -> Ran {
    run_as(world, &world.kubeconfig("plugin"), arguments)
}

/// Runs a command with this kubeconfig.
fn run_as(world: &Scenario, kubeconfig: &Path, arguments: &[&str]) -> Ran {
    ran(&command(world, kubeconfig, arguments).output().expect("podium runs"))
}

fn ran(output: &Output) -> Ran {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ran { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
}
