//! Processes under measurement: their start, and their figures from the kernel.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::Result;

/// Returns the path of `podium`, which cargo has built with the same profile as the benchmarks. It is in the parent of the
/// benchmark's directory.
pub fn podium() -> PathBuf {
    let benchmark = std::env::current_exe().expect("the path of this program");
    let directory = benchmark.parent().and_then(Path::parent).expect("the directory of the profile");
    directory.join("podium")
}

/// A process. Killed on drop, and by the kernel if this process is killed.
pub struct Process(Child);

/// Returns a command for [`Process`]. It dies with this process, so that it does not disturb the next measurement.
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]).arg(program);
    command
}

/// Memory of a process in MiB.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Memory {
    /// Resident: VmRSS.
    pub resident: f64,
    /// Peak of the resident memory: VmHWM.
    pub peak: f64,
    /// Resident and not shared with a file: RssAnon.
    pub own: f64,
}

impl Process {
    /// Starts a [`command`]. Its stdout is dropped, its warnings on stderr are not.
    pub fn start(command: &mut Command) -> Result<Self> {
        Self::spawn(command.stdin(Stdio::null()).stdout(Stdio::null()))
    }

    /// Starts a command with its own files for stdin, stdout and stderr.
    pub fn spawn(command: &mut Command) -> Result<Self> {
        Ok(Self(command.spawn()?))
    }

    /// Starts `podium controller` with these arguments. It logs only warnings.
    pub fn controller<A: AsRef<OsStr>>(kubeconfig: &Path, arguments: &[A]) -> Result<Self> {
        let mut command = command(podium());
        command.args(["controller", "--log-level", "warn"]).args(arguments).env("KUBECONFIG", kubeconfig);
        Self::start(&mut command)
    }

    /// Returns the PID.
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// Sends a signal, such as `TERM` or `KILL`.
    pub fn signal(&self, name: &str) -> Result<()> {
        // The shell's builtin: not every machine has the program.
        let status = Command::new("sh").args(["-c", "kill -s \"$0\" \"$1\"", name, &self.id().to_string()]).status()?;
        if status.success() { Ok(()) } else { Err(format!("no process {} for SIG{name}", self.id()).into()) }
    }

    /// Returns the memory, or an error if the process has ended.
    pub fn memory(&self) -> Result<Memory> {
        memory_of(self.id())
    }

    /// Returns the memory of the process and its children.
    pub fn memory_with_children(&self) -> Result<Memory> {
        let own = self.id();
        let children = std::fs::read_to_string(format!("/proc/{own}/task/{own}/children"))?;
        let mut sum = self.memory()?;
        for child in children.split_whitespace() {
            let Memory { resident, peak, own } = memory_of(child.parse()?)?;
            sum.resident += resident;
            sum.peak += peak;
            sum.own += own;
        }
        Ok(sum)
    }

    /// Returns the processor time so far, user and system. The kernel counts in ticks of 10 ms.
    pub fn processor_time(&self) -> Result<Duration> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.id()))?;
        // The name is in parentheses and may contain any character.
        let after_name = stat.rsplit_once(')').ok_or("a line without a name in /proc")?.1;
        let field = |index: usize| -> Result<u64> {
            Ok(after_name.split_whitespace().nth(index).ok_or("a short line in /proc")?.parse()?)
        };
        // utime and stime are fields 14 and 15. The first two fields are split off here.
        let ticks = field(11)? + field(12)?;
        Ok(Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Returns the memory of a process.
pub fn memory_of(process: u32) -> Result<Memory> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let field = |name: &str| -> Result<f64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).ok_or("a process without memory")?;
        let kib: f64 = line.split_whitespace().next().ok_or("no number in /proc")?.parse()?;
        Ok(kib / 1024.0)
    };
    Ok(Memory { resident: field("VmRSS:")?, peak: field("VmHWM:")?, own: field("RssAnon:")? })
}
