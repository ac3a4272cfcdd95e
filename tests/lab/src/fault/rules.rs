//! Rules of nftables.

use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};

use crate::netns::Namespace;

/// What packets a rule is about, as nftables writes it; a verdict follows, such as `drop`.
pub mod matching {
    /// SYN-ACKs.
    pub const SYN_ACKS: &str = "tcp flags & (syn|ack) == (syn|ack)";
    /// Acknowledgements without anything else; those that come with data have PSH, too.
    pub const BARE_ACKS: &str = "tcp flags & (fin|syn|rst|psh|ack) == ack";
    /// Packets that end the sender's direction.
    pub const FINS: &str = "tcp flags & fin == fin";
    /// All of TCP.
    pub const TCP: &str = "meta l4proto tcp";
}

/// Where rules are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// Packets for a socket of the namespace.
    Input,
    /// Packets from a socket of the namespace.
    Output,
    /// Packets from the device `eth0`, before IP sees them.
    Ingress,
    /// The first packet of each connection that comes in, to be sent elsewhere: `redirect to :8080`, `dnat ip to 10.0.0.1:80`.
    Prerouting,
}

impl Hook {
    /// Address family, name of the chain, and what it is.
    const fn chain(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Input => ("inet", "input", "type filter hook input priority 0;"),
            Self::Output => ("inet", "output", "type filter hook output priority 0;"),
            Self::Ingress => ("netdev", "ingress", "type filter hook ingress device \"eth0\" priority 0;"),
            Self::Prerouting => ("inet", "prerouting", "type nat hook prerouting priority dstnat;"),
        }
    }
}

/// A table with one chain in a namespace; deleted on drop.
#[derive(Debug)]
pub struct Rules<'a> {
    namespace: &'a Namespace,
    hook: Hook,
    table: String,
}

impl<'a> Rules<'a> {
    /// Puts `rules` in place, such as `["tcp dport 8080 drop"]`.
    ///
    /// # Errors
    /// Where nft is not installed, or refuses a rule.
    pub fn start(namespace: &'a Namespace, hook: Hook, rules: &[&str]) -> Result<Self> {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let table = format!("lab-{}", COUNTER.fetch_add(1, Ordering::Relaxed));
        let new = Self { namespace, hook, table };
        let (_, _, definition) = hook.chain();
        let mut script = vec![format!("add table {}", new.table())];
        script.push(format!("add chain {} {{ {definition} }}", new.chain()));
        script.extend(rules.iter().map(|rule| format!("add rule {} {rule}", new.chain())));
        // One transaction: all of it or nothing.
        namespace.run("nft", &[&script.join("; ")])?;
        Ok(new)
    }

    /// The chain: address family, table and name.
    #[must_use]
    pub fn chain(&self) -> String {
        format!("{} {}", self.table(), self.hook.chain().1)
    }

    /// The handle of the rule number `index`, from 0.
    ///
    /// # Errors
    /// Where there is no such rule.
    pub fn handle(&self, index: usize) -> Result<u64> {
        let (family, chain, _) = self.hook.chain();
        let listed = self.namespace.run("nft", &["-a", "list", "chain", family, &self.table, chain])?;
        let rules: Vec<&str> =
            listed.lines().filter(|line| line.contains(" # handle ") && !line.contains('{')).collect();
        let rule = rules.get(index).with_context(|| format!("no rule {index} in {listed}"))?;
        let handle = rule.rsplit(' ').next().context("no handle")?;
        handle.parse().with_context(|| format!("not a handle: {rule}"))
    }

    /// How many packets the first rule, which must have a `counter`, has counted.
    ///
    /// # Errors
    /// Where it has none.
    pub fn counted(&self) -> Result<u64> {
        let (family, chain, _) = self.hook.chain();
        let listed = self.namespace.run("nft", &["list", "chain", family, &self.table, chain])?;
        let count = listed.split("counter packets ").nth(1).and_then(|rest| rest.split(' ').next());
        count.and_then(|count| count.parse().ok()).with_context(|| format!("no counter in {listed}"))
    }

    /// Address family and name of the table.
    fn table(&self) -> String {
        format!("{} {}", self.hook.chain().0, self.table)
    }
}

impl Drop for Rules<'_> {
    fn drop(&mut self) {
        let deleted = self.namespace.run("nft", &[&format!("delete table {}", self.table())]);
        if let Err(error) = deleted {
            eprintln!("lab: {error:#}");
        }
    }
}
