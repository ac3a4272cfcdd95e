//! Nothing listens there, or there is no way, or no way back.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Result, ensure};
use lab::counters::Counters;
use lab::fault::{Hook, Rules, matching};
use lab::netns::{End, join};
use lab::target::{Options, Target};
use lab::topology::target_addresses;

use crate::scene::{ONE_SYN, Scene, assert_each_way, assert_only, at_once, ms, peer_of, settle, ways};

/// Nothing listens on the port that was asked for; something does on `listens`, with the same port.
fn connect_elsewhere(scene: &Scene, listens: &[SocketAddr], port: u16) -> Result<()> {
    let other = (!listens.is_empty()).then(|| Target::start(&scene.lab, "other", &Options::listen(listens)));
    let other = other.transpose()?;
    let tracer = scene.trace(&[])?;
    for way in target_addresses(port).into_iter().flat_map(|way| [way; 2]) {
        ensure!(scene.client().connect(way).is_err(), "something listens on {way}");
    }
    let trace = settle(tracer)?;
    drop(other);
    let told = assert_only(&trace, "no_listener", 4, &[]);
    for way in target_addresses(port) {
        let of_it: Vec<_> = told.iter().filter(|told| told.local == Some(way)).collect();
        assert_eq!(of_it.iter().map(|told| told.count).sum::<u64>(), 2, "{told:#?}");
        for told in of_it {
            assert_eq!((told.evidence.as_str(), told.reason()), ("observed", Some("NO_SOCKET")), "{told:#?}");
            assert_eq!(told.peer.map(|peer| peer.ip()), Some(peer_of(way)), "{told:#?}");
            for address in listens.iter().filter(|address| address.is_ipv4() == way.is_ipv4()) {
                assert!(told.listens.contains(address), "{told:#?}");
                assert!(told.explanation.contains(&address.ip().to_string()), "{told:#?}");
            }
            assert!(!listens.is_empty() || told.listens.is_empty(), "{told:#?}");
        }
    }
    Ok(())
}

#[test]
fn nothing_listens() -> Result<()> {
    connect_elsewhere(&Scene::new(|_| {})?, &[], 8089)
}

#[test]
fn it_listens_on_the_loopback_only() -> Result<()> {
    connect_elsewhere(&Scene::new(|_| {})?, &["127.0.0.1:8090".parse()?, "[::1]:8090".parse()?], 8090)
}

#[test]
fn it_listens_on_another_address() -> Result<()> {
    let scene = Scene::new(|_| {})?;
    // An address of IPv6 cannot be listened on before it is known to be nobody else's.
    for (address, at_once) in [("10.77.0.3/24", &[][..]), ("fd77::3/64", &["nodad"])] {
        scene.lab.target.run("ip", &[&["address", "add", address, "dev", "eth0"], at_once].concat())?;
    }
    connect_elsewhere(&scene, &["10.77.0.3:8091".parse()?, "[fd77::3]:8091".parse()?], 8091)
}

/// Two interfaces, and the peer comes through the other one than the way back to it: as on hosts with several ENIs. IPv6
/// has no such filter.
#[test]
fn the_reverse_path_filter() -> Result<()> {
    let scene = Scene::new(|_| {})?;
    let (mine, theirs): (IpAddr, IpAddr) = ("10.79.0.1".parse()?, "10.79.0.2".parse()?);
    join(
        End { namespace: &scene.lab.lb, interface: "eth7", addresses: &[(mine, 24)] },
        End { namespace: &scene.lab.target, interface: "eth7", addresses: &[(theirs, 24)] },
    )?;
    scene.lab.target.sysctl("net.ipv4.conf.all.rp_filter", "1")?;
    let tracer = scene.trace(&[])?;
    let before = Counters::read(&scene.lab.target)?;
    let [v4, _] = ways();
    for _ in 0..3 {
        ensure!(scene.client().source(mine).timeout(ONE_SYN).connect(v4).is_err(), "it was not filtered");
    }
    let filtered = Counters::read(&scene.lab.target)?.since(&before, "TcpExtIPReversePathFilter")?;
    let trace = settle(tracer)?;
    assert_eq!(filtered, 3);
    for told in assert_only(&trace, "reverse_path", 3, &[]) {
        assert_eq!((told.evidence.as_str(), told.reason()), ("observed", Some("IP_RPFILTER")), "{told:#?}");
        assert_eq!((told.local, told.peer.map(|peer| peer.ip())), (Some(v4), Some(mine)), "{told:#?}");
    }
    Ok(())
}

/// The target has no route to the address that the peer connects from.
#[test]
fn there_is_no_route_back() -> Result<()> {
    let scene = Scene::new(|_| {})?;
    let sources: [IpAddr; 2] = ["10.99.0.1".parse()?, "fd99::1".parse()?];
    for (source, length) in sources.iter().zip([32, 128]) {
        scene.lab.lb.run("ip", &["address", "add", &format!("{source}/{length}"), "dev", "eth0", "nodad"])?;
    }
    let tracer = scene.trace(&[])?;
    let before = Counters::read(&scene.lab.target)?;
    // The SYN comes at once and after a second.
    let tried = at_once(|way| {
        let source = sources[usize::from(way.is_ipv6())];
        scene.client().source(source).timeout(ms(1600)).connect(way).is_err()
    });
    let drops = Counters::read(&scene.lab.target)?.since(&before, "TcpExtListenDrops")?;
    let trace = settle(tracer)?;
    assert_eq!((tried, drops), ([true; 2], 4));
    let told = assert_only(&trace, "no_route_back", drops, &[]);
    for (way, source) in ways().into_iter().zip(sources) {
        let of_it: Vec<_> = told.iter().filter(|told| told.local == Some(way)).collect();
        assert!(!of_it.is_empty(), "{told:#?}");
        for told in of_it {
            assert_eq!(told.evidence, "inferred", "{told:#?}");
            assert_eq!(told.peer.map(|peer| peer.ip()), Some(source), "{told:#?}");
            assert!(told.route.as_ref().is_some_and(|route| route.contains("unreachable")), "{told:#?}");
        }
    }
    Ok(())
}

/// Something on the way takes the SYN-ACKs.
#[test]
fn the_synack_is_not_answered() -> Result<()> {
    let scene = Scene::new(|_| {})?;
    let tracer = scene.trace(&[])?;
    let lost = Rules::start(&scene.lab.lb, Hook::Input, &[&format!("{} drop", matching::SYN_ACKS)])?;
    let tried = at_once(|way| scene.client().timeout(ms(4500)).connect(way).is_err());
    let trace = settle(tracer)?;
    drop(lost);
    assert_eq!(tried, [true; 2]);
    for told in assert_each_way(&trace, "synack_unanswered", 1, &[]) {
        assert_eq!(told.evidence, "observed", "{told:#?}");
    }
    Ok(())
}

#[test]
fn nothing_arrives() -> Result<()> {
    let scene = Scene::new(|_| {})?;
    let trace = settle(scene.trace(&[])?)?;
    let causes = trace.causes();
    assert_eq!(causes.keys().collect::<Vec<_>>(), [&"nothing_arrived"], "{:#?}", trace.rejections);
    assert_eq!(trace.rejections.len(), 1, "{:#?}", trace.rejections);
    let told = &trace.rejections[0];
    assert_eq!((told.evidence.as_str(), told.alb.as_slice()), ("not_seen", &["504".to_owned()][..]), "{told:#?}");
    assert_eq!((told.peer, told.local), (None, None), "{told:#?}");
    Ok(())
}
