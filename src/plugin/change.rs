//! How the commands write, and wait for the effect.

use std::future::Future;
use std::ops::ControlFlow;
use std::pin::pin;
use std::time::Duration;

use futures::StreamExt;
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::runtime::watcher::Event;
use kube::runtime::{WatchStreamExt, watcher};
use serde_json::Value;

use super::cluster::{Cluster, Fetched};
use super::console;
use super::failure::{Failure, Request};
use crate::api::{DEGRADED, READY};

/// The field manager of all writes.
pub const MANAGER: &str = "kubectl-podium";

/// Whether a change is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DryRun {
    /// It is made.
    #[default]
    None,
    /// Nothing is sent.
    Client,
    /// The API server checks it and does not store it.
    Server,
}

/// How a change is made.
#[derive(Clone, Copy, Debug)]
pub struct How {
    /// Whether it is made.
    pub dry_run: DryRun,
    /// The time to wait for the effect. `None`: the command does not wait.
    pub wait: Option<Duration>,
}

impl How {
    /// The words that kubectl appends to what it did.
    pub fn note(&self) -> &'static str {
        match self.dry_run {
            DryRun::None => "",
            DryRun::Client => " (dry run)",
            DryRun::Server => " (server dry run)",
        }
    }

    /// The time to wait, unless nothing is changed.
    pub fn waits(&self) -> Option<Duration> {
        self.wait.filter(|_| self.dry_run == DryRun::None)
    }
}

/// Sends a merge patch of one Election, guarded by the version that it is based on.
///
/// # Errors
/// The request failed, or the Election has changed since.
pub async fn patch(cluster: &Cluster, election: &Fetched, mut patch: Value, dry_run: DryRun) -> Result<Fetched, Failure> {
    if dry_run == DryRun::Client {
        return Ok(election.clone());
    }
    patch["metadata"]["resourceVersion"] = election.metadata().resource_version.clone().into();
    patch["metadata"]["uid"] = election.metadata().uid.clone().into();
    let dry_run = dry_run == DryRun::Server;
    let how = PatchParams { field_manager: Some(MANAGER.into()), dry_run, ..PatchParams::default() };
    let (elections, patch) = (cluster.elections(false), Patch::Merge(patch));
    let request = cluster.request("patch", election.name());
    let patched = request.send(elections.patch(election.name(), &how, &patch)).await?;
    Ok(Fetched::of(patched))
}

/// The number of attempts at a change whose object changes meanwhile: the controller writes its status.
const ATTEMPTS: usize = 5;

/// Reads the Election and changes it, and again if it changed in between.
///
/// # Errors
/// That of the last attempt.
pub async fn attempt<T, F>(cluster: &Cluster, name: &str, mut change: impl FnMut(Fetched) -> F) -> Result<T, Failure>
where
    F: Future<Output = Result<T, Failure>>,
{
    for _ in 1..ATTEMPTS {
        match change(cluster.get(name).await?).await {
            Err(Failure::Conflict(_)) => {}
            result => return result,
        }
    }
    change(cluster.get(name).await?).await
}

/// One event of a watch.
pub enum Seen {
    /// An Election of the list.
    Listed(Fetched),
    /// The list is complete.
    EndOfList,
    /// An Election changed, or is new.
    Changed(Fetched),
    /// An Election was deleted.
    Deleted(Fetched),
}

/// Watches Elections until `see` ends it. After the first list, errors are reported and the watch continues.
///
/// # Errors
/// The first list failed, or `see` did.
pub async fn watch<T>(
    cluster: &Cluster,
    all_namespaces: bool,
    selector: Option<&str>,
    name: Option<&str>,
    mut see: impl FnMut(Seen) -> Result<ControlFlow<T>, Failure>,
) -> Result<T, Failure> {
    let config = watcher::Config {
        label_selector: selector.map(str::to_owned),
        field_selector: name.map(|name| format!("metadata.name={name}")),
        ..watcher::Config::default()
    };
    let namespace = (!all_namespaces).then_some(cluster.namespace.as_str());
    let request = Request { verb: "watch", resource: "elections", namespace, name };
    let mut events = pin!(watcher(cluster.elections(all_namespaces), config).default_backoff());
    let mut is_listed = false;
    let mut reported = None;
    while let Some(event) = events.next().await {
        let seen = match event {
            Ok(Event::Init) => continue,
            Ok(Event::InitApply(election)) => Seen::Listed(Fetched::of(election)),
            Ok(Event::InitDone) => {
                is_listed = true;
                Seen::EndOfList
            }
            Ok(Event::Apply(election)) => Seen::Changed(Fetched::of(election)),
            Ok(Event::Delete(election)) => Seen::Deleted(Fetched::of(election)),
            Err(error) => {
                let failure = failed(&request, error);
                if !is_listed {
                    return Err(failure);
                }
                if reported != Some(failure.clone()) {
                    reported = Some(failure.clone());
                    failure.message().iter().for_each(|message| console::warn(message));
                }
                continue;
            }
        };
        if let ControlFlow::Break(result) = see(seen)? {
            return Ok(result);
        }
    }
    Err(Failure::Failed(format!("failed to {request}: the watch ended")))
}

