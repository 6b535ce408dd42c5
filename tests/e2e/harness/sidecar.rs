//! `podium` as a sidecar: a process that stands for a pod.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};

use kube::config::Kubeconfig;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::scenario::Scenario;
use super::waiting::{DEADLINE, eventually};

/// A sidecar to be started.
pub struct Call {
    command: Command,
    name: String,
    directory: PathBuf,
}

/// A running sidecar, killed on drop.
pub struct Sidecar {
    /// Name of its pod.
    pub name: String,
    /// Address of its HTTP server.
    pub address: SocketAddr,
    process: Process,
    log: PathBuf,
    out: PathBuf,
}

/// A process, killed on drop, also when a waiting test fails.
struct Process(Child);

impl Process {
    fn end(&mut self) -> Option<ExitStatus> {
        self.0.try_wait().expect("our own child")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have exited.
        let _ = self.0.kill();
        self.0.wait().expect("our own child");
    }
}

impl Scenario {
    /// A sidecar of this pod with the old leader-elector's options, on a lock `example` in the test's namespace.
    pub fn contrib(&self, name: &str, kubeconfig: &Kubeconfig) -> Call {
        let namespace = format!("--election-namespace={}", self.namespace);
        self.sidecar(name, kubeconfig).arguments(&["--election=example", &namespace])
    }

    /// The same with the environment of SupportTools' leader-elector.
    pub fn supporttools(&self, name: &str, kubeconfig: &Kubeconfig) -> Call {
        self.sidecar(name, kubeconfig).variable("LEASE_NAME", "example").variable("NAMESPACE", &self.namespace)
    }

    /// A sidecar that follows the Lease `web`.
    pub fn follower(&self, name: &str, kubeconfig: &Kubeconfig) -> Call {
        self.sidecar(name, kubeconfig).arguments(&["sidecar", "--election=web"]).variable("POD_NAMESPACE", &self.namespace)
    }

    /// `podium` with only the pod's name, the HTTP address and the kubeconfig in its environment.
    pub fn sidecar(&self, name: &str, kubeconfig: &Kubeconfig) -> Call {
        self.sidecar_by(Command::new(env!("CARGO_BIN_EXE_podium")), name, kubeconfig)
    }

    /// The same, started by another command.
    pub fn sidecar_by(&self, mut command: Command, name: &str, kubeconfig: &Kubeconfig) -> Call {
        let (directory, number) = self.next_process();
        // A host name may contain dots, and the files differ in their extensions.
        let (name, file) = (name.to_owned(), format!("sidecar-{number}-{}", name.replace('.', "-")));
        let path = |extension: &str| directory.join(format!("{file}.{extension}"));
        fs::write(path("kubeconfig"), serde_json::to_string(kubeconfig).expect("a kubeconfig"))
            .expect("a writable directory");
        command
            .env_clear()
            .env("KUBECONFIG", path("kubeconfig"))
            // Not the user's home, which may have a kubeconfig.
            .env("HOME", &directory)
            .env("POD_NAME", &name)
            .env("PODIUM_HTTP", "127.0.0.1:0")
            // Each pod has its own /tmp, but these processes share one.
            .env("PODIUM_FILE", path("status"))
            .stdin(Stdio::null())
            .stdout(File::create(path("out")).expect("a writable directory"))
            .stderr(File::create(path("log")).expect("a writable directory"));
        Call { command, name, directory: directory.join(file) }
    }
}

impl Call {
    pub fn arguments(mut self, arguments: &[&str]) -> Self {
        self.command.args(arguments);
        self
    }

    /// Sets an environment variable.
    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// Removes an environment variable.
    pub fn without(mut self, name: &str) -> Self {
        self.command.env_remove(name);
        self
    }

    /// Starts it, and waits until its HTTP server responds.
    pub async fn start(self) -> Sidecar {
        let (name, path) = (self.name.clone(), self.directory.clone());
        let mut process = self.spawn();
        let (log, out) = (path.with_extension("log"), path.with_extension("out"));
        let address = eventually(&format!("the sidecar of {name} listens"), async || {
            let said = fs::read_to_string(&log).unwrap_or_default();
            assert_eq!(process.end(), None, "the sidecar of {name} ended: {said}");
            let address =
                said.split("serving HTTP address=").nth(1).and_then(|rest| rest.lines().next()?.trim().parse().ok());
            address.ok_or(said)
        })
        .await;
        Sidecar { name, address, process, log, out }
    }

    /// Runs it until it exits. Returns status, stdout and stderr.
    pub async fn end(self) -> (ExitStatus, String, String) {
        let path = self.directory.clone();
        let mut process = self.spawn();
        let status = eventually("the sidecar ends by itself", async || {
            process.end().ok_or_else(|| {
                let log = fs::read_to_string(path.with_extension("log")).unwrap_or_default();
                format!("it runs, and says: {log}")
            })
        })
        .await;
        let printed = |extension: &str| fs::read_to_string(path.with_extension(extension)).expect("its output");
        (status, printed("out"), printed("log"))
    }

    fn spawn(mut self) -> Process {
        Process(self.command.spawn().expect("podium runs"))
    }
}

impl Sidecar {
    /// Its stderr so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Its stdout so far.
    pub fn out(&self) -> String {
        fs::read_to_string(&self.out).unwrap_or_default()
    }

