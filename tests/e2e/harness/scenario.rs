//! One test: a namespace, the record of all changes in it, and a check of the guarantees at the end.

use std::collections::BTreeSet;
use std::fs;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use futures::FutureExt;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::DeleteParams;
use kube::config::Kubeconfig;
use kube::{Api, ResourceExt};
use podium_test_support::checker::Kind;
use podium_test_support::checker::{Watched, violations};
use podium_test_support::namespace;

use super::cluster::Cluster;
use super::controller::Controller;
use super::elector::Elector;
use super::history::Recorder;

/// One test's namespace.
pub struct Scenario {
    pub cluster: Cluster,
    pub namespace: String,
    /// Directory of its processes' logs.
    directory: PathBuf,
    processes: Arc<Mutex<usize>>,
    watched: Mutex<Vec<Watched>>,
    forged: Mutex<BTreeSet<i64>>,
    forged_births: AtomicBool,
    abandoned: AtomicBool,
}

/// Runs `test` on the shared cluster.
pub async fn scenario(test: impl AsyncFnOnce(&Scenario)) {
    scenario_on(Cluster::shared().await, test).await;
}

/// Runs `test` in a new namespace of `cluster`, and then checks all revisions, also if the test failed. After any failure,
/// prints the processes' logs.
pub async fn scenario_on(cluster: Cluster, test: impl AsyncFnOnce(&Scenario)) {
    let client = cluster.client.clone();
    let scenario = Scenario::new(cluster).await;
    let recorder = Recorder::start(&client, &scenario.namespace).await;
    // The test's frame owns the controllers: when it returns, they are dead.
    let outcome = AssertUnwindSafe(test(&scenario)).catch_unwind().await;
    let checked = AssertUnwindSafe(scenario.check(recorder))
        .catch_unwind()
        .await
        .and_then(|()| std::panic::catch_unwind(AssertUnwindSafe(|| scenario.check_logs())));
    if outcome.is_err() || checked.is_err() {
        scenario.print_logs();
    } else {
        let _ = fs::remove_dir_all(&scenario.directory);
    }
    let namespaces: Api<Namespace> = Api::all(client);
    let _ = namespaces.delete(&scenario.namespace, &DeleteParams::background()).await;
    for failure in [outcome, checked] {
        failure.unwrap_or_else(|panic| resume_unwind(panic));
    }
}

impl Scenario {
    async fn new(cluster: Cluster) -> Self {
        let namespace = namespace::create(&cluster.client).await;
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(&namespace);
        fs::create_dir_all(&directory).expect("a writable target directory");
        Self {
            cluster,
            namespace,
            directory,
            processes: Arc::default(),
            watched: Mutex::default(),
            forged: Mutex::default(),
            forged_births: AtomicBool::default(),
            abandoned: AtomicBool::default(),
        }
    }

