//! Migration from campaigning sidecars to an Election, and from the old lock to the new one: never two leaders.

use k8s_openapi::api::coordination::v1::Lease;
use kube::config::Kubeconfig;

use crate::harness::access::{CONTRIB, SUPPORTTOOLS};
use crate::harness::sidecar::Sidecar;
use crate::harness::survey::{Survey, Told};
use crate::harness::{Scenario, eventually, scenario};
use crate::sidecar::campaign::agree;

/// Three sidecars on a Lease become followers of an Election of its name: the leader stays, and is always reported.
async fn become_followers(verbs: &[&str]) {
    scenario(async |world| {
        let account = world.account_with("pods", &[("coordination.k8s.io", "leases", verbs)]).await;
        let _controller = world.controller();
        let pods = world.pods(["web-0", "web-1", "web-2"]).await;
        let mut sidecars = Vec::new();
        for pod in &pods {
            let name = pod.metadata.name.as_deref().expect("a name");
            let call = world.supporttools(name, &account).variable("LEASE_NAME", "web");
            sidecars.push(call.variable("POD_UID", pod.metadata.uid.as_deref().expect("a UID")).start().await);
        }
        let holder = agree(&sidecars.iter().collect::<Vec<_>>()).await;
        let survey = Survey::of([&sidecars[0], &sidecars[1], &sidecars[2]]);
        world.election("web").await;
        let leader = world.leader("web").await;
        assert_eq!(leader.name, holder, "who holds the Lease stays the leader");
        for sidecar in &sidecars {
            sidecar.says(&["belongs to the Election web", "following it"]).await;
            eventually("it tells the Election's term", async || {
                let status = sidecar.status().await;
                let follows = status["term"] == leader.term && status["name"] == holder.as_str();
                if follows { Ok(()) } else { Err(format!("{status} {}", sidecar.log())) }
            })
            .await;
        }
        survey.go_on(&[&sidecars[0], &sidecars[1], &sidecars[2]]).await;
        survey.one_by_one(&[&holder]).await;
        let wrong = |told: &Told| told.names.as_ref().is_some_and(|name| *name != holder);
        for ((sidecar, _), told) in survey.answers() {
            let wrong = told.iter().find(|told| wrong(told));
            assert_eq!(wrong, None, "{sidecar}, of {} answers", told.len());
            let deposed = told.iter().find(|told| told.claims != (sidecar == holder));
            assert_eq!(deposed, None, "{sidecar}, of {} answers", told.len());
        }

        world.set_ready(&holder, false).await;
        let next = world.leader_after("web", &leader).await;
        for sidecar in &mut sidecars {
            sidecar.names(&next.name).await;
            assert_eq!(sidecar.leads().await, sidecar.name == next.name);
            assert!(sidecar.runs(), "nothing restarts");
        }
        // Without the Election they still follow, and elect no leader: the Lease is gone with it.
        world.delete_election("web").await;
        for sidecar in &sidecars {
            sidecar.names("").await;
        }
        world.lease_is_gone("web").await;
        survey.go_on(&[&sidecars[0], &sidecars[1], &sidecars[2]]).await;
        assert!(world.api::<Lease>().get_opt("web").await.is_ok_and(|lease| lease.is_none()));
    })
    .await;
}

#[tokio::test]
async fn sidecars_without_watch_permission_follow_a_new_election_and_keep_their_leader() {
    become_followers(SUPPORTTOOLS[0].2).await;
}

#[tokio::test]
async fn sidecars_with_watch_permission_follow_a_new_election_and_keep_their_leader() {
    become_followers(&["get", "list", "watch", "create", "update"]).await;
}

/// Sidecars on different locks, each with the permissions for its own.
struct Pods<'a> {
    world: &'a Scenario,
    account: Kubeconfig,
    survey: Survey,
}

impl Pods<'_> {
    async fn start(&mut self, name: &str, lock: &str) -> Sidecar {
        let lock = format!("--lock={lock}");
        let sidecar = self.world.contrib(name, &self.account).arguments(&["--ttl=6s", &lock]).start().await;
        self.survey.ask(&sidecar);
        sidecar
    }

    async fn check(&self, leaders: &[&str]) {
        self.survey.one_by_one(leaders).await;
    }
}

