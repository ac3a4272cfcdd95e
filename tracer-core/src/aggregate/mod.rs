//! From requests to figures: of all, by served port and peer network, by process; and from rejections to rows.

pub mod distribution;
pub mod figures;
mod kept;
pub mod rejections;
pub mod sampler;

use crate::{
    explain::verdict::{Finding, Totals},
    model::{
        listener::Listener,
        peer::Network,
        request::{Request, comm},
    },
};
use distribution::{Distribution, Times};
use figures::{Figures, count};
use kept::Kept;
use rejections::{Explained, Rejections};
use tracer_common::{
    endpoint::Tuple,
    record::{ConnectionRecord, Process},
    turn::Turn,
};

/// Significant digits of the quantiles over all requests.
const DIGITS: u8 = 3;
/// Those of a group: a histogram of two digits has an eighth of the size.
const GROUP_DIGITS: u8 = 2;
/// Groups, processes and kinds of rejections that are kept apart; the rest is counted together.
pub const GROUPS: usize = 64;

/// What requests are grouped by: the served port of a network namespace, and the network of the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Group {
    /// The port and its namespace. The address is the wildcard: all that is served on the port is one group.
    pub listener: Listener,
    /// The network of the peer.
    pub network: Network,
}

impl Group {
    const fn of(netns: u32, tuple: &Tuple, network: Network) -> Self {
        Self { listener: Listener::of_port(netns, tuple.local.port), network }
    }
}

/// The requests that processes of one name in one control group read.
#[derive(Clone, Debug)]
pub struct ProcessFigures<T = Distribution> {
    /// The name.
    pub comm: String,
    /// The process; `None` if there were several.
    pub pid: Option<u32>,
    /// The control group.
    pub cgroup: Option<String>,
    /// The systemd unit.
    pub unit: Option<String>,
    /// Their totals.
    pub total: T,
    /// Requests.
    pub requests: u64,
}

/// The figures of processes at one moment.
pub type ProcessPicture = ProcessFigures<Option<Times>>;

/// The figures of a run.
#[derive(Debug)]
pub struct Summary {
    /// Of all requests.
    pub all: Figures,
    /// What was rejected.
    pub rejections: Rejections,
    groups: Kept<Group, Figures>,
    processes: Kept<(u64, [u8; 16]), ProcessFigures>,
    /// The groups beyond [`GROUPS`], those that are used least, counted together.
    pub other_groups: Option<Figures>,
    /// Requests of the processes beyond [`GROUPS`].
    pub other_processes: u64,
    /// Messages: turns that are no requests.
    pub messages: u64,
    /// Responses that went on for long, in pieces.
    pub streams: u64,
    /// Turns of TLS handshakes and close alerts.
    pub control: u64,
}

impl Default for Summary {
    fn default() -> Self {
        Self {
            all: Figures::new(DIGITS),
            rejections: Rejections::default(),
            groups: Kept::default(),
            processes: Kept::default(),
            other_groups: None,
            other_processes: 0,
            messages: 0,
            streams: 0,
            control: 0,
        }
    }
}

impl Summary {
    /// Counts a turn. Of one that is no request, only the bytes are in the figures of requests.
    pub fn request(&mut self, request: &Request<'_>) {
        let counter = match request.turn {
            Turn::Request | Turn::Body => {
                self.counted(request);
                return;
            }
            Turn::Message => &mut self.messages,
            Turn::Stream => &mut self.streams,
            Turn::Control | Turn::Farewell | Turn::Rest => &mut self.control,
        };
        count(counter, 1);
        self.all.bytes(request);
    }

    fn counted(&mut self, request: &Request<'_>) {
        self.all.request(request);
        self.group(request.record.netns, &request.record.tuple).request(request);
        self.process(request);
    }

    /// Counts a connection.
    pub fn connection(&mut self, record: &ConnectionRecord) {
        self.all.connection(record);
        self.group(record.netns, &record.tuple).connection(record);
    }

