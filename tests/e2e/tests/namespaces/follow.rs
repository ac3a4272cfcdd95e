//! What appears while tracing is traced from then on, and what vanishes is released.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use aya::programs::{SchedClassifier, TcAttachType};
use lab::client::{Client, Request};
use lab::clock::sleep;
use lab::netns::{End, join};
use lab::process::Signal;
use lab::target::{Options, Target};
use lab::topology::target_addresses;
use lab::tracer::{Trace, Tracer, binary};
use lab::{Lab, Namespace, wait_until};

use crate::watch;

/// More than lies between two looks for interfaces, on a host that has more to do.
const FOUND: Duration = Duration::from_secs(10);

/// What a tracer holds: the numbers of its programs, and those of its `tcx` links with the interface of each; 0: it is gone.
#[derive(Debug, Default, PartialEq, Eq)]
struct Held {
    programs: BTreeSet<u32>,
    links: BTreeMap<u32, u32>,
}

impl Held {
    fn by(pid: u32) -> Result<Self> {
        let mut held = Self::default();
        for entry in fs::read_dir(format!("/proc/{pid}/fdinfo")).context("it is gone")?.flatten() {
            // It may have been closed since it was listed.
            let text = fs::read_to_string(entry.path()).unwrap_or_default();
            let value = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
            let number = |name: &str| value(name).and_then(|text| text.split(' ').next()?.parse::<u32>().ok());
            held.programs.extend(number("prog_id:"));
            if value("link_type:") == Some("tcx") {
                held.links.extend(number("link_id:").zip(number("ifindex:")));
            }
        }
        Ok(held)
    }

    /// Whether one of the programs is attached to `eth0` of `namespace`.
    fn is_attached_in(&self, namespace: &Namespace) -> Result<bool> {
        let programs = namespace.enter(|| Ok(SchedClassifier::query_tcx("eth0", TcAttachType::Ingress)?.1))?;
        Ok(programs.iter().any(|program| self.programs.contains(&program.id())))
    }
}

/// The stages of the only connection, and of the only request, to `local`.
fn assert_every_stage(trace: &Trace, local: SocketAddr) {
    let connections: Vec<_> = trace.connections.iter().filter(|it| it.local == local).collect();
    assert_eq!(connections.len(), 1, "{:#?}", trace.connections);
    let stages = connections[0].stages_ns.named();
    assert!(stages.iter().all(|(_, time)| time.is_some()), "{stages:?}");
    let requests: Vec<_> = trace.requests.iter().filter(|it| it.local == local).collect();
    assert_eq!(requests.len(), 1, "{:#?}", trace.requests);
    let stages = requests[0].stages_ns.named();
    assert!(stages.iter().all(|(_, time)| time.is_some()), "{stages:?}");
}

#[test]
fn an_interface_that_appears_is_traced_and_one_that_vanishes_is_released() -> Result<()> {
    let lab = Lab::new()?;
    let _target = Target::start(&lab, "target", &Options::listen(&["0.0.0.0:8080".parse()?]))?;
    let tracer = Tracer::start(&lab, "tracer", &[])?;
    let before = Held::by(tracer.pid())?;
    join(
        End { namespace: &lab.lb, interface: "eth7", addresses: &[("10.79.0.1".parse()?, 24)] },
        End { namespace: &lab.target, interface: "eth7", addresses: &[("10.79.0.2".parse()?, 24)] },
    )?;
    let one_more = |held: Held| held.links.len() == before.links.len() + 1;
    wait_until("eth7 to be found", FOUND, || Held::by(tracer.pid()).is_ok_and(one_more))?;
    let through_eth7: SocketAddr = "10.79.0.2:8080".parse()?;
    Client::new(&lab.lb).request(through_eth7, &Request::get("/"))?;
    lab.target.run("ip", &["link", "delete", "eth7"])?;
    wait_until("eth7 to be released", FOUND, || Held::by(tracer.pid()).is_ok_and(|held| held == before))?;
    Client::new(&lab.lb).request(target_addresses(8080)[0], &Request::get("/"))?;
    sleep(Duration::from_millis(100));
    let trace = tracer.stop()?;
    assert_every_stage(&trace, through_eth7);
    assert_every_stage(&trace, target_addresses(8080)[0]);
    Ok(())
}

/// The filter goes by the interface's name: the next one of that name is one that was asked for.
#[test]
fn only_the_interfaces_that_were_asked_for_are_followed() -> Result<()> {
    let lab = Lab::new()?;
    let _target = Target::start(&lab, "target", &Options::listen(&["0.0.0.0:8080".parse()?]))?;
    let join = |name: &str, network: &str| -> Result<()> {
        let [one, other] = ["1", "2"].map(|host| format!("{network}.{host}").parse());
        join(
            End { namespace: &lab.lb, interface: name, addresses: &[(one?, 24)] },
            End { namespace: &lab.target, interface: name, addresses: &[(other?, 24)] },
        )
    };
    join("eth7", "10.79.0")?;
    let tracer = Tracer::start(&lab, "tracer", &["-i", "eth7"])?;
    let before = Held::by(tracer.pid())?;
    assert_eq!(before.links.len(), 1);
    lab.target.run("ip", &["link", "delete", "eth7"])?;
    join("eth8", "10.80.0")?;
    join("eth7", "10.79.0")?;
    let listed = lab.target.run("ip", &["-o", "link", "show", "eth7"])?;
    let index: u32 = listed.split(':').next().context("its number")?.parse()?;
    let is_found = |held: Held| held.links.values().any(|&interface| interface == index);
    wait_until("the new eth7 to be found", FOUND, || Held::by(tracer.pid()).is_ok_and(is_found))?;
    let asked_for = "10.79.0.2:8080".parse()?;
    for address in [asked_for, "10.80.0.2:8080".parse()?, target_addresses(8080)[0]] {
        Client::new(&lab.lb).request(address, &Request::get("/"))?;
    }
    sleep(Duration::from_millis(300));
    let trace = tracer.stop()?;
    assert_every_stage(&trace, asked_for);
    assert_eq!(trace.requests.len(), 1, "{:#?}", trace.requests);
    Ok(())
}

