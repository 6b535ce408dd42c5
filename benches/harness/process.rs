//! Processes that are measured: what they are started with, and what the kernel says of them.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::Result;

/// The program as it is released: benchmarks are built like it.
pub const PODIUM: &str = env!("CARGO_BIN_EXE_podium");

/// A process; killed on drop, and by the kernel if this one is killed.
pub struct Process(Child);

/// A command for [`Process`]. Whatever ends this process, what it measures must not be left to disturb the next.
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]).arg(program);
    command
}

/// What a process has in memory, in MiB.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Memory {
    /// Resident now: VmRSS.
    pub resident: f64,
    /// The most that was resident at any time: VmHWM.
    pub peak: f64,
    /// Of what is resident now, what is not shared with a file: RssAnon.
    pub own: f64,
}

impl Process {
    /// Starts what [`command`] made. What it says on stdout is thrown away, its warnings on stderr are not.
    pub fn start(command: &mut Command) -> Result<Self> {
        Self::spawn(command.stdin(Stdio::null()).stdout(Stdio::null()))
    }

    /// Starts it with the files that it was given.
    pub fn spawn(command: &mut Command) -> Result<Self> {
        Ok(Self(command.spawn()?))
    }

    /// `podium controller` with these arguments; it logs warnings only.
    pub fn controller<A: AsRef<OsStr>>(kubeconfig: &Path, arguments: &[A]) -> Result<Self> {
        let mut command = command(PODIUM);
        command.args(["controller", "--log-level", "warn"]).args(arguments).env("KUBECONFIG", kubeconfig);
        Self::start(&mut command)
    }

    /// Its number.
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// Sends it a signal: `TERM`, `KILL`.
    pub fn signal(&self, name: &str) -> Result<()> {
        // The shell's own: not every machine has the program.
        let status = Command::new("sh").args(["-c", "kill -s \"$0\" \"$1\"", name, &self.id().to_string()]).status()?;
        if status.success() { Ok(()) } else { Err(format!("no process {} for SIG{name}", self.id()).into()) }
    }

    /// Its memory; an error where it has ended.
    pub fn memory(&self) -> Result<Memory> {
        memory_of(self.id())
    }

    /// Its memory and that of the processes that it started.
    pub fn memory_of_family(&self) -> Result<Memory> {
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

    /// The processor time that it took so far, in the kernel and outside. Counted in ticks, of which there are 100 a second.
    pub fn processor_time(&self) -> Result<Duration> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.id()))?;
        // The name is in parentheses, and may have anything in it.
        let after_name = stat.rsplit_once(')').ok_or("a line without a name in /proc")?.1;
        let field = |index: usize| -> Result<u64> {
            Ok(after_name.split_whitespace().nth(index).ok_or("a short line in /proc")?.parse()?)
        };
        // utime and stime are the 14th and 15th field of the line, and two stand before what is split here.
        let ticks = field(11)? + field(12)?;
        Ok(Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The memory of a process.
pub fn memory_of(process: u32) -> Result<Memory> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let field = |name: &str| -> Result<f64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).ok_or("a process without memory")?;
        let kib: f64 = line.split_whitespace().next().ok_or("no number in /proc")?.parse()?;
        Ok(kib / 1024.0)
    };
    Ok(Memory { resident: field("VmRSS:")?, peak: field("VmHWM:")?, own: field("RssAnon:")? })
}
