//! Electors that are killed, stopped, paused or partitioned, and what the controller cannot see.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use super::lock::Lock;
use super::{follow, vacant};
use crate::harness::access::SUPPORTTOOLS;
use crate::harness::door::Door;
use crate::harness::elector::Elector;
use crate::harness::label_watch::LabelWatch;
use crate::harness::proxy::Proxy;
use crate::harness::sidecar::Sidecar;
use crate::harness::{Scenario, eventually, scenario};

/// The program that elects.
#[derive(Clone, Copy, Debug)]
enum Program {
    /// A manager of controller-runtime: 15 s, 10 s, 2 s.
    Manager,
    /// `podium sidecar --mode campaign`: 10 s, 5 s, 2.5 s.
    Sidecar,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Kill,
    Terminate,
    Pause,
    Partition,
}

/// One elector, which stands for a pod.
enum Process {
    Manager(Elector),
    Sidecar(Sidecar),
}

impl Process {
    /// Starts it with a door to the API server.
    async fn start(world: &Scenario, program: Program, pod: &str) -> (Self, Door) {
        let account = match program {
            Program::Manager => world.cluster.kubeconfig.clone(),
            Program::Sidecar => {
                let (_, number) = world.next_process();
                world.account_with(&format!("{pod}-{number}"), &SUPPORTTOOLS).await
            }
        };
        let door = Door::opened(&account).await;
        let account = door.through(&account);
        let process = match program {
            Program::Manager => Self::Manager(world.manager(&account, "lock", &format!("{pod}_5a3e"))),
            Program::Sidecar => {
                let place = format!("--election-namespace={}", world.namespace);
                let arguments = ["sidecar", "--mode=campaign", "--election=lock", "--lock=lease", &place];
                Self::Sidecar(world.sidecar(pod, &account).arguments(&arguments).start().await)
            }
        };
        (process, door)
    }

    /// Waits until it leads, by its own view.
    async fn leads(&self) {
        match self {
            Self::Manager(elector) => elector.says("elected", 1).await,
            Self::Sidecar(sidecar) => {
                eventually("the sidecar leads", async || if sidecar.leads().await { Ok(()) } else { Err(sidecar.log()) })
                    .await;
            }
        }
    }

    /// Waits until it observes that another one leads.
    async fn stands_by(&self, leader: &str) {
        match self {
            Self::Manager(elector) => elector.says("ttempting to acquire leader lease", 1).await,
            Self::Sidecar(sidecar) => sidecar.names(leader).await,
        }
    }

    /// Waits until it has noticed that it does not lead any more.
    async fn gives_up(&mut self) {
        match self {
            Self::Manager(elector) => elector.ends().await,
            Self::Sidecar(sidecar) => sidecar.names("").await,
        }
    }

    fn signal(&self, name: &str) {
        match self {
            Self::Manager(elector) => elector.signal(name),
            Self::Sidecar(sidecar) => sidecar.signal(name),
        }
    }
}

/// The leader's process suffers a fault, and the label moves to the other pod.
async fn moves(program: Program, fault: Fault) {
    scenario(async |world| {
        let controller = world.controller();
        let labels = LabelWatch::start(world).await;
        world.pods(["web-0", "web-1"]).await;
        follow(world, json!({})).await;
        let (mut first, mut door) = Process::start(world, program, "web-0").await;
        first.leads().await;
        let leader = world.leader_is("web", "web-0").await;
        let (second, _open) = Process::start(world, program, "web-1").await;
        second.stands_by("web-0").await;

        let began = Instant::now();
        match fault {
            Fault::Kill => first.signal("KILL"),
            Fault::Terminate => first.signal("TERM"),
            Fault::Pause => first.signal("STOP"),
            Fault::Partition => door.swallow(),
        }
        let mut given_up = None;
        if fault == Fault::Partition {
            first.gives_up().await;
            given_up = Some(began.elapsed());
        }
        second.leads().await;
        let leads = began.elapsed();
        let next = world.leader_is("web", "web-1").await;
        let (removed, appeared) = labels.moved("web-0", "web-1").await;
        println!(
            "{program:?}, {fault:?}: it gave up after {given_up:?}, its pod lost the label after {:?}; the other one led after \
             {leads:?}, its pod got the label after {:?}",
            removed - began,
            appeared - began
        );
        assert!(next.term > leader.term);
        let expired = controller.log().contains("has not renewed it for");
        match fault {
            Fault::Terminate => assert!(!expired, "it was released: {}", controller.log()),
            // Its last renewal was at most one period of retries before.
            _ => assert!(removed - began >= Duration::from_secs(5), "{:?}", removed - began),
        }

        match fault {
            Fault::Pause => first.signal("CONT"),
            Fault::Partition => door.open().await,
            Fault::Kill | Fault::Terminate => {}
        }
        for round in 0..2 {
            world.serve_another(&format!("other-{round}")).await;
            assert_eq!(world.leader("web").await, next, "it does not come back");
        }
    })
    .await;
}

