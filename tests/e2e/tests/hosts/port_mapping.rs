//! Ports that the host maps to others, as `iptables` REDIRECT and `docker -p` do.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::Result;
use lab::client::{Client, Request};
use lab::clock::sleep;
use lab::fault::{Hook, Rules};
use lab::netns::{End, join};
use lab::target::{Options, Target};
use lab::tracer::{Tracer, binary};
use lab::{Lab, Namespace};

use crate::scene::{at, ms, settle, trace, verdict};

/// A sidecar takes what comes for :8080, and the peer reads slowly: that is the peer's time, not this host's.
#[test]
fn a_slow_reader_behind_a_redirect() -> Result<()> {
    let lab = Lab::new()?;
    lab.target.sysctl("net.ipv4.tcp_wmem", "4096 65536 262144")?;
    let _rules = Rules::start(&lab.target, Hook::Prerouting, &["tcp dport 8080 redirect to :15006"])?;
    let _target = Target::start(&lab, "target", &Options::listen(&[at(15006)]))?;
    let tracer = trace(&lab, &[])?;
    let request = Request::get("/").header("X-Response-Bytes", 2_000_000).read_slowly(100_000, ms(20));
    Client::new(&lab.lb).receive_buffer(65_536).request(at(8080), &request)?;
    let trace = settle(tracer)?;
    let [request] = &trace.requests[..] else { panic!("{:#?}", trace.requests) };
    assert!(request.merged.is_empty(), "{request:#?}");
    let (egress, download) = (request.stages_ns.egress, request.stages_ns.download);
    assert!(egress < Some(10_000_000) && download > Some(100_000_000), "{request:#?}");
    assert!(!verdict(&trace).contains("this host's kernel"), "{}", verdict(&trace));
    Ok(())
}

/// A target with its own network behind a bridge of the host, which maps its port [`MAPPED`] to the target's :80, as
/// `docker -p 18180:80` does.
struct Container {
    target: Target,
    namespace: Namespace,
}

/// No other test has it: one of these looks at all namespaces of the machine, while others run.
const MAPPED: u16 = 18_180;
const CONTAINER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 79, 0, 2)), 80);

impl Container {
    fn start(lab: &Lab) -> Result<Self> {
        let namespace = Namespace::new(&lab.target.name().replace("-target", "-ctr"))?;
        let gateway: IpAddr = Ipv4Addr::new(10, 79, 0, 1).into();
        join(
            End { namespace: &namespace, interface: "eth0", addresses: &[(CONTAINER.ip(), 24)] },
            End { namespace: &lab.target, interface: "ctr0", addresses: &[(gateway, 24)] },
        )?;
        namespace.run("ip", &["route", "add", "default", "via", "10.79.0.1"])?;
        lab.target.sysctl("net.ipv4.ip_forward", "1")?;
        // It goes with the namespace.
        let rules = format!(
            "add table ip nat; add chain ip nat pre {{ type nat hook prerouting priority dstnat; }}; \
            add rule ip nat pre iifname eth0 tcp dport {MAPPED} dnat to 10.79.0.2:80"
        );
        lab.target.run("nft", &[&rules])?;
        let target = Target::start_in(&namespace, lab.directory(), "container", &Options::listen(&[CONTAINER]))?;
        Ok(Self { target, namespace })
    }
}

/// Watches everywhere, as on a host with containers.
fn trace_all(lab: &Lab, arguments: &[&str]) -> Result<Tracer> {
    let mut command = lab.target.command(&binary()?.to_string_lossy())?;
    command.args(["watch", "--json"]).args(arguments);
    let tracer = Tracer::run("tracer", command, lab.directory())?;
    sleep(ms(100));
    Ok(tracer)
}

/// The port of the target group is that of the host: requests of the container are its requests.
#[test]
fn requests_of_a_mapped_port_are_found_by_it() -> Result<()> {
    let lab = Lab::new()?;
    let container = Container::start(&lab)?;
    let tracer = trace_all(&lab, &["--port", &MAPPED.to_string()])?;
    let mut connection = Client::new(&lab.lb).connect(at(MAPPED))?;
    connection.requests(3, ms(0), &Request::get("/"))?;
    // Another connection to the same container is not one of that port.
    Client::new(&lab.target).request(CONTAINER, &Request::get("/"))?;
    drop(connection);
    let trace = settle(tracer)?;
    assert_eq!((trace.requests.len(), trace.rejections.len()), (3, 0), "{:#?} {:#?}", trace.requests, trace.rejections);
    for request in &trace.requests {
        assert_eq!((request.local, request.asked_port), (CONTAINER, Some(MAPPED)), "{request:#?}");
        assert_eq!(request.pid, Some(container.target.pid()), "{request:#?}");
        assert!(request.merged.is_empty(), "{request:#?}");
    }
    // The SYN was seen at the host's interface, the SYN-ACK at the container's.
    assert!(trace.connections.iter().all(|it| it.stages_ns.synack.is_some()), "{:#?}", trace.connections);
    Ok(())
}