#[tokio::test]
async fn rolling_migration_from_endpoints_to_a_lease_never_has_two_leaders() {
    scenario(async |world| {
        let account = world.account_with("pods", &[CONTRIB[0], SUPPORTTOOLS[0]]).await;
        let mut pods = Pods { world, account, survey: Survey::default() };
        // Unchanged, on the old lock.
        let mut old_a = pods.start("old-a", "endpoints").await;
        old_a.names("old-a").await;
        let mut old_b = pods.start("old-b", "endpoints").await;
        agree(&[&old_a, &old_b]).await;
        // A follower first, then the leader, which is killed.
        assert!(old_b.terminate().await.success());
        let mut both_a = pods.start("both-a", "endpointsleases").await;
        both_a.names("old-a").await;
        old_a.kill();
        both_a.names("both-a").await;
        // One is rolled back meanwhile: both kinds campaign together.
        let mut old_c = pods.start("old-c", "endpoints").await;
        old_c.names("both-a").await;
        let mut both_b = pods.start("both-b", "endpointsleases").await;
        both_b.names("both-a").await;
        assert!(both_a.terminate().await.success());
        let next = agree(&[&old_c, &both_b]).await;
        pods.check(&["old-a", "both-a", &next]).await;
        assert!(old_c.terminate().await.success());
        both_b.names("both-b").await;
        // No sidecar uses only the old lock, so the Lease may follow.
        let mut new_a = pods.start("new-a", "lease").await;
        new_a.names("both-b").await;
        let both_c = pods.start("both-c", "endpointsleases").await;
        both_c.names("both-b").await;
        assert!(both_b.terminate().await.success());
        let next = agree(&[&new_a, &both_c]).await;
        pods.check(&["old-a", "both-a", "both-b", &next]).await;
        drop(both_c);
        new_a.names("new-a").await;
        let new_b = pods.start("new-b", "lease").await;
        new_b.names("new-a").await;
        assert!(new_a.terminate().await.success());
        new_b.names("new-b").await;
        pods.check(&["old-a", "both-a", "both-b", "new-a", "new-b"]).await;
        println!("{}", pods.survey.gap("new-a", "new-b"));
    })
    .await;
}

#[tokio::test]
async fn processes_on_both_locks_exclude_processes_on_either_lock() {
    scenario(async |world| {
        let account = world.account_with("pods", &[CONTRIB[0], SUPPORTTOOLS[0]]).await;
        for (one, names) in [("endpoints", ["a-1", "a-2", "a-3"]), ("lease", ["b-1", "b-2", "b-3"])] {
            let mut pods = Pods { world, account: account.clone(), survey: Survey::default() };
            let election = format!("--election=with-{one}");
            let [first, second, third] = names;
            let call = |name: &str, lock: &str| {
                let lock = format!("--lock={lock}");
                world.contrib(name, &pods.account).arguments(&[&election, "--ttl=6s", &lock])
            };
            let started = tokio::join!(
                call(first, "endpointsleases").start(),
                call(second, one).start(),
                call(third, "endpointsleases").start()
            );
            let mut sidecars = [started.0, started.1, started.2];
            sidecars.iter().for_each(|sidecar| pods.survey.ask(sidecar));
            let mut leaders: Vec<String> = Vec::new();
            for _ in 0..2 {
                let running: Vec<&Sidecar> = sidecars.iter().filter(|sidecar| !leaders.contains(&sidecar.name)).collect();
                let leader = agree(&running).await;
                let leading = sidecars.iter_mut().find(|sidecar| sidecar.name == leader).expect("one of them");
                assert!(leading.terminate().await.success());
                leaders.push(leader);
            }
            let last = sidecars.iter().find(|sidecar| !leaders.contains(&sidecar.name)).expect("one is left");
            last.names(&last.name).await;
            leaders.push(last.name.clone());
            pods.check(&leaders.iter().map(String::as_str).collect::<Vec<_>>()).await;
        }
    })
    .await;
}
