//! The values that fill the gaps of the templates: figures and names of a rejection, as people write them.

use super::{Limits, reasons};
use crate::{
    explain::servers,
    model::{
        peer::Network,
        rejection::{CloseReason, Evidence, Facts, ProcessName, Rejection, Rule, Setting},
    },
    units::{Bytes, Nanoseconds, Plural},
};
use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};
use tracer_common::endpoint::Endpoint;

/// Candidates and addresses that a sentence lists.
const LISTED: usize = 3;
/// A connection that was idle for less was closed for another reason than its keep-alive time.
pub const LEAST_IDLE: Duration = Duration::from_secs(1);
/// Without a byte for less, a request is not said to have stalled, in nanoseconds.
const LEAST_SILENCE: u64 = 1_000_000_000;
/// A server with more threads is not at the limit of these.
const FEW_THREADS: u64 = 8;
/// A load balancer counts its idle timeout from when it sent, and this host from when it received.
const SLACK: Duration = Duration::from_millis(100);

/// What a template is about.
#[derive(Clone, Copy)]
pub struct Known<'a> {
    /// The rejection.
    pub rejection: &'a Rejection,
    /// What is assumed of the load balancer.
    pub limits: Limits,
}

/// A value that a template may name.
pub struct Value {
    /// Its name.
    pub name: &'static str,
    /// The value, if it is known. What is only asked for (`{?name}`) is an empty text.
    pub of: fn(&Known<'_>) -> Option<String>,
}

const fn value(name: &'static str, of: fn(&Known<'_>) -> Option<String>) -> Value {
    Value { name, of }
}