/// Where only the host's own namespace is watched, nothing of the container is seen but that its packets came.
#[test]
fn a_mapped_port_of_another_namespace_is_not_silence() -> Result<()> {
    let lab = Lab::new()?;
    let _container = Container::start(&lab)?;
    let tracer = trace(&lab, &["--port", &MAPPED.to_string()])?;
    Client::new(&lab.lb).request(at(MAPPED), &Request::get("/"))?;
    let trace = settle(tracer)?;
    assert!(trace.requests.is_empty() && trace.rejections_of("nothing_arrived").is_empty(), "{:#?}", trace.rejections);
    let [told] = &trace.rejections_of("forwarded")[..] else { panic!("{:#?}", trace.rejections) };
    assert!(told.alb.is_empty() && told.explanation.contains("forwarded to 10.79.0.2:80"), "{told:#?}");
    Ok(())
}

/// A connection of the container that was open before the start: no SYN came, and still there was no silence.
#[test]
fn requests_of_a_mapped_connection_that_was_open_before_are_not_silence() -> Result<()> {
    let lab = Lab::new()?;
    let _container = Container::start(&lab)?;
    let mut connection = Client::new(&lab.lb).connect(at(MAPPED))?;
    let tracer = trace(&lab, &["--port", &MAPPED.to_string()])?;
    connection.requests(3, ms(0), &Request::get("/"))?;
    let trace = settle(tracer)?;
    drop(connection);
    assert_eq!(trace.causes(), [("forwarded", 1)].into(), "{:#?}", trace.rejections);
    Ok(())
}

/// A filter keeps out what is answered well: it was no packet that nobody took.
#[test]
fn what_a_filter_keeps_out_was_not_forwarded() -> Result<()> {
    let lab = Lab::new()?;
    let _target = Target::start(&lab, "target", &Options::listen(&[at(8080)]))?;
    let own = std::process::id().to_string();
    for filter in [&["--peer", "10.99.0.0/16"][..], &["--pid", &own], &["--interface", "lo"]] {
        let tracer = trace(&lab, &[&["--port", "8080"][..], filter].concat())?;
        Client::new(&lab.lb).request(at(8080), &Request::get("/"))?;
        let trace = settle(tracer)?;
        assert_eq!((trace.requests.len(), trace.rejections.len()), (0, 0), "{filter:?} {:#?}", trace.rejections);
    }
    Ok(())
}

/// A `NodePort`: the node forwards to a pod elsewhere, which does not answer.
#[test]
fn a_port_is_forwarded_to_nobody() -> Result<()> {
    let lab = Lab::new()?;
    let container = Container::start(&lab)?;
    let _silent = Rules::start(&container.namespace, Hook::Ingress, &["ip protocol tcp drop"])?;
    let tracer = trace(&lab, &["--port", &MAPPED.to_string()])?;
    assert!(Client::new(&lab.lb).timeout(ms(1300)).connect(at(MAPPED)).is_err());
    let trace = settle(tracer)?;
    let [told] = &trace.rejections_of("forwarded")[..] else { panic!("{:#?}", trace.rejections) };
    assert_eq!((told.alb.as_slice(), trace.causes().len()), (&["504".to_owned()][..], 1), "{:#?}", trace.rejections);
    let text = &told.explanation;
    assert!(text.contains("forwarded to 10.79.0.2:80") && text.contains("came again"), "{told:#?}");
    Ok(())
}

/// A sidecar takes the connections of the application's own port: its requests have all stages, and the port's name.
#[test]
fn a_sidecar_is_healthy() -> Result<()> {
    let lab = Lab::new()?;
    let _rules = Rules::start(&lab.target, Hook::Prerouting, &["tcp dport 8080 redirect to :15006"])?;
    let _application = Target::start(&lab, "application", &Options::listen(&[at(8080)]))?;
    let sidecar = Target::start(&lab, "sidecar", &Options::listen(&[at(15006)]))?;
    let tracer = trace(&lab, &["--port", "8080"])?;
    let mut connection = Client::new(&lab.lb).connect(at(8080))?;
    connection.requests(3, ms(0), &Request::get("/"))?;
    drop(connection);
    let trace = settle(tracer)?;
    assert_eq!((trace.requests.len(), trace.rejections.len()), (3, 0), "{:#?} {:#?}", trace.requests, trace.rejections);
    for request in &trace.requests {
        assert_eq!((request.local.port(), request.asked_port), (15006, Some(8080)), "{request:#?}");
        assert_eq!(request.pid, Some(sidecar.pid()), "{request:#?}");
        assert!(request.merged.is_empty(), "{request:#?}");
    }
    assert!(trace.connections.iter().all(|it| it.stages_ns.synack.is_some()), "{:#?}", trace.connections);
    Ok(())
}