    /// Waits for a log line with all of these words, and returns it.
    pub async fn says(&self, words: &[&str]) -> String {
        eventually(&format!("the sidecar of {} says {words:?}", self.name), async || {
            let log = self.log();
            let line = log.lines().find(|line| words.iter().all(|word| line.contains(word)));
            line.map(str::to_owned).ok_or(log)
        })
        .await
    }

    /// Number of log lines with these words.
    pub fn said(&self, words: &str) -> usize {
        self.log().lines().filter(|line| line.contains(words)).count()
    }

    /// The raw response to `<method> <path>`: status line, headers and body.
    pub async fn raw(&self, method: &str, path: &str) -> String {
        let mut connection = Connection::open(self.address).await.expect("it listens");
        connection.ask(method, path).await.expect("it answers")
    }

    /// Status code and body of a GET.
    pub async fn get(&self, path: &str) -> (u16, String) {
        split(&self.raw("GET", path).await)
    }

    /// The leader that `/` names, or empty.
    pub async fn leader(&self) -> String {
        name_in(&self.get("/").await.1)
    }

    /// Returns whether `/leader` claims that it leads.
    pub async fn leads(&self) -> bool {
        self.get("/leader").await.0 == 200
    }

    pub async fn status(&self) -> Value {
        serde_json::from_str(&self.get("/status").await.1).expect("JSON")
    }

    /// Waits until `/` names this pod, or none if empty.
    pub async fn names(&self, leader: &str) {
        self.names_when(&format!("{leader:?}"), |name| name == leader).await;
    }

    /// Waits until `/` names a pod that satisfies this, and returns the name.
    pub async fn names_when(&self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        eventually(&format!("the sidecar of {} names {what}", self.name), async || {
            let name = self.leader().await;
            if wanted(&name) { Ok(name) } else { Err(format!("{name:?}; {}", self.log())) }
        })
        .await
    }

    pub fn runs(&mut self) -> bool {
        self.process.end().is_none()
    }

    pub fn kill(&mut self) {
        self.process.0.kill().expect("our own child");
        self.process.0.wait().expect("our own child");
    }

    /// Sends SIGTERM, and waits until it exits.
    pub async fn terminate(&mut self) -> ExitStatus {
        self.signal("TERM");
        self.ends().await
    }

    /// Waits until it exits.
    pub async fn ends(&mut self) -> ExitStatus {
        eventually(&format!("the sidecar of {} ends", self.name), async || {
            self.process.end().ok_or_else(|| "it runs".into())
        })
        .await
    }

    /// Sends a signal, named without SIG.
    pub fn signal(&self, name: &str) {
        let pid = self.pid().to_string();
        let sent = Command::new("sh").args(["-c", "kill -s \"$0\" \"$1\"", name, &pid]).status();
        assert!(sent.is_ok_and(|status| status.success()), "SIG{name} can be sent");
    }

    pub fn pid(&self) -> u32 {
        self.process.0.id()
    }
}

/// A keep-alive connection to a sidecar.
pub struct Connection(BufReader<TcpStream>);

impl Connection {
    pub async fn open(address: SocketAddr) -> std::io::Result<Self> {
        Ok(Self(BufReader::new(TcpStream::connect(address).await?)))
    }

    /// Sends a request, and returns the raw response.
    pub async fn ask(&mut self, method: &str, path: &str) -> std::io::Result<String> {
        self.send(method, path).await?;
        self.receive(method).await
    }

    pub async fn send(&mut self, method: &str, path: &str) -> std::io::Result<()> {
        let body = if ["POST", "PUT"].contains(&method) { "some=body" } else { "" };
        self.send_with(method, path, body).await
    }

    pub async fn send_with(&mut self, method: &str, path: &str, body: &str) -> std::io::Result<()> {
        let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
        let request = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n{length}\r\n{body}");
        self.0.get_mut().write_all(request.as_bytes()).await
    }

    /// Receives the response.
    pub async fn receive(&mut self, method: &str) -> std::io::Result<String> {
        let answer = async {
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                self.line(&mut head).await?;
            }
            let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")?.trim().parse().ok());
            let mut body = vec![0; length.filter(|_| method != "HEAD").unwrap_or(0)];
            self.0.read_exact(&mut body).await?;
            Ok(head + &String::from_utf8_lossy(&body))
        };
        timeout(DEADLINE, answer).await.map_err(|_| std::io::ErrorKind::TimedOut)?
    }

    /// The next event of `/events`.
    pub async fn event(&mut self) -> std::io::Result<Value> {
        let event = async {
            loop {
                let mut line = String::new();
                self.line(&mut line).await?;
                if let Some(data) = line.strip_prefix("data: ") {
                    return Ok(serde_json::from_str(data)?);
                }
            }
        };
        timeout(DEADLINE, event).await.map_err(|_| std::io::ErrorKind::TimedOut)?
    }

    async fn line(&mut self, text: &mut String) -> std::io::Result<()> {
        match self.0.read_line(text).await? {
            0 => Err(std::io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}

/// Status code and body of a response.
pub fn split(answer: &str) -> (u16, String) {
    let (head, body) = answer.split_once("\r\n\r\n").expect("an HTTP answer");
    let code = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    (code.expect("a status line"), body.to_owned())
}

/// The name in the old elector's response body.
pub fn name_in(body: &str) -> String {
    let body: Value = serde_json::from_str(body).unwrap_or_else(|_| panic!("JSON: {body:?}"));
    body["name"].as_str().expect("a name").to_owned()
}
