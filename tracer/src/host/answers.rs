//! What this host says about a rejection when it is asked: names, listeners, firewall rules, connection tracking, routes.

use super::{
    application, conntrack,
    listener::Listeners,
    route::Routes,
    ruleset::{Dropped, Rulesets, search},
    symbols::Symbols,
};
use foldhash::fast::FixedState;
use std::{
    collections::HashMap,
    net::SocketAddr,
    time::{Duration, Instant},
};
use tracer_common::rejection::{Event, Key, PacketKind, RejectionRecord};
use tracer_core::model::{application::Application, facts::HostFacts, peer, rejection::ProcessName};

/// At most this many of the processes that listen on a port are named.
const MOST_ELDERS: usize = 64;

/// For how long an answer about a process holds: a flood of closes asks about it once.
const LIFETIME: Duration = Duration::from_millis(500);
/// Answers about processes that are kept.
const CAPACITY: usize = 256;

/// This host. Its answers are kept for about a second, so that a flood of rejections costs a look-up each.
#[derive(Debug, Default)]
pub struct Host {
    symbols: Symbols,
    listeners: Listeners,
    rulesets: Rulesets,
    conntrack: conntrack::Tables,
    routes: Routes,
    applications: HashMap<(u32, u32, SocketAddr), (Instant, Application), FixedState>,
}

impl Host {
    /// Finds the functions at these addresses of the kernel in one go, ahead of the events that name them.
    pub fn locate(&mut self, addresses: &[u64]) {
        self.symbols.look_up(addresses);
    }

    /// What this host says about the event, whose drop reason has the name `reason`; asked is only what such an event needs.
    pub fn facts(&mut self, record: &RejectionRecord, reason: Option<String>) -> HostFacts {
        let key = &record.key;
        let location = if key.location == 0 { None } else { self.symbols.name(key.location).map(str::to_owned) };
        let mut facts = HostFacts { reason, location, ..HostFacts::default() };
        let event = Event::of(key.event);
        // A SYN, or the last ACK of a handshake.
        let is_about_listener = PacketKind::numbered(key.packet) == Some(PacketKind::Syn)
            || key.flags & Key::QUEUE_FULL != 0
            || facts.reason.as_deref() == Some("TCP_LISTEN_OVERFLOW");
        if is_about_listener && key.flags & Key::OUTGOING == 0 || event == Some(Event::SynackUnanswered) {
            facts.listens = self.listeners.on(key.netns, key.local.port);
            facts.only_v6 = self.listeners.is_only_v6(key.netns, key.local.port);
            let inode = record.listener();
            facts.owner = inode.and_then(|inode| self.listeners.owner(key.netns, key.local.port, inode));
            let first = || facts.listens.iter().find_map(|(_, process)| process.as_ref());
            let owner = facts.owner.as_ref().or_else(first);
            facts.open_files = owner.and_then(|process| application::open_files_of(process.pid));
        }
        if key.flags & Key::STEERED != 0 {
            let full = self.listeners.full(key.netns, key.local.port);
            facts.full = full.map(|(queue, process)| (queue.length, queue.limit, process));
        }
        if event == Some(Event::SynUnanswered) {
            let (local, peer) = (peer::address(&key.local), peer::address(&record.peer));
            facts.route = self.routes.missing(key.netns, local, peer);
        }
        if event == Some(Event::Dropped) && facts.is_by_netfilter() {
            self.ask_netfilter(record, &mut facts);
        }
        facts
    }

    /// The process that listens on `local`, in the network namespace with inode number `netns`.
    pub fn listener(&mut self, netns: u32, local: SocketAddr) -> Option<ProcessName> {
        let listens = self.listeners.on(netns, local.port());
        listens.into_iter().find(|(address, _)| *address == local).and_then(|(_, process)| process)
    }

    /// What this host says about the process `pid`, or lately said. See [`Host::ask_application`].
    pub fn application(&mut self, pid: u32, netns: u32, local: SocketAddr) -> Application {
        let (now, key) = (Instant::now(), (pid, netns, local));
        if let Some((until, answer)) = self.applications.get(&key)
            && *until > now
        {
            return answer.clone();
        }
        if self.applications.len() >= CAPACITY {
            self.applications.clear();
        }
        let answer = self.ask_application(pid, netns, local);
        self.applications.insert(key, (now + LIFETIME, answer.clone()));
        answer
    }