    /// The groups, by namespace, port and network.
    pub fn groups(&self) -> Vec<(Group, &Figures)> {
        let mut groups: Vec<_> = self.groups.iter().collect();
        groups.sort_unstable_by_key(|(key, _)| *key);
        groups
    }

    /// What verdicts are made of: `rejected`, each with what was traced of the same port and network.
    pub fn findings<'a>(&self, rejected: &'a [Explained]) -> Vec<Finding<'a>> {
        let finding = |it: &'a Explained| {
            let rejection = &it.row.rejection;
            let listener = Listener::of_port(rejection.netns, rejection.local.port());
            let group = it.row.network.and_then(|network| self.traced(Group { listener, network }));
            Finding { rejection, count: rejection.count, group }
        };
        rejected.iter().map(finding).collect()
    }

    /// How much was traced of `group`, of all namespaces if its own is not known; `None` if some of it may be counted among
    /// the groups that are not kept apart.
    fn traced(&self, group: Group) -> Option<Totals> {
        let Listener { netns, local } = group.listener;
        let is_it = |it: &Group| {
            let at = it.listener;
            (at.local, it.network) == (local, group.network) && (netns == 0 || at.netns == netns)
        };
        let is_whole = if netns == 0 { self.other_groups.is_none() } else { self.groups.is_whole(&group) };
        let of_it = self.groups.iter().filter(|(it, _)| is_it(it)).map(|(_, figures)| Totals::from(figures));
        is_whole.then(|| of_it.fold(Totals::default(), Totals::and))
    }

    /// The processes, the one that read most requests first.
    pub fn processes(&self) -> Vec<ProcessPicture> {
        let mut processes: Vec<_> = self.processes.iter().collect();
        processes.sort_unstable_by_key(|(key, figures)| (std::cmp::Reverse(figures.requests), *key));
        processes.into_iter().map(|(_, figures)| figures.picture()).collect()
    }

    fn group(&mut self, netns: u32, tuple: &Tuple) -> &mut Figures {
        let key = Group::of(netns, tuple, Network::of(&tuple.peer));
        let Self { groups, other_groups, .. } = self;
        let new = || Figures::new(GROUP_DIGITS);
        let make_way = |figures| other_groups.get_or_insert_with(new).merge(&figures);
        groups.entry(key, new, make_way).unwrap_or_else(|| other_groups.get_or_insert_with(new))
    }

    fn process(&mut self, request: &Request<'_>) {
        let process = &request.record.process;
        if process.pid == 0 {
            return;
        }
        let key = (process.cgroup, process.comm);
        let Self { processes, other_processes, .. } = self;
        let make_way = |figures: ProcessFigures| count(other_processes, figures.requests);
        match processes.entry(key, || ProcessFigures::of(process, request), make_way) {
            Some(figures) => figures.request(request),
            None => count(other_processes, 1),
        }
    }
}

impl ProcessFigures {
    fn of(process: &Process, request: &Request<'_>) -> Self {
        Self {
            comm: comm(process).into_owned(),
            pid: Some(process.pid),
            cgroup: request.place.map(|place| place.cgroup.clone()),
            unit: request.place.and_then(|place| place.unit().map(str::to_owned)),
            total: Distribution::new(GROUP_DIGITS),
            requests: 0,
        }
    }

    fn picture(&self) -> ProcessPicture {
        ProcessFigures {
            comm: self.comm.clone(),
            pid: self.pid,
            cgroup: self.cgroup.clone(),
            unit: self.unit.clone(),
            total: self.total.times(),
            requests: self.requests,
        }
    }

    fn request(&mut self, request: &Request<'_>) {
        if self.pid != Some(request.record.process.pid) {
            self.pid = None;
        }
        self.requests += 1;
        if let Some(total) = request.total() {
            self.total.add(total);
        }
    }
}

#[cfg(test)]
mod tests;