/// All values.
pub const VALUES: &[Value] = &[
    // Who. `listener`, `address`, `port`: this host's side; `any`: the wildcard address of its family.
    value("listener", |it| {
        (it.local().port() != 0 && !it.local().ip().is_unspecified()).then(|| it.local().to_string())
    }),
    value("address", |it| known_address(it.local())),
    value("port", |it| (it.local().port() != 0).then(|| it.local().port().to_string())),
    value("any", |it| Some(if it.local().is_ipv4() { "0.0.0.0" } else { "[::]" }.to_owned())),
    // The peer with its port, or the network of several; its address; its network in any case.
    value("peer", |it| if it.peer().port() == 0 { network(it.peer()) } else { Some(it.peer().to_string()) }),
    value("peer_ip", |it| known_address(it.peer())),
    value("network", |it| network(it.peer())),
    // The process that listens or reads, such as `gunicorn[812]`; the one that ended the connection, and how.
    value("process", |it| it.facts().process.as_ref().map(process)),
    value("pid", |it| it.facts().process.as_ref().map(|it| it.pid.to_string())),
    value("ended_by", |it| it.facts().ended_by.as_ref().map(ender)),
    // It did not close the connection but exited, or was killed; by the kernel, because memory was short.
    value("died", |it| it.when(it.facts().ended_by.as_ref().is_some_and(has_died))),
    value("out_of_memory", |it| {
        it.when(it.facts().ended_by.as_ref().and_then(|by| by.how.as_deref()).is_some_and(|how| how.contains("memory")))
    }),
    // The settings of that server, if it is a well-known one; the value that is set now, if it was found.
    value("keep_alive", |it| it.server().map(|server| it.with_value(server.keep_alive))),
    value("workers", |it| it.server().map(|server| server.workers.to_owned())),
    value("backlog", |it| it.server().map(|server| server.backlog.to_owned())),
    value("limits", |it| it.server().map(|server| server.limits.to_owned())),
    value("body", |it| it.server().map(|server| server.body.to_owned())),
    value("lingering", |it| it.server().map(|server| server.lingering.to_owned())),
    // Its keep-alive setting as it is written for a time that is long enough.
    value("longer", |it| {
        // Another server in a JVM does not know the property of the JDK's own.
        let server = it.server().filter(|server| server.name != "jdk" || it.facts().setting.is_some())?;
        Some(format!("`{}`", server.longer_than(it.limits.idle_timeout)?))
    }),
    // How to make a change take effect, and what recycles workers.
    value("apply", |it| it.server().filter(|server| server.longer.is_some()).map(|server| it.apply(server))),
    value("recycle", |it| it.server().map(|server| server.recycle.to_owned())),
    // The server answers every request that came whole, and closed this connection after a silence: the request did not
    // come whole. A server that ends takes whole requests along.
    value("waits_for_body", |it| {
        let facts = it.facts();
        let died = facts.ended_by.as_ref().is_some_and(has_died);
        let is_silent = facts.silent_ns.is_some_and(|silent| silent >= LEAST_SILENCE);
        it.when(!died && is_silent && it.server().is_some_and(|server| server.answers_everything))
    }),
    // Why the connection was closed, in words; whether the server stopped, a worker of it ended, or its keep-alive time
    // ran out.
    value("why", why),
    value("stops", |it| it.when(it.facts().closed_because.is_some_and(|why| why != CloseReason::KeepAlive))),
    value("worker_ended", |it| it.when(it.facts().closed_because == Some(CloseReason::WorkerEnded))),
    value("keep_alive_time", |it| it.when(it.facts().closed_because == Some(CloseReason::KeepAlive))),
    // How many connections closed after the same idle time; how many ended in the same instant.
    value("same_idle", |it| it.facts().same_idle.map(|it| it.to_string())),
    value("together", |it| it.facts().closed_together.filter(|&it| it > 1).map(|it| it.to_string())),
    // Its threads, if they are few and each serves one request: the requests beyond that number wait.
    value("threads", |it| {
        let is_threaded = it.server().is_none_or(|server| server.workers.contains("thread"));
        let threads = it.facts().threads.filter(|&threads| is_threaded && threads <= FEW_THREADS);
        threads.map(|threads| Plural(threads, "thread").to_string())
    }),
    // The systemd unit in which its limits are set.
    value("unit", |it| it.facts().unit.as_ref().map(|unit| format!("`{unit}`"))),
    value("container", |it| it.facts().container.clone()),
    // The connection was idle for longer than the load balancer is assumed to keep it.
    value("beyond_timeout", |it| it.when(it.facts().closed_because.is_none() && it.is_beyond_timeout())),
    // The connection was idle for too short a time, or another one for too long, to have reached a keep-alive time.
    value("no_keep_alive", |it| it.when(it.facts().closed_because.is_none() && it.is_no_keep_alive())),
    // The open files of the process that closed or listens, and how many it may have; whether that is all of them.
    value("open_files", |it| it.facts().open_files.map(|(open, limit)| format!("{open} of {limit}"))),
    value("files_at_limit", |it| it.when(it.facts().open_files.is_some_and(are_at_limit))),
    value("count_files", |it| {
        let pid = it.facts().ended_by.as_ref()?.pid;
        Some(format!("`grep 'open files' /proc/{pid}/limits; ls /proc/{pid}/fd | wc -l`"))
    }),
    // Commands with a `|` in them, which is no text of a template.
    value("kernel_log", |_| Some("`journalctl -k -g 'segfault|killed process'`".to_owned())),
    value("memory_log", |_| Some("`journalctl -k -g 'out of memory|oom-kill'`".to_owned())),
    // Where something listens on the port instead; whether all of that is loopback.
    value("listens", |it| listed(&it.facts().listens, SocketAddr::to_string)),
    value("loopback", |it| {
        let listens = &it.facts().listens;
        it.when(!listens.is_empty() && listens.iter().all(|it| it.ip().is_loopback()))
    }),
    value("forwarded_to", |it| it.facts().forwarded_to.map(|it| it.to_string())),
    value("only_v6", |it| it.when(it.facts().only_v6)),
    // The packet: `SYN`, `data packet`; whether it was one of this host's own.
    value("packet", |it| it.facts().packet.as_deref().map(packet)),
    value("outgoing", |it| it.when(it.facts().outgoing)),
    // Why the kernel dropped it: its own name, where in the kernel, in words, what to do.
    value("reason", |it| it.rejection.reason.clone()),
    value("location", |it| it.rejection.location.clone()),
    value("reason_words", |it| it.reason().map(|it| it.words.to_owned())),
    value("reason_advice", |it| it.reason().and_then(|it| it.advice).map(str::to_owned)),
    // The firewall: the rule, its chain, the rules that it may have been, how it answered.
    value("rule", |it| it.facts().rule.as_ref().map(rule)),
    value("chain", |it| it.facts().rule.as_ref().map(|it| it.chain.clone())),
    // What shows a rule that nft does not know of: that rule, and all of them.
    value("legacy_rule", |it| it.facts().rule.as_ref().and_then(legacy_rule)),
    value("legacy_rules", |it| {
        it.facts().candidates.iter().find_map(legacy_program).map(|program| format!("{program}-save -c"))
    }),
    value("candidates", |it| listed(&it.facts().candidates, rule)),
    value("answer", |it| it.facts().answer.clone()),
    // The XDP programs that get packets before anything else does.
    value("xdp", |it| listed(&it.facts().xdp, String::clone)),
    // Figures.
    value("queue_length", |it| it.facts().queue_length.map(|it| it.to_string())),
    value("queue_limit", |it| it.facts().queue_limit.map(|it| it.to_string())),
    value("conntrack_entries", |it| it.facts().conntrack.map(|(entries, _)| entries.to_string())),
    value("conntrack_limit", |it| it.facts().conntrack.map(|(_, limit)| limit.to_string())),
    value("conntrack_double", |it| it.facts().conntrack.map(|(_, limit)| limit.saturating_mul(2).to_string())),
    value("route", |it| it.facts().route.clone()),
    value("idle", |it| it.facts().idle_ns.map(time)),
    value("late", |it| it.facts().late_ns.map(time)),
    value("waited", |it| it.facts().waited_ns.map(time)),
    value("silent", |it| it.facts().silent_ns.filter(|&it| it >= LEAST_SILENCE).map(time)),
    value("zero_window", |it| it.facts().zero_window_ns.map(time)),
    // Unknown where they are 0: then there is nothing to say of them.
    value("bytes_out", |it| it.facts().bytes_out.filter(|&it| it != 0).map(|it| Bytes(it).to_string())),
    value("unanswered", |it| it.when(it.facts().bytes_out == Some(0))),
    value("ended_unanswered", |it| it.when(it.facts().ended_unanswered)),
    value("unread", |it| it.facts().unread.filter(|&it| it != 0).map(|it| Bytes(it.into()).to_string())),
    value("resent_bytes", |it| it.facts().resent_bytes.map(|it| it.to_string())),
    // The packet that asks whether the way takes as large a one: without the headers of IP and ICMP, with those of IP and TCP.
    value("resent_probe", |it| it.facts().resent_bytes.map(|it| (it + 24).to_string())),
    value("retransmits", |it| {
        let retransmits = it.facts().retransmits.filter(|&it| it != 0);
        retransmits.map(|it| Plural(it.into(), "retransmit").to_string())
    }),
    value("half_closed", |it| it.when(it.facts().half_closed)),
    value("never_accepted", |it| it.when(it.facts().never_accepted)),
    value("never_read", |it| it.when(it.facts().never_read)),
    value("reads_unseen", |it| it.when(it.facts().reads_unseen)),
    value("closed_unread", |it| it.when(it.facts().closed_unread)),
    // The load balancer's idle timeout; whether the request waited for so long.
    value("idle_timeout", |it| Some(limit(it.limits.idle_timeout))),
    value("timed_out", |it| it.when(has_timed_out(it.facts(), it.limits))),
    // A pattern of events says so, no single event.
    value("inferred", |it| it.when(it.rejection.evidence == Evidence::Inferred)),
];

