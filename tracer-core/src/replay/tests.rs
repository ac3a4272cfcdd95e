use super::*;
use crate::{
    decode::{encode_connection, encode_listener, encode_rejection, encode_request},
    explain::Limits,
    model::{
        application::Application,
        clock::Clock,
        facts::HostFacts,
        reconciliation::{Reconciliation, Row},
        rejection::Rejection,
        status::Counters,
    },
    output::terminal::Terminal,
    pipeline::{Events, Format},
    recording::write::Recorder,
    samples::{
        CLOCK, MS, S, closed, counters, dropped, fact, first, marks, queue_full, race, short, slow, unanswered, v4,
    },
};
use std::{fs, path::Path, time::Duration};
use tracer_common::{
    connection::CLOSED_BY_APPLICATION,
    counter::Counter,
    endpoint::Endpoint,
    opening::Opening,
    record::{ConnectionRecord, Kind, ListenerRecord, Process},
    rejection::{Ended, Ender, Event, How, Key, PacketKind, Queue, RejectionRecord},
};

fn recording() -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.tracer");
    let mut recorder = Recorder::create(&path, CLOCK).unwrap();
    recorder.limits(Limits { idle_timeout: Duration::from_secs(350) }).unwrap();
    recorder.hooks(&[]).unwrap();
    recorder.fact(&fact()).unwrap();
    let opened = ConnectionRecord { kind: Kind::Opened as u32, reported: first().accepted, ..closed() };
    recorder.record(encode_connection(&opened)).unwrap();
    recorder.record(encode_request(&first())).unwrap();
    recorder.record(encode_request(&slow())).unwrap();
    recorder.record(encode_request(&unanswered())).unwrap();
    for rejection in [queue_full(), dropped(), race()] {
        recorder.rejection(&rejection).unwrap();
    }
    recorder.record(encode_connection(&closed())).unwrap();
    recorder.record(&[7; 12]).unwrap();
    recorder.rejection(&short()).unwrap();
    let row = Row { name: "ListenOverflows".to_owned(), kernel: 18, explained: 17, difference: 1 };
    recorder.reconciliation(&[Reconciliation { netns: 7, rows: vec![row], not_read: None, filtered: false }]).unwrap();
    recorder.waiting(encode_request(&unanswered())).unwrap();
    recorder.end(Some(&counters(&[(Counter::RequestsEnded, 3)]))).unwrap();
    fs::read(&path).unwrap()
}

/// What is shown, as the command line asks for it.
struct Args {
    ports: Vec<u16>,
    peers: Vec<ipnet::IpNet>,
    min: Option<Duration>,
    rejections: bool,
    idle_timeout: Option<Duration>,
    json: bool,
    summary: bool,
}

impl Args {
    fn show(&self, terminal: Terminal) -> Show {
        Show {
            selection: Selection { ports: self.ports.clone(), peers: self.peers.clone() },
            view: View::of(self.json, self.summary, self.rejections, terminal),
            min: self.min.map_or(0, |min| u64::try_from(min.as_nanos()).unwrap()),
            limits: self.idle_timeout.map(|idle_timeout| Limits { idle_timeout }),
        }
    }
}

fn all() -> Args {
    Args { ports: vec![], peers: vec![], min: None, rejections: false, idle_timeout: None, json: false, summary: false }
}

fn objects(bytes: &[u8], args: Args) -> Vec<serde_json::Value> {
    let (text, error) = show(bytes, &Args { json: true, ..args });
    assert_eq!(error, None);
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn of_kind<'a>(objects: &'a [serde_json::Value], kind: &str) -> Vec<&'a serde_json::Value> {
    objects.iter().filter(|it| it["kind"] == kind).collect()
}

fn causes(objects: &[&serde_json::Value]) -> Vec<String> {
    objects.iter().map(|it| it["cause"].as_str().unwrap().to_owned()).collect()
}

fn show(bytes: &[u8], args: &Args) -> (String, Option<String>) {
    let mut out = Vec::new();
    let terminal = Terminal { width: Some(80), ..Terminal::default() };
    let error = replay(bytes, &args.show(terminal), &mut out).err().map(|error| error.to_string());
    (String::from_utf8(out).unwrap(), error)
}

