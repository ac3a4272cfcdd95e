//! The acts: what is sent, and which stage it shows in.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, Result};
use lab::client::{Client, Request};
use lab::clock;
use lab::haproxy::{self, Haproxy};
use lab::topology::{FRONT_V4, target_addresses};

use crate::rejections;
use crate::say;
use crate::scene::{APP, Front, Scene};
use crate::watch::Watch;

/// The health checker is a load balancer that nobody sends anything to.
const CHECKER: SocketAddr = SocketAddr::new(IpAddr::V4(FRONT_V4), 8003);

/// After an act: tracer shows the last request on a connection that stays open when nothing has followed for a second,
/// and asks every half second whether an answer that came in pieces is over.
const PAUSE: Duration = Duration::from_millis(1600);

struct Act {
    caption: &'static str,
    play: fn(&mut Scene) -> Result<()>,
}

const ACTS: [Act; 18] = [
    Act { caption: "all is well: a page of 100 bytes from nginx, five times on one connection", play: fast },
    Act { caption: "the application stands still, new connections wait 300 ms (look at ACCEPT)", play: not_accepting },
    Act { caption: "it stands still again, open connections wait to be read (look at PICKUP)", play: not_reading },
    Act { caption: "a client on a bad line: a body in five pieces, 80 ms apart (look at UPLOAD)", play: slow_upload },
    Act { caption: "the application computes for 300 ms before it answers (look at SERVICE)", play: slow_service },
    Act { caption: "it answers in four pieces, 120 ms apart (look at DOWNLOAD)", play: pieces },
    Act { caption: "a client takes 24 MB slowly, buffers fill up behind it (look at DOWNLOAD)", play: slow_reader },
    Act { caption: "32 MB up, then 64 MB down, as fast as it goes (UPLOAD, then DOWNLOAD)", play: large },
    Act { caption: "the same application over IPv6, 50 ms of work (look at PEER)", play: ipv6 },
    Act { caption: "a health checker: a new connection for each check", play: health_checks },
    Act { caption: "somebody bypasses the load balancer (look at PEER)", play: bypass },
    Act { caption: "the target group has the wrong port (look at REJECTED)", play: rejections::wrong_port },
    Act {
        caption: "an application that does not accept, and more connections than its queue takes",
        play: rejections::full_queue,
    },
    Act { caption: "a firewall rule drops, another one rejects", play: rejections::firewall },
    Act {
        caption: "an idle connection is closed, and the next request meets the close",
        play: rejections::keepalive_race,
    },
    Act { caption: "a worker is killed in the middle of a request", play: rejections::killed_worker },
    Act { caption: "a client does not wait for the answer", play: rejections::impatient_client },
    Act { caption: "a request that gets no answer: no line yet, see \"waiting\" at the end", play: unanswered },
];

/// Plays all of them.
///
/// # Errors
/// Where one fails, tracer ends, or Ctrl-C comes.
pub fn play(scene: &mut Scene, watch: &mut Watch) -> Result<()> {
    watch.pause(Duration::ZERO)?;
    for Act { caption, play } in ACTS {
        say(format_args!("\n-- {caption}"));
        play(scene).with_context(|| format!("the act \"{caption}\" failed"))?;
        watch.pause(PAUSE)?;
    }
    say("");
    Ok(())
}

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn fast(scene: &mut Scene) -> Result<()> {
    scene.connect(Front::Web)?.requests(5, ms(30), &Request::get("/small")).map(drop)
}

fn not_accepting(scene: &mut Scene) -> Result<()> {
    scene.request_while_stopped(3, ms(300), &Request::get("/"))
}

fn not_reading(scene: &mut Scene) -> Result<()> {
    scene.request_while_stopped(3, ms(300), &Request::get("/"))
}

fn slow_upload(scene: &mut Scene) -> Result<()> {
    let request = Request::put("/", 200_000).body_pieces(5, ms(80));
    scene.connect(Front::App)?.requests(2, ms(0), &request).map(drop)
}

fn slow_service(scene: &mut Scene) -> Result<()> {
    let request = Request::get("/").header("X-Before-Write", 300).header("X-Response-Bytes", 5_000);
    scene.connect(Front::App)?.requests(3, ms(0), &request).map(drop)
}

fn pieces(scene: &mut Scene) -> Result<()> {
    let request = Request::get("/").header("X-Response-Bytes", 40_000);
    let request = request.header("X-Pieces", 4).header("X-Between-Pieces", 120);
    scene.connect(Front::App)?.requests(2, ms(0), &request).map(drop)
}

fn slow_reader(scene: &mut Scene) -> Result<()> {
    let client = Client::new(scene.lab.client()).receive_buffer(64 << 10);
    let request = Request::get("/").header("X-Response-Bytes", 24_000_000).read_slowly(64 << 10, ms(2));
    client.request(Front::App.address(), &request).map(drop)
}

fn large(scene: &mut Scene) -> Result<()> {
    let mut connection = scene.connect(Front::Web)?;
    connection.request(&Request::put("/upload/large", 32_000_000))?;
    connection.request(&Request::get("/64m")).map(drop)
}

fn ipv6(scene: &mut Scene) -> Result<()> {
    let request = Request::get("/").header("X-Before-Write", 50);
    scene.connect(Front::App6)?.requests(3, ms(0), &request).map(drop)
}

fn health_checks(scene: &mut Scene) -> Result<()> {
    let [app, _] = target_addresses(APP);
    let options = haproxy::Options::new(&[CHECKER], app).health_check(ms(300));
    let checker = Haproxy::start(scene.lab, "checker", &options)?;
    clock::sleep(ms(800));
    drop(checker);
    Ok(())
}

fn bypass(scene: &mut Scene) -> Result<()> {
    let [app, _] = target_addresses(APP);
    let request = Request::get("/admin").header("X-Before-Write", 20);
    Client::new(scene.lab.client()).connect(app)?.requests(2, ms(20), &request).map(drop)
}

fn unanswered(scene: &mut Scene) -> Result<()> {
    let mut connection = scene.connect(Front::App)?;
    connection.send(&Request::get("/report").header("X-Before-Write", 60_000))?;
    scene.waiting = Some(connection);
    Ok(())
}