impl Known<'_> {
    /// The value of that name, if there is one and it is known.
    pub fn value(&self, name: &str) -> Option<String> {
        VALUES.iter().find(|value| value.name == name).and_then(|value| (value.of)(self))
    }

    const fn facts(&self) -> &Facts {
        &self.rejection.facts
    }

    const fn local(&self) -> SocketAddr {
        self.rejection.local
    }

    const fn peer(&self) -> SocketAddr {
        self.rejection.peer
    }

    /// The server that closed, or else the one that reads or listens, if it is a well-known one.
    fn server(&self) -> Option<&'static servers::Server> {
        let facts = self.facts();
        let named = facts.server.as_deref().and_then(servers::named);
        named.or_else(|| server(facts.ended_by.as_ref())).or_else(|| server(facts.process.as_ref()))
    }

    /// Whether what is known of the connection and of others shows that it was not closed for its keep-alive time.
    fn is_no_keep_alive(&self) -> bool {
        let facts = self.facts();
        facts.outlived_ns.is_some() || facts.idle_ns.is_some_and(|idle| Duration::from_nanos(idle) < LEAST_IDLE)
    }

    /// Whether the connection had been idle for as long as the load balancer is assumed to keep one.
    fn is_beyond_timeout(&self) -> bool {
        self.facts().idle_ns.is_some_and(|idle| Duration::from_nanos(idle) >= self.limits.idle_timeout)
    }

    /// How a change to `server` takes effect: with its own command, or with a restart of its service. A container that is only
    /// started again has its old arguments and files.
    fn apply(&self, server: &servers::Server) -> String {
        let Facts { unit, container, .. } = self.facts();
        match (server.reload, unit, container) {
            (_, _, Some(container)) => format!("Then recreate container {container} with it"),
            (Some(command), unit, None) => {
                format!("Then `{}`", command.replace("{unit}", unit.as_deref().unwrap_or(server.name)))
            }
            (None, Some(unit), None) => format!("Then `systemctl restart {unit}`"),
            (None, None, None) => "Then restart it".to_owned(),
        }
    }

    /// `setting`, with the value that it has now, if that was found.
    fn with_value(&self, setting: &str) -> String {
        match &self.facts().setting {
            Some(Setting { value, source, .. }) => format!("{setting} (now {value}, {source})"),
            None => setting.to_owned(),
        }
    }

    fn reason(&self) -> Option<&'static reasons::Reason> {
        let name = self.rejection.reason.as_deref()?;
        let of_syn = || if self.facts().packet.as_deref() == Some("SYN") { reasons::of_syn(name) } else { None };
        reasons::of(name).or_else(of_syn)
    }

    /// What only asks is known if it is so, and prints nothing.
    #[expect(clippy::unused_self, reason = "reads like the other values")]
    fn when(&self, it_is_so: bool) -> Option<String> {
        it_is_so.then(String::new)
    }
}