#[test]
fn a_report_is_the_same_every_time() {
    let bytes = recording();
    let only = Args { rejections: true, ..all() };
    for args in [all(), Args { json: true, ..all() }, Args { summary: true, ..all() }, only] {
        let (first, error) = show(&bytes, &args);
        assert_eq!(error, None);
        assert!(!first.is_empty());
        assert_eq!(show(&bytes, &args), (first, None));
    }
}

#[test]
fn json_ends_with_the_status() {
    let objects = objects(&recording(), all());
    let kinds: Vec<_> = objects.iter().map(|it| it["kind"].as_str().unwrap()).collect();
    let (before, after) = kinds.split_at(7);
    assert_eq!(before.iter().filter(|it| **it == "request").count(), 3, "{kinds:?}");
    assert_eq!(before.iter().filter(|it| **it == "rejection").count(), 3, "{kinds:?}");
    assert_eq!(after, ["rejection", "waiting", "summary", "status"]);
    let status = objects.last().unwrap();
    assert_eq!((status["requests"].as_u64(), status["records_lost"].as_u64()), (Some(3), Some(0)));
    assert_eq!(status["records_undecodable"].as_u64(), Some(1));
    assert_eq!(status["reconciliation"][0]["rows"][0]["difference"], 1);
}

#[test]
fn rejections_are_replayed_and_counted() {
    let bytes = recording();
    let objects = objects(&bytes, all());
    let shown = of_kind(&objects, "rejection");
    assert_eq!(causes(&shown), ["accept_queue_full", "firewall_drop", "keepalive_race", "keepalive_too_short"]);
    assert!(shown.iter().all(|it| !it["explanation"].as_str().unwrap().is_empty()), "{shown:?}");
    // Warnings are not among them.
    assert_eq!(objects.last().unwrap()["rejections"], 17 + 1204 + 1);
    let summary = of_kind(&objects, "summary")[0];
    assert_eq!(summary["rejections"].as_array().unwrap().len(), 4);
    assert_eq!(summary["verdict"].as_array().unwrap().len(), 3);
    let (text, _) = show(&bytes, &all());
    assert!(text.contains(" REJECTED accept_queue_full x17\n    (504): gunicorn[812] "), "{text}");
    assert!(text.contains(" WARNING keepalive_too_short x3:\n    nginx[77] "), "{text}");
    assert!(text.contains("\nThe kernel's own counters: ListenOverflows 18 (1 not explained).\n"), "{text}");
}

const NGINX: Ender = Ender { pid: 77, how: How::Closed as u16, signal: 0, comm: *b"nginx\0\0\0\0\0\0\0\0\0\0\0" };

/// An event at `at`; `count` of its kind were seen until then.
fn event(event: Event, connection: u64, (at, count): (u64, u64)) -> RejectionRecord {
    let is_late = event == Event::DataAfterClose || event == Event::FinAfterData;
    let packet = if is_late { PacketKind::Data } else { PacketKind::Syn };
    let (peer, local) = (v4().peer, v4().local);
    let network = Key::network_of(&peer);
    let key = Key { netns: 7, event: event as u8, packet: packet as u8, local, network, ..Key::default() };
    let ended = Ended { connection, ended: at - MS, idle: 5 * S, by: NGINX, netns: 7, requests: 2, ..Ended::default() };
    let flags = CLOSED_BY_APPLICATION | marks(&[Opening::TlsHandshake], Opening::TlsData);
    let (ended, opening) = (Ended { flags, ..ended }, Opening::TlsData as u32);
    RejectionRecord { key, peer, payload: 60, reported: at, count, ended, opening, ..RejectionRecord::EMPTY }
}

/// A connection that nginx closed at `at`, after 5 s without a request.
fn idle(connection: u64, at: u64) -> ConnectionRecord {
    let flags = CLOSED_BY_APPLICATION | marks(&[], Opening::Http);
    ConnectionRecord { connection, ended: at, reported: at, idle: 5 * S, flags, by: NGINX, netns: 7, ..closed() }
}

/// An event, with what the host says of it.
fn refused(pipeline: &mut Pipeline<'_>, record: RejectionRecord, facts: HostFacts) {
    pipeline.host_says(facts);
    pipeline.record(encode_rejection(&record)).unwrap();
}

