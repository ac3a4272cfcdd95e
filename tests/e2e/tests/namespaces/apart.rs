//! Two containers with the same addresses, as those of two hosts have: in lines, JSON, groups, rows and verdict they are two.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lab::Lab;
use lab::client::{Client, Request};
use lab::clock::sleep;
use lab::target::{Options, Target};
use lab::topology::target_addresses;
use serde_json::{Value, json};

use crate::{report, watch};

const SERVED: u16 = 18_180;
const CLOSED: u16 = 18_181;

/// A lab, and a target on it. Dropped in this order.
struct Container {
    _target: Target,
    lab: Lab,
}

impl Container {
    fn new() -> Result<Self> {
        let lab = Lab::new()?;
        let listen = SocketAddr::from(([0, 0, 0, 0], SERVED));
        Ok(Self { _target: Target::start(&lab, "target", &Options::listen(&[listen]))?, lab })
    }

    fn send(&self, requests: usize, refused: usize) -> Result<()> {
        let client = Client::new(&self.lab.lb);
        client.connect(target_addresses(SERVED)[0])?.requests(requests, Duration::ZERO, &Request::get("/"))?;
        for _ in 0..refused {
            ensure!(client.connect(target_addresses(CLOSED)[0]).is_err(), "something listens");
        }
        Ok(())
    }

    fn netns(&self) -> Result<u32> {
        Ok(u32::try_from(self.lab.target.inum()?)?)
    }
}

/// How much of `objects` there is of the namespace, by the member `count`.
fn of<'a>(objects: &'a Value, netns: u32, count: &str) -> Vec<&'a Value> {
    let objects = objects.as_array().into_iter().flatten();
    objects.filter(|object| object["netns"] == netns).map(|object| &object[count]).collect()
}

#[test]
fn equal_addresses_are_two_listeners() -> Result<()> {
    let containers = [Container::new()?, Container::new()?];
    let [one, other] = &containers;
    let file = one.lab.directory().join("a.tracer");
    let tracer = watch(&one.lab, &[SERVED, CLOSED], &file)?;
    one.send(3, 4)?;
    other.send(2, 1)?;
    sleep(Duration::from_millis(300));
    let trace = tracer.stop()?;
    let summary = &trace.summary.more;
    for (container, requests, refused) in [(one, 3, 4), (other, 2, 1)] {
        let (netns, name) = (container.netns()?, container.lab.target.name());
        let served = trace.requests.iter().filter(|it| it.netns == Some(netns)).count();
        assert_eq!(served, requests, "{:#?}", trace.requests);
        assert_eq!(trace.connections.iter().filter(|it| it.netns == Some(netns)).count(), 1);
        let told = trace.rejections.iter().filter(|it| it.netns == Some(netns)).map(|it| it.count).sum::<u64>();
        assert_eq!(told, refused, "{:#?}", trace.rejections);
        assert_eq!(of(&summary["groups"], netns, "requests"), [&json!(requests)], "{summary:#?}");
        assert_eq!(of(&summary["rejections"], netns, "count"), [&json!(refused)], "{summary:#?}");
        assert_eq!(of(&trace.status.more["namespaces"], netns, "name"), [&json!(name)], "{:#?}", trace.status);
    }
    assert_eq!(trace.requests.len(), 5);
    // The report of the recording, as text: it knows the names, and needs neither namespace.
    drop(containers);
    Ok(())
}

#[test]
fn a_report_shows_the_names_that_the_host_had() -> Result<()> {
    const PORTS: [u16; 2] = [SERVED + 10, CLOSED + 10];
    let labs = [Lab::new()?, Lab::new()?];
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("a.tracer");
    let listen = SocketAddr::from(([0, 0, 0, 0], PORTS[0]));
    let targets: Result<Vec<_>> =
        labs.iter().map(|lab| Target::start(lab, "target", &Options::listen(&[listen]))).collect();
    let targets = targets?;
    let tracer = watch(&labs[0], &PORTS, &file)?;
    for (lab, requests) in labs.iter().zip([3, 2]) {
        let client = Client::new(&lab.lb);
        client.connect(target_addresses(PORTS[0])[0])?.requests(requests, Duration::ZERO, &Request::get("/"))?;
        ensure!(client.connect(target_addresses(PORTS[1])[0]).is_err(), "something listens");
        // The name of the first is known before the second is seen.
        sleep(Duration::from_millis(1500));
    }
    tracer.stop()?;
    let names = labs.each_ref().map(|lab| lab.target.name().to_owned());
    drop((targets, labs));
    let text = report(&file, &[])?;
    let verdict = text.split("REJECTED").last().context("rejections")?;
    for name in &names {
        assert!(
            text.lines().any(|line| line.contains(" REJECTED no_listener") && line.contains(name.as_str())),
            "{text}"
        );
        assert!(text.contains(&format!(" to :{} in {name} found nothing that listens", PORTS[1])), "{text}");
        assert!(text.contains(&format!(" :{} in {name} from 10.77.0.0/24", PORTS[0])), "{text}");
        assert!(verdict.lines().any(|line| line.contains("no_listener") && line.contains(name.as_str())), "{text}");
    }
    assert!(text.lines().any(|line| line.contains(&format!(":{} ", PORTS[0])) && line.contains(&names[1])), "{text}");
    Ok(())
}