/// The program that shows a rule of xtables, which `nft` does not know of.
fn legacy_program(rule: &Rule) -> Option<&'static str> {
    match rule.chain.split(' ').next() {
        Some("iptables") => Some("iptables-legacy"),
        Some("ip6tables") => Some("ip6tables-legacy"),
        _ => None,
    }
}

/// The command that shows the chain of such a rule.
fn legacy_rule(rule: &Rule) -> Option<String> {
    let program = legacy_program(rule)?;
    let mut place = rule.chain.split(' ').skip(1);
    Some(format!("{program} -t {} -S {}", place.next()?, place.next()?))
}

/// Why this host closed the connection, with what that was inferred from.
fn why(it: &Known<'_>) -> Option<String> {
    let facts = it.facts();
    let others = match facts.closed_together {
        Some(together) if together > 1 => format!(", with {together} connections in that instant"),
        _ => String::new(),
    };
    Some(match facts.closed_because {
        Some(CloseReason::Stopped) => format!("it stopped: its listener closed at the same moment{others}"),
        Some(CloseReason::Replaced) => {
            format!(
                "it was restarted: its listener closed at the same moment{others}, and something listens there again"
            )
        }
        Some(CloseReason::WorkerEnded) => {
            format!(
                "its worker ended, while the port was still served: a reload, a recycled worker or the beginning of a \
                 stop{others}"
            )
        }
        Some(CloseReason::ProcessEnded) => format!("the process ended{others}"),
        Some(CloseReason::Together) => format!(
            "it stopped or reloaded: {} connections with different idle times closed in that instant",
            facts.closed_together.unwrap_or(0)
        ),
        Some(CloseReason::Early) => {
            let Setting { name, value, source } = facts.setting.as_ref()?;
            format!(
                "long before its keep-alive time, {name} {value} ({source}): it stopped, reloaded, recycled a worker or \
                 ran into a limit{others}"
            )
        }
        Some(CloseReason::KeepAlive) => format!(
            "its keep-alive is shorter than the load balancer's {}: {} connections closed after the same idle time",
            limit(it.limits.idle_timeout),
            facts.same_idle.unwrap_or(0)
        ),
        None => match facts.outlived_ns {
            Some(outlived) => format!(
                "a stop, a reload or a limit of connections or requests{others}; no keep-alive time: another connection was idle \
                 for {} and lived on",
                time(outlived)
            ),
            None if it.is_no_keep_alive() => {
                format!("a stop, a reload or a limit of connections or requests{others}: which of these is not known")
            }
            None if it.is_beyond_timeout() => format!(
                "a stop, a reload, or an idle timeout of the load balancer that is longer than the {} assumed{others}: which of \
                 these is not known",
                limit(it.limits.idle_timeout)
            ),
            None => {
                format!("a stop, a reload or a keep-alive time that is too short{others}: which of these is not known")
            }
        },
    })
}

