//! Machines of a cluster: each with an address of its own in a network namespace, so that its link can be cut; or, where
//! namespaces cannot be made, all of them on loopback.

use std::net::TcpListener;
use std::process::{Command, Stdio};

/// Where a process lives.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    /// Its IP address.
    pub(crate) address: String,
    /// Its network namespace; `None`: it shares loopback with the others.
    pub(crate) namespace: Option<String>,
    /// The end of its cable at the switch.
    cable: String,
}

impl Host {
    /// `usual` where the host has its ports to itself, else one that is free.
    pub(crate) fn port(&self, ports: &mut Ports, usual: u16) -> u16 {
        if self.namespace.is_some() { usual } else { ports.next() }
    }

    /// Cuts the link, or mends it. False if there is none of its own.
    pub(crate) fn set_link(&self, up: bool) -> bool {
        self.namespace.is_some() && ip(&["link", "set", &self.cable, if up { "up" } else { "down" }])
    }
}

/// Free ports of this machine, which all differ: they stay taken until this is dropped.
#[derive(Default)]
pub(crate) struct Ports(Vec<TcpListener>);

impl Ports {
    fn next(&mut self) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("its address").port();
        self.0.push(listener);
        port
    }
}

/// A switch with a cable to each host. Removed when dropped.
pub(crate) struct Net {
    switch: String,
    hosts: Vec<Host>,
    /// True if links can be cut.
    pub(crate) has_links: bool,
}

impl Net {
    /// A network of so many hosts. Without the right to make namespaces, or without the tool `ip`: on loopback.
    pub(crate) fn new(hosts: usize) -> Self {
        // Unique among the processes of this machine, and short enough for the name of an interface.
        let id = std::process::id() % 100_000;
        let mut net = Self { switch: format!("sp{id}"), hosts: vec![], has_links: false };
        let subnet = format!("10.213.{}", id % 250);
        net.has_links = ip(&["link", "add", &net.switch, "type", "bridge"])
            && ip(&["addr", "add", &format!("{subnet}.1/24"), "dev", &net.switch])
            && ip(&["link", "set", &net.switch, "up"]);
        for number in 0..hosts {
            let host = match net.has_links {
                true => net.plug_in(number, &format!("{subnet}.{}", number + 2)),
                false => None,
            };
            match host {
                Some(host) => net.hosts.push(host),
                None => {
                    net.has_links = false;
                    break;
                }
            }
        }
        if !net.has_links {
            let loopback = Host { address: "127.0.0.1".to_owned(), namespace: None, cable: String::new() };
            net.remove();
            net.hosts = vec![loopback; hosts];
        }
        net
    }

    pub(crate) fn host(&self, number: usize) -> Host {
        self.hosts[number].clone()
    }

    fn plug_in(&self, number: usize, address: &str) -> Option<Host> {
        let name = format!("{}-{number}", self.switch);
        let (cable, plug) = (format!("{name}s"), format!("{name}h"));
        let inside = |arguments: &[&str]| ip(&[&["-n", name.as_str()], arguments].concat());
        let host = Host { address: address.to_owned(), namespace: Some(name.clone()), cable: cable.clone() };
        let made = ip(&["netns", "add", &name])
            && ip(&["link", "add", &cable, "type", "veth", "peer", "name", &plug, "netns", &name])
            && ip(&["link", "set", &cable, "master", &self.switch, "up"])
            && inside(&["addr", "add", &format!("{address}/24"), "dev", &plug])
            && inside(&["link", "set", &plug, "up"])
            && inside(&["link", "set", "lo", "up"]);
        if !made {
            ip(&["netns", "del", &name]);
        }
        made.then_some(host)
    }

    fn remove(&self) {
        for host in &self.hosts {
            if let Some(namespace) = &host.namespace {
                ip(&["netns", "del", namespace]);
            }
        }
        ip(&["link", "del", &self.switch]);
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        if self.has_links {
            self.remove();
        }
    }
}

fn ip(arguments: &[&str]) -> bool {
    let run = Command::new("ip").args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status();
    run.is_ok_and(|status| status.success())
}