fn failed(request: &Request<'_>, error: watcher::Error) -> Failure {
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => request.failed(&error),
        watcher::Error::WatchError(status) => request.failed(&kube::Error::Api(status)),
        watcher::Error::NoResourceVersion => {
            Failure::Failed(format!("failed to {request}: the list has no resourceVersion"))
        }
    }
}

/// What a version of the Election says while a command waits: what it waits for, or `None` while no controller has responded.
pub type Progress = ControlFlow<Result<(), Failure>, Option<String>>;

/// Waits until `done` accepts a version of the Election, and prints to stderr what it waits for meanwhile.
///
/// # Errors
/// The time has passed: the message says what the last version waits for. Or the Election was deleted.
pub async fn wait(
    cluster: &Cluster,
    name: &str,
    time: Duration,
    what: &str,
    done: impl Fn(&Fetched) -> Progress,
) -> Result<(), Failure> {
    let election = format!("{}/{name}", cluster.namespace);
    let mut waits_for = None;
    let watched = watch(cluster, false, None, Some(name), |seen| {
        let fetched = match seen {
            Seen::Listed(fetched) | Seen::Changed(fetched) => fetched,
            Seen::Deleted(_) => return Err(Failure::Failed(format!("Election {election} was deleted meanwhile"))),
            Seen::EndOfList => return Ok(ControlFlow::Continue(())),
        };
        match done(&fetched) {
            ControlFlow::Break(result) => Ok(ControlFlow::Break(result)),
            ControlFlow::Continue(now) => {
                if now != waits_for {
                    now.iter().for_each(|now| console::talk(now));
                    waits_for = now;
                }
                Ok(ControlFlow::Continue(()))
            }
        }
    });
    let ended = tokio::time::timeout(time, watched).await;
    match ended {
        Ok(result) => result?,
        Err(_) => {
            let seconds = time.as_secs_f64();
            let why = waits_for.as_deref().unwrap_or("no controller has responded, check that one serves the namespace");
            Err(Failure::Failed(format!("timed out after {seconds} s waiting for {what} of Election {election}: {why}")))
        }
    }
}

/// What the Election waits for: the message of Degraded or of Ready.
pub fn waits_for(election: &Fetched) -> Option<String> {
    let status = election.status();
    let condition = status.condition(DEGRADED).or_else(|| status.condition(READY));
    condition.map(|condition| condition.message.clone())
}

/// The tool that applies the Election from Git, if one does, and how that is known.
pub fn gitops(election: &DynamicObject) -> Option<(&'static str, String)> {
    let metadata = &election.metadata;
    let has = |key: &str| {
        let annotated = metadata.annotations.as_ref().is_some_and(|annotations| annotations.contains_key(key));
        annotated || metadata.labels.as_ref().is_some_and(|labels| labels.contains_key(key))
    };
    let keys = [
        ("Argo CD", "argocd.argoproj.io/tracking-id"),
        ("Argo CD", "argocd.argoproj.io/instance"),
        ("Flux", "kustomize.toolkit.fluxcd.io/name"),
        ("Flux", "helm.toolkit.fluxcd.io/name"),
    ];
    if let Some((tool, key)) = keys.into_iter().find(|(_, key)| has(key)) {
        return Some((tool, key.to_owned()));
    }
    let managers = [
        ("Argo CD", "argocd-controller"),
        ("Argo CD", "argocd-application-controller"),
        ("Flux", "kustomize-controller"),
        ("Flux", "helm-controller"),
    ];
    let manages = |manager: &str| {
        let mut entries = metadata.managed_fields.iter().flatten();
        entries.any(|entry| entry.manager.as_deref() == Some(manager))
    };
    let (tool, manager) = managers.into_iter().find(|(_, manager)| manages(manager))?;
    Some((tool, format!("field manager {manager}")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn tools_that_apply_from_git_are_found() {
        let found = |metadata: Value| {
            let election: DynamicObject = serde_json::from_value(json!({ "metadata": metadata })).unwrap();
            gitops(&election).map(|(tool, _)| tool)
        };
        assert_eq!(found(json!({ "name": "web", "managedFields": [{ "manager": "kubectl-client-side-apply" }] })), None);
        assert_eq!(found(json!({ "annotations": { "argocd.argoproj.io/tracking-id": "x" } })), Some("Argo CD"));
        assert_eq!(found(json!({ "labels": { "kustomize.toolkit.fluxcd.io/name": "x" } })), Some("Flux"));
        assert_eq!(found(json!({ "managedFields": [{ "manager": "argocd-controller" }] })), Some("Argo CD"));
        assert_eq!(found(json!({ "managedFields": [{ "manager": "helm-controller" }] })), Some("Flux"));
    }

    #[test]
    fn dry_runs_do_not_wait() {
        let how = |dry_run| How { dry_run, wait: Some(Duration::from_secs(1)) };
        assert!(how(DryRun::None).waits().is_some());
        assert!(how(DryRun::Client).waits().is_none() && how(DryRun::Server).waits().is_none());
    }
}