/// Whether all files that a process may open are open, but for the few that it has just closed.
const fn are_at_limit((open, limit): (u64, u64)) -> bool {
    const FEW: u64 = 4;
    limit != 0 && open.saturating_add(FEW) >= limit
}

/// Whether a keep-alive time of `idle` nanoseconds is shorter than the load balancer's.
pub fn is_too_short(idle: u64, limits: Limits) -> bool {
    (LEAST_IDLE..limits.idle_timeout).contains(&Duration::from_nanos(idle))
}

/// Whether the request had waited for as long as the load balancer's idle timeout.
pub fn has_timed_out(facts: &Facts, limits: Limits) -> bool {
    facts.waited_ns.is_some_and(|waited| Duration::from_nanos(waited) + SLACK >= limits.idle_timeout)
}

/// Whether the process ended the connection by ending itself.
pub fn has_died(process: &ProcessName) -> bool {
    process.how.as_deref().is_some_and(|how| how != "closed")
}

/// The network of `peer`; unknown for the address of nobody.
pub fn network(peer: SocketAddr) -> Option<String> {
    let address = match peer.ip() {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    };
    let endpoint = Endpoint::v6(address.octets(), peer.port());
    (!peer.ip().is_unspecified()).then(|| Network::of(&endpoint).to_string())
}

fn server(process: Option<&ProcessName>) -> Option<&'static servers::Server> {
    process.and_then(|process| servers::of(&process.comm))
}

fn known_address(side: SocketAddr) -> Option<String> {
    (!side.ip().is_unspecified()).then(|| side.ip().to_string())
}

fn process(process: &ProcessName) -> String {
    format!("{}[{}]", process.comm, process.pid)
}

fn ender(process: &ProcessName) -> String {
    let name = self::process(process);
    match &process.how {
        Some(how) if has_died(process) => format!("{name} ({how})"),
        _ => name,
    }
}

fn packet(kind: &str) -> String {
    if kind == "data" { "data packet".to_owned() } else { kind.to_owned() }
}

fn rule(rule: &Rule) -> String {
    match rule.handle {
        Some(handle) => format!("`{}` (handle {handle} in {})", rule.text, rule.chain),
        None => format!("`{}` in {}", rule.text, rule.chain),
    }
}

/// The first few of `items`; nothing if there are none.
fn listed<T>(items: &[T], text: impl Fn(&T) -> String) -> Option<String> {
    let shown = items.iter().take(LISTED).map(text).collect::<Vec<_>>().join(", ");
    let more = items.len().saturating_sub(LISTED);
    match (items.len(), more) {
        (0, _) => None,
        (_, 0) => Some(shown),
        _ => Some(format!("{shown} and {more} more")),
    }
}

fn time(nanoseconds: u64) -> String {
    Nanoseconds(nanoseconds).to_string()
}

/// A setting: `60s`, not `60.0s`.
fn limit(duration: Duration) -> String {
    if duration.subsec_nanos() == 0 {
        format!("{}s", duration.as_secs())
    } else {
        time(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))
    }
}
