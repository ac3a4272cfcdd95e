//! Each filter lets through what it should, and nothing else.

use anyhow::Result;
use lab::client::{Client, Request};
use lab::target::{Options, Target};
use lab::topology::target_addresses;

use crate::{Served, command, interrupt, of_kind, start, tracer};

/// The member `name` of each request on stdout, sorted, each value once.
fn values(stdout: &str, name: &str) -> Vec<String> {
    let mut values: Vec<String> = of_kind(stdout, "request").iter().map(|it| it[name].to_string()).collect();
    values.sort();
    values.dedup();
    values
}

#[test]
fn port() -> Result<()> {
    let served = Served::new()?;
    let watch = served.watch(&["--json", "--port", "8081"])?;
    served.send(8080, 3)?;
    served.send(8081, 2)?;
    let run = interrupt(watch)?;
    run.assert_done();
    assert_eq!(values(&run.stdout, "local"), ["\"10.77.0.2:8081\""], "{run:#?}");
    assert_eq!(of_kind(&run.stdout, "request").len(), 2);
    let status = &of_kind(&run.stdout, "status")[0];
    assert_eq!(
        (&status["requests"], &status["connections"]),
        (&2.into(), &1.into()),
        "filtered in the kernel: {status}"
    );
    Ok(())
}

#[test]
fn peer() -> Result<()> {
    let served = Served::new()?;
    for (network, requests) in [
        ("10.77.0.0/24", 3),
        ("10.77.0.1", 3),
        ("10.77.0.2", 0),
        ("10.78.0.0/16", 0),
        ("fd77::/64", 2),
        ("::/0", 5),
        ("0.0.0.0/0", 3),
    ] {
        let watch = served.watch(&["--json", "--peer", network])?;
        served.send(8080, 3)?;
        let client = Client::new(&served.lab.lb);
        client.connect(target_addresses(8080)[1])?.requests(2, std::time::Duration::ZERO, &Request::get("/"))?;
        let run = interrupt(watch)?;
        run.assert_done();
        assert_eq!(of_kind(&run.stdout, "request").len(), requests, "{network}: {run:#?}");
        assert_eq!(of_kind(&run.stdout, "status")[0]["requests"], requests, "{network}: {run:#?}");
    }
    Ok(())
}

#[test]
fn pid() -> Result<()> {
    let served = Served::new()?;
    let other = Target::start(&served.lab, "other", &Options::listen(&["[::]:8082".parse()?]))?;
    let watch = served.watch(&["--json", "--pid", &other.pid().to_string()])?;
    served.send(8080, 3)?;
    served.send(8082, 2)?;
    let run = interrupt(watch)?;
    run.assert_done();
    assert_eq!(values(&run.stdout, "pid"), [other.pid().to_string()], "{run:#?}");
    assert_eq!(of_kind(&run.stdout, "request").len(), 2, "{run:#?}");
    Ok(())
}

#[test]
fn min() -> Result<()> {
    let served = Served::new()?;
    for (arguments, field) in [(&["--json", "--min", "100ms"][..], true), (&["--min", "100ms"], false)] {
        let watch = served.watch(arguments)?;
        served.send(8080, 5)?;
        served.connect(8080)?.request(&Request::get("/").header("X-Before-Write", 120))?;
        let run = interrupt(watch)?;
        run.assert_done();
        if field {
            assert_eq!(of_kind(&run.stdout, "request").len(), 1, "{run:#?}");
            assert_eq!(of_kind(&run.stdout, "summary")[0]["requests"], 6, "the figures count all: {run:#?}");
        } else {
            assert_eq!(run.stdout.lines().filter(|line| line.contains("10.77.0.1:")).count(), 1, "{run:#?}");
            assert!(run.stdout.contains("6 requests on 2 connections"), "{run:#?}");
        }
    }
    Ok(())
}

#[test]
fn network_namespace_by_each_of_its_names() -> Result<()> {
    let served = Served::new()?;
    // Another namespace in which something listens, too.
    let elsewhere = Target::start_in(
        &served.lab.lb,
        served.lab.directory(),
        "elsewhere",
        &Options::listen(&["0.0.0.0:8080".parse()?]),
    )?;
    let inode = served.lab.target.inum()?;
    let names = [
        served.lab.target.name().to_owned(),
        served.lab.target.path().display().to_string(),
        served.target.pid().to_string(),
        format!("/proc/{}/ns/net", served.target.pid()),
        inode.to_string(),
        format!("net:[{inode}]"),
    ];
    for name in names {
        let watch = start(&served.lab, command(["watch", "--json", "--netns", &name])?)?;
        served.send(8080, 2)?;
        Client::new(&served.lab.target).request("10.77.0.1:8080".parse()?, &Request::get("/"))?;
        let run = interrupt(watch)?;
        run.assert_done();
        assert_eq!(of_kind(&run.stdout, "request").len(), 2, "{name}: {run:#?}");
        assert_eq!(values(&run.stdout, "pid"), [served.target.pid().to_string()], "{name}: {run:#?}");
        let syn = of_kind(&run.stdout, "status")[0]["hooks"][0]["attached"].clone();
        assert_eq!(syn, "tcx ingress on lo, eth0", "the interfaces are those of the namespace: {name}");
    }
    elsewhere.wait_for(6)?;
    Ok(())
}

#[test]
fn interface() -> Result<()> {
    let served = Served::new()?;
    let watch = served.watch(&["--json", "-i", "lo"])?;
    served.send(8080, 2)?;
    Client::new(&served.lab.target).request("127.0.0.1:8080".parse()?, &Request::get("/"))?;
    let run = interrupt(watch)?;
    run.assert_done();
    let status = &of_kind(&run.stdout, "status")[0];
    assert_eq!(status["hooks"][0]["attached"], "tcx ingress on lo", "{status}");
    assert_eq!(values(&run.stdout, "local"), ["\"127.0.0.1:8080\""], "only what came through lo: {run:#?}");
    Ok(())
}

#[test]
fn an_interface_of_another_namespace_is_unknown() -> Result<()> {
    let served = Served::new()?;
    let netns = served.lab.target.name();
    tracer(&["watch", "--netns", netns, "-i", "eth9", "-d", "1s"])?.assert_refused(2, &["eth9", "there are: lo, eth0"]);
    Ok(())
}
