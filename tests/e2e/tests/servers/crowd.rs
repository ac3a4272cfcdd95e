//! Several clients that go on asking on kept connections while a server is reloaded or stopped, and that know what each of
//! them lost: exactly that has to be reported.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use lab::client::{Connection, Fate, Request};
use lab::clock::sleep;
use lab::tracer::Trace;

use crate::scene::{Scene, ms};

/// How many clients ask at once.
const CLIENTS: u64 = 6;
/// Between two requests of a client. Odd, so that the clients do not stay in step with the reloads.
const PAUSE: Duration = Duration::from_millis(17);

/// What a request that a reload or a stop loses is: one that came too late for a connection that was used before, one whose
/// connection was closed or reset unread, and one that was read and not answered any more.
const CAUSES: [&str; 3] = ["keepalive_race", "reset_before_response", "closed_before_response"];

/// What the clients saw.
#[derive(Debug, Default)]
pub struct Seen {
    /// Requests with a response.
    pub answered: u64,
    /// The clients' ends of the connections that lost a request.
    pub lost: Vec<SocketAddr>,
    /// Connections that nobody accepted any more: the server had ended.
    pub refused: u64,
}

/// Asks until `during` has returned.
pub fn ask(scene: &Scene, during: impl FnOnce() -> Result<()>) -> Result<Seen> {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|number| scope.spawn(client(scene, number, &over))).collect();
        let outcome = during();
        over.store(true, Ordering::Relaxed);
        let mut all = Seen::default();
        for client in clients {
            let seen = client.join().map_err(|_| anyhow!("a client has panicked"))??;
            all.answered += seen.answered;
            all.lost.extend(seen.lost);
            all.refused += seen.refused;
        }
        outcome.map(|()| all)
    })
}

/// One client. It ends when it is refused: the server is gone.
fn client<'a>(scene: &'a Scene, number: u64, over: &'a AtomicBool) -> impl FnOnce() -> Result<Seen> + Send + 'a {
    move || {
        sleep(ms(number * 3));
        let (mut seen, mut open) = (Seen::default(), None::<Connection>);
        while !over.load(Ordering::Relaxed) {
            let mut connection = match open.take().filter(|connection| !connection.is_closed()) {
                Some(connection) => connection,
                None => match scene.connect() {
                    Ok(connection) => connection,
                    Err(error) if is_refused(&error) => {
                        seen.refused += 1;
                        break;
                    }
                    Err(error) => return Err(error),
                },
            };
            match connection
                .request_or_lose(&Request::get("/"))
                .with_context(|| format!("{:?}", scene.server.kind()))?
            {
                Fate::Answered(reply) => {
                    seen.answered += 1;
                    open = Some(connection).filter(|_| !reply.closed);
                }
                Fate::Lost => seen.lost.push(connection.local),
                Fate::NotSent => {}
            }
            sleep(PAUSE);
        }
        Ok(seen)
    }
}

fn is_refused(error: &anyhow::Error) -> bool {
    error.downcast_ref::<rustix::io::Errno>() == Some(&rustix::io::Errno::CONNREFUSED)
}

/// Asserts that exactly the lost requests were reported, each where it was lost, for one of the reasons `because` and blamed on
/// no setting, and that all others were counted.
#[track_caller]
pub fn assert_told(trace: &Trace, seen: &Seen, because: &[&str]) {
    let (refused, told): (Vec<_>, Vec<_>) = trace.rejections.iter().partition(|told| told.cause == "no_listener");
    assert_eq!(refused.iter().map(|told| told.count).sum::<u64>(), seen.refused, "{seen:?} {refused:#?}");
    assert_eq!(told.iter().map(|told| told.count).sum::<u64>(), seen.lost.len() as u64, "{seen:?} {told:#?}");
    let mut named = BTreeSet::new();
    for told in told {
        let peer = told.peer.as_ref();
        assert!(peer.is_none_or(|peer| seen.lost.contains(peer) && named.insert(*peer)), "{seen:?} {told:#?}");
        assert!(CAUSES.contains(&told.cause.as_str()), "{told:#?}");
        // Why a request that was read was not answered may not be known: the sentence then names what it may have been.
        let may_be_unknown = told.never_accepted || told.cause == "closed_before_response";
        let is_reason = told.closed_because.as_deref().map_or(may_be_unknown, |why| because.contains(&why));
        assert!(is_reason, "{told:#?}");
        assert!(!told.advice.to_lowercase().contains("keep-alive"), "{told:#?}");
    }
    let (served, unread): (Vec<_>, Vec<_>) = trace.requests.iter().partition(|request| request.bytes_out > 0);
    assert_eq!(served.len() as u64, seen.answered, "{seen:?}");
    assert!(unread.iter().all(|request| seen.lost.contains(&request.peer)), "{seen:?} {unread:#?}");
    assert_eq!(trace.status.requests, Some(trace.requests.len() as u64));
    assert_eq!(trace.status.records_lost, Some(0), "{:#?}", trace.status);
}