/// What happens on a host, as `watch` hands it to the pipeline: records, the time, and the answers of the host. Returns
/// what is shown.
fn live(path: &Path, view: View) -> String {
    let mut out = Vec::new();
    let options = Options { view, min: 0, count: None };
    let mut pipeline = Pipeline::new(CLOCK, options, &mut out);
    pipeline.record_to(Recorder::create(path, CLOCK).unwrap());
    pipeline.assume(Limits { idle_timeout: Duration::from_secs(50) });
    pipeline.hooks(Vec::new());
    let nginx = Application { is_alive: true, server: Some("nginx".to_owned()), ..Application::default() };
    let answer = |pipeline: &mut Pipeline<'_>, is_alive| {
        for question in pipeline.questions() {
            // Nobody answers for one of them.
            if question.number != 25 {
                pipeline.answer(question.number, Application { is_alive, ..nginx.clone() });
            }
        }
    };
    let mut look = RequestRecord { flags: 0, ..unanswered() };
    let killed = Ender { how: How::Killed as u16, signal: 9, ..NGINX };
    for tick in 0..1200_u64 {
        let now = 10 * S + tick * 50 * MS;
        let pipeline = &mut pipeline;
        match tick {
            // Three closes after the same time, and a request that meets the third.
            0 | 40 | 80 => pipeline.record(encode_connection(&idle(tick, now))).unwrap(),
            81 => refused(pipeline, event(Event::DataAfterClose, 80, (now, 1)), HostFacts::default()),
            // An alert with its FIN, and one that may be a request.
            100 => {
                refused(pipeline, event(Event::DataAfterClose, 100, (now, 2)), HostFacts::default());
                refused(pipeline, event(Event::FinAfterData, 100, (now + 1, 0)), HostFacts::default());
                refused(pipeline, event(Event::DataAfterClose, 101, (now + 2, 5)), HostFacts::default());
            }
            90 => pipeline.name_namespace(7, "web"),
            // What the host says of a full queue, and a flood of it.
            120 | 125 | 130 | 135 | 140 => {
                let queue = Queue { length: 129, limit: 128 };
                let listens = vec![("0.0.0.0:8080".parse().unwrap(), None)];
                let facts = HostFacts { listens, open_files: Some((1024, 1024)), ..HostFacts::default() };
                refused(pipeline, RejectionRecord { queue, ..event(Event::AcceptQueueFull, 0, (now, tick)) }, facts);
            }
            // A process dies with its connections.
            200 => {
                for connection in 200..205 {
                    let record = ConnectionRecord { by: killed, ..idle(connection, now) };
                    pipeline.record(encode_connection(&record)).unwrap();
                }
            }
            // A listener closes, and with it a connection that then gets a request.
            300 => {
                let local = Endpoint::v4([0, 0, 0, 0], 8080);
                let kind = Kind::Listener as u32;
                let record = ListenerRecord { kind, netns: 7, reported: now, by: NGINX, local, padding: 0 };
                pipeline.record(encode_listener(&record)).unwrap();
                refused(pipeline, event(Event::DataAfterClose, 300, (now, 6)), HostFacts::default());
            }
            350 => refused(pipeline, event(Event::DataAfterClose, 25, (now, 7)), HostFacts::default()),
            // A request that is late, and then lost with its connection.
            1150 => {
                look.reported = now;
                pipeline.look(&look);
                pipeline.look(&look);
                let pending = ConnectionRecord::UNANSWERED;
                let lost = ConnectionRecord { pending, bytes_out: 0, requests: 1, ..idle(look.connection, now) };
                pipeline.record(encode_connection(&lost)).unwrap();
            }
            // Not decided when tracing ends: a race, and behind it what needs no more than the next tick.
            1198 => refused(pipeline, event(Event::DataAfterClose, 1198, (now, 8)), HostFacts::default()),
            1199 => {
                let by = Ender::default();
                let pending = ConnectionRecord::UNANSWERED;
                let lost =
                    ConnectionRecord { pending, by, process: Process::default(), bytes_out: 0, ..idle(1199, now) };
                pipeline.record(encode_connection(&lost)).unwrap();
            }
            _ => {}
        }
        if tick != 1199 {
            pipeline.tick(now).unwrap();
            answer(pipeline, tick < 350);
        }
    }
    pipeline.ask_all();
    answer(&mut pipeline, true);
    pipeline.decide(u64::MAX).unwrap();
    pipeline.rejection(&Rejection { count: 9, ..race() }).unwrap();
    assert!(pipeline.finish(&[], Some(&counters(&[]))).unwrap());
    String::from_utf8(out).unwrap()
}

