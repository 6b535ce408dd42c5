//! Starts sidecars, and looks at what they keep.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::sidecar::{SPEC, Spec};

/// How long anything may take that no timing is promised for. The machine may be busy.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A shell, a child of it that ignores SIGTERM, and a process that has left the process group and lost its parent, and
/// ignores SIGTERM, too. Each writes its number.
pub const FAMILY: &str = r#"
trap 'echo >> $D/terminated; exit 7' TERM
sh -c 'trap "" TERM; echo $$ > $D/stubborn; exec sleep 1000' &
setsid sh -c 'sh -c '\''trap "" TERM; echo $$ > $D/strayed; exec sleep 1000'\'' &'
echo $$ > $D/main
while :; do sleep 0.05; done
"#;
pub const MEMBERS: [&str; 3] = ["main", "stubborn", "strayed"];

/// A directory that goes when it is dropped.
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

    /// The process that wrote its number there, when it has.
    pub fn process(&self, name: &str) -> Process {
        Process(eventually(name, || self.read(name)?.strip_suffix('\n')?.parse().ok()))
    }

    /// All members of the family, when all are there.
    pub fn family(&self) -> Vec<Process> {
        MEMBERS.map(|name| self.process(name)).to_vec()
    }

    /// The script with `$D` for this directory.
    pub fn shell(&self, script: &str) -> Vec<String> {
        ["sh", "-c", &format!("export D='{}'; {script}", self.0.display())].map(Into::into).to_vec()
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A process, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process(pub i32);

impl Process {
    pub fn lives(self) -> bool {
        stat(self.0).is_some_and(|(state, _)| !matches!(state.as_str(), "Z" | "X"))
    }

    pub fn signal(self, signal: Signal) {
        // It may be gone.
        let _ = kill_process(Pid::from_raw(self.0).unwrap(), signal);
    }

    /// The children of this process.
    pub fn children(self) -> Vec<Self> {
        let entries = fs::read_dir("/proc").unwrap().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.filter(|pid| stat(*pid).is_some_and(|(_, parent)| parent == self.0)).map(Self).collect()
    }

    /// Its watchdog, when there is one.
    pub fn watchdog(self) -> Self {
        let is_watchdog = |process: &Self| {
            fs::read(format!("/proc/{}/cmdline", process.0)).is_ok_and(|line| line.ends_with(b"\0watchdog\0"))
        };
        eventually("a watchdog", || self.children().into_iter().find(is_watchdog))
    }
}

/// State and parent.
pub fn stat(pid: i32) -> Option<(String, i32)> {
    let line = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = line.rsplit_once(')')?.1.split_ascii_whitespace();
    Some((fields.next()?.into(), fields.next()?.parse().ok()?))
}

/// A sidecar that is ended when it is dropped.
#[derive(Debug)]
pub struct Sidecar {
    child: Child,
}

impl Sidecar {
    pub fn start(spec: &Spec) -> Self {
        Self::start_with(spec, Stdio::null(), None)
    }

    /// Under another program, such as `unshare`, if one is named.
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

    pub fn process(&self) -> Process {
        Process(self.child.id().try_into().unwrap())
    }

    pub fn signal(&self, signal: Signal) {
        self.process().signal(signal);
    }

    /// The exit code, when it has ended.
    pub fn code(&mut self) -> i32 {
        self.status().code().expect("it exits")
    }

    pub fn status(&mut self) -> ExitStatus {
        eventually("the sidecar's end", || self.child.try_wait().unwrap())
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        // The watchdog ends the rest.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until there is something.
pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until it is so.
pub fn until(what: &str, mut is: impl FnMut() -> bool) {
    eventually(what, || is().then_some(()));
}

/// Whether this machine lets the tests do this; says so if not.
pub fn can(test: &str, program: &[&str]) -> bool {
    let (name, arguments) = program.split_first().unwrap();
    let done = Command::new(name).args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status();
    let can = done.is_ok_and(|status| status.success());
    if !can {
        eprintln!("skipped: {test}: `{}` does not work here", program.join(" "));
    }
    can
}

/// The content of a file, and the lowest bits of its mode.
pub fn look_at(path: &Path) -> Option<(String, u32)> {
    use std::os::unix::fs::PermissionsExt;
    let mode = fs::metadata(path).ok()?.permissions().mode() & 0o777;
    Some((fs::read_to_string(path).ok()?, mode))
}