    pub fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.cluster.client.clone(), &self.namespace)
    }

    /// Directory and number of the next process.
    pub fn next_process(&self) -> (PathBuf, usize) {
        let mut number = lock(&self.processes);
        *number += 1;
        (self.directory.clone(), *number)
    }

    /// Starts a controller for the namespace.
    pub fn controller(&self) -> Controller {
        self.controller_with(&self.cluster.controllers, &[])
    }

    /// Starts a controller for the namespace with another kubeconfig and additional arguments.
    pub fn controller_with(&self, kubeconfig: &Kubeconfig, arguments: &[&str]) -> Controller {
        let (directory, number) = self.next_process();
        let arguments = [&["--namespaces", &self.namespace, "--log-level", "info,podium=debug"], arguments].concat();
        Controller::start(env!("CARGO_BIN_EXE_podium"), &directory, &format!("controller-{number}"), kubeconfig, &arguments)
    }

    /// Writes the administrator's kubeconfig to a file of this name.
    pub fn kubeconfig(&self, name: &str) -> PathBuf {
        let path = self.directory.join(format!("{name}.kubeconfig"));
        fs::write(&path, serde_json::to_string(&self.cluster.kubeconfig).expect("a kubeconfig"))
            .expect("a writable directory");
        path
    }

    /// Starts client-go's example on a Lease of the namespace.
    pub fn elector(&self, lease: &str, identity: &str) -> Elector {
        Elector::start(&self.directory, &self.cluster.kubeconfig, &self.namespace, lease, identity)
    }

    /// Starts a manager of controller-runtime on a Lease of the namespace.
    pub fn manager(&self, kubeconfig: &Kubeconfig, lease: &str, identity: &str) -> Elector {
        Elector::start_manager(&self.directory, kubeconfig, &self.namespace, lease, identity)
    }

    /// Starts an old elector on Endpoints of the namespace.
    pub fn old_elector(&self, election: &str, identity: &str) -> Elector {
        Elector::start_on_endpoints(&self.directory, &self.cluster.kubeconfig, &self.namespace, election, identity)
    }

    /// The same test in another namespace of the cluster, whose changes are not recorded.
    pub fn elsewhere(&self, namespace: &str) -> Self {
        Self {
            cluster: self.cluster.clone(),
            namespace: namespace.into(),
            directory: self.directory.clone(),
            processes: self.processes.clone(),
            watched: Mutex::default(),
            forged: Mutex::default(),
            forged_births: AtomicBool::default(),
            abandoned: AtomicBool::default(),
        }
    }

    /// Starts a cluster-wide controller: only if no other test runs.
    pub fn controller_of_the_cluster(&self) -> Controller {
        let (directory, number) = self.next_process();
        let name = format!("controller-{number}");
        Controller::start(
            env!("CARGO_BIN_EXE_podium"),
            &directory,
            &name,
            &self.cluster.controllers,
            &["--log-level", "info,podium=debug"],
        )
    }

    /// Makes the checker watch an Election.
    pub fn watch(&self, watched: Watched) {
        let mut all = lock(&self.watched);
        if !all.contains(&watched) {
            all.push(watched);
        }
    }

    /// Declares this revision of the object a forgery of the test.
    pub fn forged(&self, object: &impl ResourceExt) {
        let version = object.resource_version().and_then(|version| version.parse().ok());
        lock(&self.forged).insert(version.expect("resourceVersions are integers"));
    }

    /// Declares that pods are created with forged labels, because the test wrote them into a template.
    pub fn forged_births(&self) {
        self.forged_births.store(true, Ordering::Relaxed);
    }

    /// Skips the check: the test deletes the namespace.
    pub fn abandon(&self) {
        self.abandoned.store(true, Ordering::Relaxed);
    }

    async fn check(&self, recorder: Recorder) {
        if self.abandoned.load(Ordering::Relaxed) {
            return;
        }
        let history = recorder.finish().await;
        let (watched, mut forged) = (lock(&self.watched), lock(&self.forged).clone());
        if self.forged_births.load(Ordering::Relaxed) {
            let mut born = BTreeSet::new();
            let births = history.iter().filter(|seen| seen.kind == Kind::Pod && born.insert(seen.uid.clone()));
            forged.extend(births.map(|birth| birth.version));
        }
        let found = violations(&history, &watched, &forged);
        assert!(found.is_empty(), "promises broken in {}:\n{}", self.namespace, found.join("\n"));
    }

    /// No controller may panic, whatever the fault.
    fn check_logs(&self) {
        for path in self.logs() {
            let log = fs::read_to_string(&path).unwrap_or_default();
            let bug = log.lines().find(|line| line.contains("panicked at") || line.contains("a bug in Podium"));
            assert_eq!(bug, None, "{}", path.display());
        }
    }

    fn logs(&self) -> Vec<PathBuf> {
        let mut files: Vec<_> =
            fs::read_dir(&self.directory).into_iter().flatten().flatten().map(|file| file.path()).collect();
        files.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
        files.sort();
        files
    }

    fn print_logs(&self) {
        for path in self.logs() {
            println!("--- {}\n{}", path.display(), fs::read_to_string(&path).unwrap_or_default());
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