#[test]
fn a_replay_decides_as_the_live_run_did() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.tracer");
    let only = || Args { rejections: true, ..all() };
    let terminal = Terminal { width: Some(80), ..Terminal::default() };
    for (view, args) in [
        (View { events: Events::Rejections, format: Format::Json }, Args { json: true, ..only() }),
        (View { events: Events::Rejections, format: Format::Text(terminal) }, only()),
        (View { events: Events::None, format: Format::Json }, Args { json: true, summary: true, ..all() }),
        (View { events: Events::None, format: Format::Text(terminal) }, Args { summary: true, ..all() }),
    ] {
        let shown = live(&path, view);
        let (replayed, error) = show(&fs::read(&path).unwrap(), &args);
        assert_eq!(error, None);
        assert!(shown == replayed, "{view:?}\n{shown}\n{replayed}");
    }
    live(&path, View { events: Events::Rejections, format: Format::Json });
    let objects = objects(&fs::read(&path).unwrap(), all());
    let shown: Vec<_> = of_kind(&objects, "rejection")
        .into_iter()
        .map(|it| (it["cause"].as_str().unwrap(), it["count"].as_u64().unwrap(), it.get("closed_because").cloned()))
        .collect();
    let because = |reason: &str| Some(reason.into());
    assert_eq!(
        shown,
        [
            ("keepalive_too_short", 1, because("keep_alive")),
            ("keepalive_race", 1, because("keep_alive")),
            ("accept_queue_full", 120, None),
            ("keepalive_race", 1, because("keep_alive")),
            // Those of the flood are held back for up to a second.
            ("accept_queue_full", 5, None),
            ("accept_queue_full", 5, None),
            ("accept_queue_full", 10, None),
            ("process_died", 5, None),
            ("keepalive_race", 1, because("stopped")),
            ("keepalive_race", 1, because("keep_alive")),
            ("no_response", 1, None),
            ("keepalive_race", 1, because("keep_alive")),
            ("closed_before_response", 1, None),
            ("keepalive_race", 9, None),
        ]
    );
}

#[test]
fn only_rejections_are_shown_if_asked_for() {
    let bytes = recording();
    let only = Args { rejections: true, min: Some(Duration::from_secs(9)), ..all() };
    let objects = objects(&bytes, only);
    assert!(of_kind(&objects, "request").is_empty() && of_kind(&objects, "connection").is_empty());
    assert_eq!(of_kind(&objects, "rejection").len(), 4);
    assert_eq!(of_kind(&objects, "summary")[0]["requests"], 3);
    let (text, _) = show(&bytes, &Args { rejections: true, ..all() });
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("TIME(UTC)    PEER                  LOCAL  CAUSE"));
    assert!(lines.next().unwrap().starts_with("22:13:34.835 10.0.1.23:41234       :8080  REJECTED accept_queue_full"));
    let (figures, _) = show(&bytes, &Args { summary: true, ..all() });
    assert!(text.ends_with(&figures) && !figures.contains(" x17 "), "{figures}");
}

#[test]
fn rejections_are_filtered_by_local_port_and_peer() {
    let bytes = recording();
    let shown = |args: Args| causes(&of_kind(&objects(&bytes, args), "rejection"));
    let peer = |network: &str| Args { peers: vec![network.parse().unwrap()], ..all() };
    assert_eq!(shown(Args { ports: vec![443], ..all() }), ["keepalive_race", "keepalive_too_short"]);
    assert_eq!(shown(peer("10.0.1.0/24")), ["accept_queue_full"]);
    assert_eq!(shown(peer("10.0.9.0/24")), ["firewall_drop"]);
    assert_eq!(shown(Args { ports: vec![8080], ..peer("2001:db8::/32") }), Vec::<String>::new());
}

#[test]
fn the_idle_timeout_is_that_of_the_recording_unless_told() {
    let bytes = recording();
    let advice = |idle_timeout| {
        let objects = objects(&bytes, Args { idle_timeout, ..all() });
        let shown = of_kind(&objects, "rejection");
        shown.last().unwrap()["explanation"].as_str().unwrap().to_owned()
    };
    assert!(advice(None).contains("350s"), "{}", advice(None));
    assert!(advice(Some(Duration::from_secs(75))).contains("75s"));
}