#[tokio::test]
async fn killed_manager_loses_the_label_to_its_successor() {
    moves(Program::Manager, Fault::Kill).await;
}

#[tokio::test]
async fn terminated_manager_loses_the_label_before_its_lease_expires() {
    moves(Program::Manager, Fault::Terminate).await;
}

#[tokio::test]
async fn paused_manager_loses_the_label_to_its_successor() {
    moves(Program::Manager, Fault::Pause).await;
}

#[tokio::test]
async fn partitioned_manager_loses_the_label_to_its_successor() {
    moves(Program::Manager, Fault::Partition).await;
}

#[tokio::test]
async fn killed_sidecar_loses_the_label_to_its_successor() {
    moves(Program::Sidecar, Fault::Kill).await;
}

#[tokio::test]
async fn terminated_sidecar_loses_the_label_before_its_lease_expires() {
    moves(Program::Sidecar, Fault::Terminate).await;
}

#[tokio::test]
async fn paused_sidecar_loses_the_label_to_its_successor() {
    moves(Program::Sidecar, Fault::Pause).await;
}

#[tokio::test]
async fn partitioned_sidecar_loses_the_label_to_its_successor() {
    moves(Program::Sidecar, Fault::Partition).await;
}

#[tokio::test]
async fn pod_of_the_only_elector_is_unlabeled_from_its_expiry_until_its_restart() {
    scenario(async |world| {
        let _controller = world.controller();
        world.pods(["web-0", "web-1"]).await;
        follow(world, json!({})).await;
        let (only, _open) = Process::start(world, Program::Sidecar, "web-0").await;
        let leader = world.leader_is("web", "web-0").await;
        only.signal("KILL");
        vacant(world, "Lease lock expired: its holder \"web-0\" has not renewed it for 10 s").await;
        assert_eq!(world.cause("web").await, "lease_expired");
        let (_again, _open) = Process::start(world, Program::Sidecar, "web-0").await;
        assert!(world.leader_is("web", "web-0").await.term > leader.term + 1);
    })
    .await;
}

#[tokio::test]
async fn restarted_controllers_depose_no_leader_that_renews() {
    scenario(async |world| {
        world.pods(["web-0", "web-1"]).await;
        let lock = Lock::held_by(world, "web-0_5a3e", 10).await;
        let renewals = lock.renewals(Duration::from_millis(500));
        follow(world, json!({})).await;
        let mut controller = world.controller();
        let leader = world.leader_is("web", "web-0").await;
        for round in 0..3 {
            controller.kill();
            controller = world.controller();
            controller.elects().await;
            renewals.more(8).await;
            world.serve_another(&format!("other-{round}")).await;
            assert_eq!(world.leader("web").await, leader, "restart {round}");
        }
    })
    .await;
}

#[tokio::test]
async fn silent_watch_deposes_no_leader_that_renews() {
    scenario(async |world| {
        let proxy = Proxy::to(&world.cluster.kubeconfig).await;
        let controller = world.controller_with(&proxy.kubeconfig(), &[]);
        world.pods(["web-0", "web-1"]).await;
        let lock = Lock::held_by(world, "web-0_5a3e", 4).await;
        let renewals = lock.renewals(Duration::from_millis(200));
        follow(world, json!({})).await;
        let leader = world.leader_is("web", "web-0").await;
        let leases = format!("/namespaces/{}/leases?", world.namespace);
        let frozen = proxy.freeze(|asked| asked.is_watch() && asked.path.contains(&leases));
        assert!(frozen >= 1, "the watch of Leases is frozen");
        for _ in 0..2 {
            proxy.take();
            eventually("the controller reads the Lease from the server", async || {
                let reads = proxy.asked(|asked| asked.method == "GET" && asked.path.contains("/leases/lock"));
                if reads.is_empty() { Err(controller.log()) } else { Ok(()) }
            })
            .await;
            renewals.more(5).await;
            assert_eq!(world.leader("web").await, leader);
        }
        // The read also shows a change of the holder.
        lock.hold("web-1").await;
        world.leader_is("web", "web-1").await;
    })
    .await;
}
