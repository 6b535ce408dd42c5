//! Starts sidecars, and observes their files and processes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::sidecar::{SPEC, Spec};

/// The timeout of steps without a guaranteed time. The machine may be busy.
pub const TIMEOUT: Duration = Duration::from_secs(60);

/// A shell, a child of it that ignores SIGTERM, and a process that has left the process group, lost its parent, and ignores SIGTERM.
/// Each writes its PID.
pub const FAMILY: &str = r#"
trap 'echo >> $D/terminated; exit 7' TERM
sh -c 'trap "" TERM; echo $$ > $D/stubborn; exec sleep 1000' &
setsid sh -c 'sh -c '\''trap "" TERM; echo $$ > $D/strayed; exec sleep 1000'\'' &'
echo $$ > $D/main
while :; do sleep 0.05; done
"#;
pub const MEMBERS: [&str; 3] = ["main", "stubborn", "strayed"];

/// A directory, removed on drop.
#[derive(Debug)]
pub struct Dir(pub PathBuf);

impl Dir {
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("podium-watchdog-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let dir = std::env::temp_dir().join(name);
        fs::create_dir(&dir).unwrap();
        Self(dir)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub fn read(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.path(name)).ok()
    }

    pub fn write(&self, name: &str) {
        fs::write(self.path(name), "").unwrap();
    }

    pub fn remove(&self, name: &str) {
        fs::remove_file(self.path(name)).unwrap();
    }

    /// Waits for the process that writes its PID to this file.
    pub fn process(&self, name: &str) -> ProcessId {
        ProcessId(eventually(name, || self.read(name)?.strip_suffix('\n')?.parse().ok()))
    }

    /// Waits for all processes of [`FAMILY`].
    pub fn family(&self) -> Vec<ProcessId> {
        MEMBERS.map(|name| self.process(name)).to_vec()
    }

    /// Returns the script, with `$D` for this directory.
    pub fn shell(&self, script: &str) -> Vec<String> {
        ["sh", "-c", &format!("export D='{}'; {script}", self.0.display())].map(Into::into).to_vec()
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A process, by its PID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessId(pub i32);

impl ProcessId {
    pub fn lives(self) -> bool {
        stat(self.0).is_some_and(|(state, _)| !matches!(state.as_str(), "Z" | "X"))
    }

    pub fn signal(self, signal: Signal) {
        // It may have ended.
        let _ = kill_process(Pid::from_raw(self.0).unwrap(), signal);
    }

    /// Returns the children of this process.
    pub fn children(self) -> Vec<Self> {
        let entries = fs::read_dir("/proc").unwrap().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.filter(|pid| stat(*pid).is_some_and(|(_, parent)| parent == self.0)).map(Self).collect()
    }

    /// Waits for its watchdog.
    pub fn watchdog(self) -> Self {
        let is_watchdog = |process: &Self| {
            fs::read(format!("/proc/{}/cmdline", process.0)).is_ok_and(|line| line.ends_with(b"\0watchdog\0"))
        };
        eventually("a watchdog", || self.children().into_iter().find(is_watchdog))
    }
}

/// Returns state and parent.
pub fn stat(pid: i32) -> Option<(String, i32)> {
    let line = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = line.rsplit_once(')')?.1.split_ascii_whitespace();
    Some((fields.next()?.into(), fields.next()?.parse().ok()?))
}

/// A sidecar, killed on drop.
#[derive(Debug)]
pub struct Sidecar {
    child: Child,
}

impl Sidecar {
    pub fn start(spec: &Spec) -> Self {
        Self::start_with(spec, Stdio::null(), None)
    }

    /// Starts the sidecar under another program, such as `unshare`.
    pub fn start_with(spec: &Spec, stdin: impl Into<Stdio>, under: Option<&[&str]>) -> Self {
        let own = std::env::current_exe().unwrap();
        let mut command = match under {
            Some([program, arguments @ ..]) => {
                let mut command = Command::new(program);
                command.args(arguments).arg(own);
                command
            }
            _ => Command::new(own),
        };
        command.args(["--ignored", "--exact", "sidecar_process", "--nocapture"]);
        command.env(SPEC, serde_json::to_string(spec).unwrap());
        let log = fs::File::create(spec.dir.join("log")).unwrap();
        Self { child: command.stdin(stdin).stdout(Stdio::null()).stderr(log).spawn().unwrap() }
    }

    pub fn process(&self) -> ProcessId {
        ProcessId(self.child.id().try_into().unwrap())
    }

    pub fn signal(&self, signal: Signal) {
        self.process().signal(signal);
    }

    /// Waits for the exit code.
    pub fn code(&mut self) -> i32 {
        self.status().code().expect("it exits")
    }

    pub fn status(&mut self) -> ExitStatus {
        eventually("the sidecar's end", || self.child.try_wait().unwrap())
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        // The watchdog ends file and command.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits for a value.
pub fn eventually<T>(what: &str, mut value: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = value() {
            return found;
        }
        assert!(begun.elapsed() < TIMEOUT, "{what}: not within {TIMEOUT:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits for a condition.
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    eventually(what, || condition().then_some(()));
}

/// Returns whether this program works on this machine; reports a skipped test otherwise.
pub fn can(test: &str, program: &[&str]) -> bool {
    let (name, arguments) = program.split_first().unwrap();
    let done = Command::new(name).args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status();
    let can = done.is_ok_and(|status| status.success());
    if !can {
        eprintln!("skipped: {test}: `{}` does not work here", program.join(" "));
    }
    can
}

/// Returns the content of a file, and its permissions.
pub fn content_and_mode(path: &Path) -> Option<(String, u32)> {
    use std::os::unix::fs::PermissionsExt;
    let mode = fs::metadata(path).ok()?.permissions().mode() & 0o777;
    Some((fs::read_to_string(path).ok()?, mode))
}
