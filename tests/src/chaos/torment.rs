//! Random faults, and how they are made good.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::Options;
use super::cluster::Cluster;
use super::losses::Harm;
use super::node::{Node, Role};
use super::random::Random;

/// What is done to a node.
#[derive(Clone, Copy)]
enum Act {
    /// Something that its machine does to it.
    Do(fn(&mut Node)),
    /// A scheduler is asked to have it drained.
    Drain,
}

#[derive(Clone, Copy)]
struct Fault {
    name: &'static str,
    role: Role,
    act: Act,
    /// So many nodes of the role stay healthy; `None`: it befalls all of them at once.
    spare: Option<usize>,
    /// Needs links that can be cut.
    link: bool,
}

const fn fault(name: &'static str, role: Role, act: Act, spare: Option<usize>) -> Fault {
    Fault { name, role, act, spare, link: false }
}

const FAULTS: [Fault; 13] = [
    fault("kill_scheduler", Role::Scheduler, Act::Do(Node::kill), Some(1)),
    fault("kill_executor", Role::Executor, Act::Do(Node::kill), Some(2)),
    fault("stop_scheduler", Role::Scheduler, Act::Do(Node::pause), Some(1)),
    fault("stop_executor", Role::Executor, Act::Do(Node::pause), Some(2)),
    Fault { link: true, ..fault("cut_scheduler", Role::Scheduler, Act::Do(Node::cut), Some(1)) },
    Fault { link: true, ..fault("cut_executor", Role::Executor, Act::Do(Node::cut), Some(2)) },
    fault("restart_scheduler", Role::Scheduler, Act::Do(Node::terminate), Some(1)),
    fault("restart_executor", Role::Executor, Act::Do(Node::terminate), Some(2)),
    fault("drain_executor", Role::Executor, Act::Drain, Some(2)),
    fault("kill_etcd", Role::Etcd, Act::Do(Node::kill), Some(2)),
    fault("stop_etcd", Role::Etcd, Act::Do(Node::pause), Some(2)),
    fault("kill_all_etcd", Role::Etcd, Act::Do(Node::kill), None),
    fault("stop_all_etcd", Role::Etcd, Act::Do(Node::pause), None),
];

/// A node that is leaving by itself is looked at again after so long.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// One that takes longer to leave than a process gives itself is killed.
const LEAVE_DEADLINE: Duration = Duration::from_secs(90);

/// Does harm for the time given, and makes it good again.
pub(super) async fn torment(cluster: &mut Cluster, options: &Options, seed: u64) -> Harm {
    let mut random = Random::new(seed);
    let mut harm = Harm::default();
    let chosen = |fault: &&Fault| options.faults.is_empty() || options.faults.iter().any(|name| name == fault.name);
    let faults: Vec<&Fault> = FAULTS.iter().filter(chosen).filter(|fault| cluster.has_links || !fault.link).collect();
    let mut healing: Vec<(Instant, usize)> = vec![];
    let start = Instant::now();
    let end = start + Duration::from_secs_f64(options.minutes * 60.0);
    let mut next = start + options.fault_every;
    loop {
        let heal = healing.iter().map(|(at, _)| *at).min();
        let due = heal.map_or(next, |heal| heal.min(next));
        sleep_until(due.min(end)).await;
        let now = Instant::now();
        healing = heal_due(cluster, healing, now, &mut harm);
        if now >= end {
            break;
        }
        if now < next {
            continue;
        }
        next += options.fault_every;
        let Some(fault) = (!faults.is_empty()).then(|| faults[random.below(faults.len())]) else { continue };
        // Both are drawn in any case, so that a seed repeats its choices as far as can be.
        let healthy = cluster.healthy(fault.role);
        let (victim, millis) = (random.below(healthy.len().max(1)), 1_000 + random.below(6_000));
        let victims = match fault.spare {
            Some(spare) if healthy.len() > spare => vec![healthy[victim]],
            None if cluster.all(fault.role) == healthy => healthy,
            _ => continue,
        };
        let names: Vec<&str> = victims.iter().map(|victim| cluster.nodes[*victim].name.as_str()).collect();
        println!("{:>6.1} s: {} at {} for {millis} ms", (now - start).as_secs_f64(), fault.name, names.join(", "));
        if !befall(cluster, fault, &victims, &mut harm).await {
            continue;
        }
        healing.extend(victims.into_iter().map(|victim| (now + Duration::from_millis(millis as u64), victim)));
    }
    while !healing.is_empty() {
        let now = Instant::now();
        let all = healing.into_iter().map(|(_, node)| (now, node)).collect();
        healing = heal_due(cluster, all, now, &mut harm);
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    harm
}

/// False if nothing came of it.
async fn befall(cluster: &mut Cluster, fault: &Fault, victims: &[usize], harm: &mut Harm) -> bool {
    for victim in victims {
        let done = match fault.act {
            Act::Do(act) => {
                harm.befalls(cluster, *victim, fault.name);
                act(&mut cluster.nodes[*victim]);
                true
            }
            Act::Drain => cluster.drain(*victim).await,
        };
        if !done {
            return false;
        }
    }
    if fault.spare.is_none() {
        harm.store_is_away();
    }
    *harm.faults.entry(fault.name).or_default() += 1;
    true
}

/// Makes good what is due; what is left is still to be made good.
fn heal_due(
    cluster: &mut Cluster,
    healing: Vec<(Instant, usize)>,
    now: Instant,
    harm: &mut Harm,
) -> Vec<(Instant, usize)> {
    let mut left = vec![];
    for (at, number) in healing {
        let node = &mut cluster.nodes[number];
        if at > now {
            left.push((at, number));
        } else if node.is_leaving(LEAVE_DEADLINE) {
            left.push((now + LOOK_AGAIN, number));
        } else {
            node.heal();
            harm.is_over(number);
        }
    }
    left
}