    /// What this host says about the process `pid`, which serves `local` in the network namespace `netns`; 0: about the one
    /// that listens there, if it is only one and has no workers that serve.
    fn ask_application(&mut self, pid: u32, netns: u32, local: SocketAddr) -> Application {
        let mut listeners = self.listeners.all(netns, local.port());
        listeners.retain(|(at, _)| at.ip() == local.ip() || at.ip().is_unspecified());
        let pids = listeners.iter().filter_map(|(_, process)| process.as_ref().map(|process| process.pid));
        let elders = pids.filter(|&pid| application::is_elder(pid)).take(MOST_ELDERS).collect();
        let listens = !listeners.is_empty();
        let process = match listeners.split_first() {
            Some(((_, process), rest)) if pid == 0 && rest.iter().all(|(_, it)| it == process) => process.clone(),
            _ => None,
        };
        let process = process.filter(|process| !application::shares_sockets(process.pid));
        let pid = process.as_ref().map_or(pid, |process| process.pid);
        let queue = self.listeners.queue(netns, local);
        let queue = queue.map(|queue| (queue.length, queue.limit));
        Application { listens, elders, process, queue, ..application::read(pid) }
    }

    fn ask_netfilter(&mut self, record: &RejectionRecord, facts: &mut HostFacts) {
        let key = &record.key;
        let outgoing = key.flags & Key::OUTGOING != 0;
        let (local, peer) = (peer::socket(&key.local), peer::socket(&record.peer));
        let (source, destination) = if outgoing { (local, peer) } else { (peer, local) };
        let kind = PacketKind::numbered(key.packet).unwrap_or(PacketKind::Other);
        let dropped = Dropped {
            packet: search::Packet { source, destination, kind, outgoing },
            location: facts.location.as_deref(),
            answered: key.flags & (Key::REJECTED_WITH_RESET | Key::REJECTED_WITH_ICMP) != 0,
        };
        let found = self.rulesets.suspects(key.netns, &dropped);
        (facts.rule, facts.candidates, facts.rule_rejects) = (found.rule, found.candidates, found.rejects);
        if let Some(table) = self.conntrack.of(key.netns) {
            facts.conntrack = Some((table.entries, table.limit));
            facts.conntrack_dropped = table.dropped;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, net::TcpListener, os::unix::fs::MetadataExt};
    use tracer_common::endpoint::Endpoint;

    fn record(event: Event, packet: PacketKind, port: u16) -> RejectionRecord {
        let mut record = RejectionRecord::EMPTY;
        record.key.event = event as u8;
        record.key.packet = packet as u8;
        record.key.local = Endpoint::v4([127, 0, 0, 1], port);
        record.key.netns = u32::try_from(fs::metadata("/proc/self/ns/net").unwrap().ino()).unwrap();
        record.peer = Endpoint::v4([127, 0, 0, 1], 41234);
        record
    }

    #[test]
    fn a_refused_syn_is_told_with_who_listens() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let reason = Some("NO_SOCKET".to_owned());
        let facts = Host::default().facts(&record(Event::Dropped, PacketKind::Syn, address.port()), reason);
        assert_eq!(facts.reason.as_deref(), Some("NO_SOCKET"));
        assert_eq!(facts.listens.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [address]);
        let (open, limit) = facts.open_files.unwrap();
        assert!(open != 0 && limit != 0, "{open} of {limit}");
        let (reason, listens) = (facts.reason.clone(), facts.listens.clone());
        let asked = HostFacts { reason, listens, open_files: facts.open_files, ..HostFacts::default() };
        assert_eq!(facts, asked);
    }

    #[test]
    fn what_an_event_does_not_need_is_not_asked() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut host = Host::default();
        assert_eq!(host.facts(&record(Event::DataAfterClose, PacketKind::Data, port), None), HostFacts::default());
        assert_eq!(host.facts(&record(Event::SynUnanswered, PacketKind::Syn, port), None).route, None);
        let mut full = record(Event::Dropped, PacketKind::Ack, port);
        let reason = || Some("NO_SOCKET".to_owned());
        assert_eq!(host.facts(&full, reason()).listens, []);
        full.key.flags = Key::QUEUE_FULL;
        assert_eq!(host.facts(&full, reason()).listens.len(), 1);
    }
}