/// `getifaddrs()` lists the labels of addresses among the interfaces.
#[test]
fn the_label_of_an_address_is_no_interface() -> Result<()> {
    let lab = Lab::new()?;
    lab.target.run("ip", &["address", "add", "10.79.0.9/24", "dev", "eth0", "label", "eth0:1"])?;
    let mut command = lab.target.command(&binary()?.display().to_string())?;
    let output = command.args(["watch", "-i", "eth0:1", "--duration", "100ms"]).output()?;
    let error = String::from_utf8(output.stderr)?;
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(error.starts_with("tracer: no interface \"eth0:1\"; there are: "), "{error}");
    assert_eq!(error.matches("eth0").count(), 2, "{error}");
    Ok(())
}

#[test]
fn a_namespace_that_appears_is_traced_and_one_that_vanishes_is_let_go() -> Result<()> {
    const PORT: u16 = 18_280;
    let directory = tempfile::tempdir()?;
    let first = Lab::new()?;
    let tracer = watch(&first, &[PORT], &directory.path().join("a.tracer"))?;
    let lab = Lab::new()?;
    let target = Target::start(&lab, "target", &Options::listen(&[([0, 0, 0, 0], PORT).into()]))?;
    let netns = u32::try_from(lab.target.inum()?)?;
    let is_attached = || Held::by(tracer.pid()).and_then(|held| held.is_attached_in(&lab.target)).unwrap_or(false);
    wait_until("the namespace to be found", FOUND, is_attached)?;
    Client::new(&lab.lb).request(target_addresses(PORT)[0], &Request::get("/"))?;
    sleep(Duration::from_millis(300));
    drop(target);
    drop(lab);
    // Its interfaces vanish with it, and what was attached to them is released.
    let is_released = |held: Held| held.links.values().all(|&interface| interface != 0);
    wait_until("its interfaces to be released", FOUND, || Held::by(tracer.pid()).is_ok_and(is_released))?;
    let files = fs::read_dir(format!("/proc/{}/fd", tracer.pid()))?.flatten();
    let held: Vec<_> = files.filter_map(|file| fs::read_link(file.path()).ok()).collect();
    assert!(!held.iter().any(|file| file.to_str() == Some(&format!("net:[{netns}]"))), "{held:?}");
    let trace = tracer.stop()?;
    assert_every_stage(&trace, target_addresses(PORT)[0]);
    assert_eq!(trace.requests[0].netns, Some(netns));
    let compared = trace.status.reconciliation.iter().find(|it| it.netns == netns);
    assert!(compared.is_none_or(|it| it.rows.is_empty()), "its counters were never read: {compared:#?}");
    Ok(())
}

/// `docker`'s port mapping and the like: the accept queue that is full is that of a namespace of its own.
#[test]
fn a_full_accept_queue_of_a_container_is_named() -> Result<()> {
    const PORT: u16 = 18_281;
    let directory = tempfile::tempdir()?;
    let lab = Lab::new()?;
    let mut options = Options::listen(&[target_addresses(PORT)[0]]);
    (options.backlog, options.before_accept) = (1, Duration::from_hours(1));
    let target = Target::start(&lab, "target", &options)?;
    let mut tracer = watch(&lab, &[PORT], &directory.path().join("a.tracer"))?;
    let client = Client::new(&lab.lb).timeout(Duration::from_millis(400));
    let waiting = client.connect_many(target_addresses(PORT)[0], 2)?;
    assert!(client.connect(target_addresses(PORT)[0]).is_err());
    let held = Held::by(tracer.pid())?;
    sleep(Duration::from_millis(300));
    let so_far = tracer.so_far()?;
    let told: Vec<_> = so_far.rejections.iter().filter(|it| it.cause == "accept_queue_full").collect();
    assert_eq!(told.iter().map(|it| it.count).sum::<u64>(), 1, "{:#?}", so_far.rejections);
    assert_eq!(told[0].netns, Some(u32::try_from(lab.target.inum()?)?));
    assert_eq!(told[0].process.as_ref().map(|it| it.pid), Some(target.pid()));
    assert_eq!((told[0].queue_length, told[0].queue_limit), (Some(2), Some(1)));
    drop(waiting);
    // Whatever ends it, nothing of it stays in that namespace.
    assert!(held.is_attached_in(&lab.target)?);
    tracer.process.stop(Signal::KILL)?;
    wait_until("it to be gone", FOUND, || held.is_attached_in(&lab.target).is_ok_and(|it| !it))
}
