//! Threads, connections and temporary files of the processes: when nothing runs, there are as many as before anything ran.

use std::collections::BTreeMap;

use super::node::{Node, Role};

/// Threads that come and go by themselves: those for blocking work end a while after they had some.
const THREADS_SLACK: usize = 4;
/// Connections that processes keep to each peer that they have talked to, at most.
const CONNECTIONS_PER_PEER: usize = 2;

/// What one process has.
#[derive(Clone, Copy, Debug, Default)]
struct Resources {
    threads: usize,
    connections: usize,
    files: usize,
}

impl Resources {
    fn of(node: &Node) -> Self {
        let process = node.process_ref();
        Self { threads: process.threads(), connections: process.sockets(), files: process.temporary_files() }
    }
}

/// The most that a process of each role had when it had done nothing yet.
#[derive(Debug)]
pub(crate) struct Baseline {
    roles: BTreeMap<Role, Resources>,
    peers: usize,
}

impl Baseline {
    /// Of processes that are connected with each other, and have no clients.
    pub(crate) fn of(nodes: &[Node]) -> Self {
        let mut roles: BTreeMap<Role, Resources> = BTreeMap::new();
        for node in nodes.iter().filter(|node| node.role != Role::Etcd) {
            let (now, most) = (Resources::of(node), roles.entry(node.role).or_default());
            most.threads = most.threads.max(now.threads);
            most.connections = most.connections.max(now.connections);
            most.files = most.files.max(now.files);
        }
        Self { roles, peers: nodes.len() }
    }

    /// Fails, naming it, if a process has more.
    pub(crate) fn compare(&self, nodes: &[Node]) -> Result<(), String> {
        for node in nodes {
            let Some(before) = self.roles.get(&node.role) else { continue };
            let now = Resources::of(node);
            let more = now.threads > before.threads + THREADS_SLACK
                || now.connections > before.connections + CONNECTIONS_PER_PEER * self.peers
                || now.files > before.files;
            if more {
                return Err(format!("{} has {now:?}; before anything ran, there were {before:?}", node.name));
            }
        }
        Ok(())
    }
}
