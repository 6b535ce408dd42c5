//! A watch whose connection stays open but delivers nothing, while all else works: one of several API servers hangs.

use std::time::Duration;

use tokio::time::Instant;

use crate::harness::http::{HTTP, get};
use crate::harness::proxy::{Asked, Proxy};
use crate::harness::waiting::eventually_within;
use crate::harness::{eventually, scenario};
use crate::sidecar::follow::{FOLLOW, account};

/// The limit, plus time for a busy machine.
const BOUND: Duration = Duration::from_secs(75 + 15);

fn watches(asked: &Asked, plural: &str) -> bool {
    asked.is_watch() && asked.path.split('?').next().is_some_and(|path| path.ends_with(plural))
}

#[tokio::test]
async fn leader_is_replaced_although_the_watch_of_pods_is_frozen() {
    scenario(async |world| {
        let proxy = Proxy::to(&world.cluster.kubeconfig).await;
        let controller = world.controller_with(&proxy.kubeconfig(), HTTP);
        controller.elects().await;
        let http = controller.http().await;
        let former = world.led().await;
        assert_eq!(proxy.freeze(|asked| watches(asked, "/pods")), 1);
        let frozen = Instant::now();
        proxy.take();
        world.delete_pod(&former.name).await;

        let why = eventually_within(BOUND, "it says which watch is silent", async || match get(http, "/readyz").await {
            (503, why) => Ok(why),
            answer => Err(format!("{answer:?}")),
        })
        .await;
        let expected = format!("the watch of pods in namespace {} is silent", world.namespace);
        assert!(why.contains(&expected), "{why}");
        let metrics = get(http, "/metrics").await.1;
        let silence = metrics.lines().find_map(|line| line.strip_prefix("podium_watch_silence_seconds{resource=\"pods\"} "));
        assert!(silence.is_some_and(|silence| silence.parse().is_ok_and(|seconds: f64| seconds > 60.0)), "{metrics}");
        assert_eq!(controller.log().matches(&expected).count(), 1, "{}", controller.log());

        let leader = eventually_within(BOUND, "another one leads", async || {
            let leader = world.leader("web").await;
            if leader.name == former.name { Err(format!("{leader:?}")) } else { Ok(leader) }
        })
        .await;
        println!("replaced by {} after {:?}", leader.name, frozen.elapsed());
        eventually("it is ready", async || match get(http, "/readyz").await {
            (200, _) => Ok(()),
            (_, why) => Err(why),
        })
        .await;
        let again = proxy.asked(|asked| watches(asked, "/pods"));
        assert!(again.iter().all(|asked| asked.path.contains("resourceVersion=")), "{again:?}");
    })
    .await;
}

#[tokio::test]
async fn sidecar_names_the_next_leader_although_its_watch_is_frozen() {
    scenario(async |world| {
        let account = account(world, FOLLOW).await;
        let _controller = world.controller();
        let former = world.led().await;
        let proxy = Proxy::to(&account).await;
        let sidecar = world.follower("web-1", &proxy.kubeconfig()).start().await;
        sidecar.names(&former.name).await;
        eventually("it watches", async || match proxy.freeze(|asked| watches(asked, "/leases")) {
            1 => Ok(()),
            other => Err(other.to_string()),
        })
        .await;
        let frozen = Instant::now();
        world.delete_pod(&former.name).await;
        let leader = world.leader_after("web", &former).await;
        assert_eq!(sidecar.leader().await, former.name, "it cannot know");
        eventually_within(BOUND, "it names the next leader", async || match sidecar.leader().await {
            name if name == leader.name => Ok(()),
            name => Err(name),
        })
        .await;
        println!("named after {:?}", frozen.elapsed());
        assert_eq!(sidecar.said("/web is silent"), 1, "{}", sidecar.log());
    })
    .await;
}