#[test]
fn nothing_rejected_is_said_only_as_far_as_it_is_known() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.tracer");
    let recorded = |counters: &Counters| {
        let mut recorder = Recorder::create(&path, CLOCK).unwrap();
        recorder.record(encode_request(&first())).unwrap();
        recorder.end(Some(counters)).unwrap();
        fs::read(&path).unwrap()
    };
    let summary = |bytes: &[u8]| show(bytes, &Args { summary: true, ..all() }).0;
    let bytes = recorded(&counters(&[]));
    let whole = summary(&bytes);
    assert!(whole.starts_with("Nothing was rejected.\n1 request, "), "{whole}");
    let mut unsure = vec![bytes[..bytes.len() - 1].to_vec(), recorded(&counters(&[]).with_events_missed(1))];
    unsure.extend(
        [Counter::ConnectionRecordsLost, Counter::StorageFailed, Counter::RejectionsUncounted]
            .map(|lost| recorded(&counters(&[(lost, 1)]))),
    );
    for bytes in unsure {
        let shown = summary(&bytes);
        assert!(shown.starts_with("Nothing was seen to be rejected.\n1 request, "), "{shown}");
    }
}

#[test]
fn cut_anywhere_what_is_whole_is_reported() {
    let bytes = recording();
    // recording/tests.rs cuts everywhere: this is about what is shown of it.
    for length in (1..bytes.len()).step_by(23) {
        for json in [false, true] {
            let (text, error) = show(&bytes[..length], &Args { json, ..all() });
            let error = error.unwrap();
            assert!(error.starts_with(&format!("cut off at byte {length}: ")), "{error}");
            assert!(length < 20 || !text.is_empty());
        }
    }
    let (whole, _) = show(&bytes, &all());
    let (cut, _) = show(&bytes[..bytes.len() - 1], &all());
    assert_eq!(cut.lines().next_back(), Some("1 record could not be decoded."));
    assert_eq!(whole.lines().take(12).collect::<Vec<_>>(), cut.lines().take(12).collect::<Vec<_>>());
}

#[test]
fn filters_choose() {
    let bytes = recording();
    let lines = |args: &Args| {
        let mut out = Vec::new();
        replay(&bytes[..], &args.show(Terminal::default()), &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let lines = text.lines().take_while(|line| !line.is_empty());
        lines.filter(|line| !line.contains(" REJECTED ") && !line.contains(" WARNING ")).count()
    };
    assert_eq!(lines(&all()), 4);
    assert_eq!(lines(&Args { ports: vec![8080], ..all() }), 3);
    assert_eq!(lines(&Args { peers: vec!["2001:db8::/32".parse().unwrap()], ..all() }), 2);
    assert_eq!(lines(&Args { min: Some(Duration::from_millis(1_500)), ..all() }), 2);
    assert_eq!(lines(&Args { min: Some(Duration::from_millis(1_300)), ..all() }), 3);
}

#[test]
fn a_clock_beyond_all_dates_is_no_panic() {
    let mut bytes = recording();
    for offset in [i64::MIN, i64::MAX] {
        bytes[12..20].copy_from_slice(&Clock { offset }.offset.to_le_bytes());
        assert_eq!(show(&bytes, &Args { json: true, ..all() }).1, None);
    }
}

#[test]
fn no_recording_panics() {
    let bytes = recording();
    for at in (0..bytes.len()).step_by(17) {
        let mut bytes = bytes.clone();
        // Also a digit for a digit: numbers may be wrong, but are numbers.
        bytes[at] = if bytes[at].is_ascii_digit() { b'9' } else { bytes[at] ^ 0x55 };
        show(&bytes, &all());
        show(&bytes, &Args { json: true, ..all() });
    }
}

/// Takes some bytes, then nobody reads any more.
struct Head(usize);

impl Write for Head {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0 == 0 {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let taken = bytes.len().min(self.0);
        self.0 -= taken;
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_closed_pipe_is_an_error_that_can_be_told_from_others() {
    let bytes = recording();
    for json in [false, true] {
        let error = replay(&bytes[..], &Args { json, ..all() }.show(Terminal::default()), Head(300)).unwrap_err();
        assert!(matches!(error, ReplayError::Output(error) if error.kind() == io::ErrorKind::BrokenPipe));
    }
}
