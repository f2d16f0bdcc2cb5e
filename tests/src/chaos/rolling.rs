//! What operators do, and what befalls etcd as a whole.

use std::time::Duration;

use super::cluster::Cluster;
use super::losses::Harm;
use super::node::Role;

/// The load goes on for so long before, between and after.
const BETWEEN: Duration = Duration::from_secs(2);
/// Longer than a process gives itself to end.
const END_DEADLINE: Duration = Duration::from_secs(100);

/// Replaces every executor and then every scheduler, one after the other, as a rolling upgrade does.
pub(super) async fn replace_all(cluster: &mut Cluster) -> Harm {
    let mut harm = Harm::default();
    for (role, name) in [(Role::Executor, "replace_executor"), (Role::Scheduler, "replace_scheduler")] {
        for number in cluster.all(role) {
            tokio::time::sleep(BETWEEN).await;
            harm.befalls(cluster, number, name);
            let node = &mut cluster.nodes[number];
            println!("{name}: {}", node.name);
            node.terminate();
            let status = node.process().ended(END_DEADLINE).await;
            assert!(status.success(), "{} ended with {status}", node.name);
            node.heal();
            harm.is_over(number);
            cluster.ready().await;
            *harm.faults.entry(name).or_default() += 1;
        }
    }
    tokio::time::sleep(BETWEEN).await;
    harm
}

/// Kills all members of etcd for a while, and later stops all of them for as long.
pub(super) async fn etcd_away(cluster: &mut Cluster, outage: Duration) -> Harm {
    let mut harm = Harm::default();
    for name in ["kill_all_etcd", "stop_all_etcd"] {
        tokio::time::sleep(BETWEEN).await;
        println!("{name} for {outage:?}");
        harm.store_is_away();
        for member in cluster.all(Role::Etcd) {
            harm.befalls(cluster, member, name);
            match name {
                "kill_all_etcd" => cluster.nodes[member].kill(),
                _ => cluster.nodes[member].pause(),
            }
        }
        tokio::time::sleep(outage).await;
        for member in cluster.all(Role::Etcd) {
            cluster.nodes[member].heal();
            harm.is_over(member);
        }
        *harm.faults.entry(name).or_default() += 1;
        // Long enough for everything to go on.
        tokio::time::sleep(outage.min(Duration::from_secs(20))).await;
    }
    harm
}
