use super::{
    read::{Block, ReadError, Reader},
    write::{Recorder, WriteError},
};
use crate::{
    decode::{encode_rejection, encode_request},
    explain::Limits,
    model::{
        application::Application,
        facts::HostFacts,
        reconciliation::{Reconciliation, Row},
        rejection::{ProcessName, Rule, Setting},
        selection::Selection,
        status::{Counters, Hook},
    },
    samples::{CLOCK, counters, fact, first, queue_full, race, slow, unanswered},
};
use proptest::prelude::*;
use std::{fs, path::Path, time::Duration};
use tracer_common::{counter::Counter, rejection::RejectionRecord};

const LIMITS: Limits = Limits { idle_timeout: Duration::from_secs(350) };

fn totals() -> Counters {
    counters(&[(Counter::RequestsEnded, 7)])
}

fn hooks() -> Vec<Hook> {
    vec![Hook { hook: "read".to_owned(), attached: Some("tp_btf".to_owned()), ..Hook::default() }]
}

/// A SYN that a rule of the firewall dropped.
const REFUSED: RejectionRecord = RejectionRecord { reported: 99, count: 3, ..RejectionRecord::EMPTY };

/// All that a host can say.
fn host() -> HostFacts {
    let rule = |handle| Rule { chain: "inet filter input".to_owned(), handle, text: "tcp dport 8080 drop".to_owned() };
    let process = ProcessName { pid: 812, comm: "gunicorn".to_owned(), how: None };
    let listens = [("127.0.0.1:8080", Some(process)), ("[::]:8080", None)];
    HostFacts {
        reason: Some("NETFILTER_DROP".to_owned()),
        location: Some("nft_do_chain".to_owned()),
        listens: listens.map(|(address, process)| (address.parse().unwrap(), process)).to_vec(),
        only_v6: true,
        owner: Some(ProcessName { pid: 813, comm: "gunicorn".to_owned(), how: None }),
        full: Some((129, 128, None)),
        rule: Some(rule(Some(4))),
        candidates: vec![rule(None), rule(Some(5))],
        rule_rejects: true,
        conntrack: Some((65_536, 65_536)),
        conntrack_dropped: true,
        route: Some("Network is unreachable".to_owned()),
        open_files: Some((1024, 1024)),
    }
}

/// All that a host can say of a process.
fn answer() -> Application {
    let (name, value) = ("keepalive_timeout".to_owned(), "5s".to_owned());
    Application {
        is_alive: true,
        listens: true,
        elders: vec![76, 77],
        open_files: Some((17, 1024)),
        threads: Some(4),
        cgroup: Some("/system.slice/nginx.service".to_owned()),
        queue: Some((3, 128)),
        server: Some("nginx".to_owned()),
        process: Some(ProcessName { pid: 77, comm: "nginx".to_owned(), how: None }),
        keep_alive: Some(Setting { name, value, source: "/etc/nginx/nginx.conf".to_owned() }),
    }
}

fn selection() -> Selection {
    Selection { ports: vec![80, 8080], peers: vec!["10.0.0.0/8".parse().unwrap(), "fd77::/64".parse().unwrap()] }
}

/// A recording, and where each of its blocks ends.
fn recording(path: &Path) -> (Vec<u8>, Vec<usize>) {
    let mut ends = vec![];
    let mut recorder = Recorder::create(path, CLOCK).unwrap();
    let mut end = |recorder: &mut Recorder| {
        recorder.flush().unwrap();
        ends.push(usize::try_from(fs::metadata(path).unwrap().len()).unwrap());
    };
    end(&mut recorder);
    recorder.hooks(&hooks()).unwrap();
    end(&mut recorder);
    recorder.limits(LIMITS).unwrap();
    end(&mut recorder);
    recorder.selection(&selection()).unwrap();
    end(&mut recorder);
    recorder.fact(&fact()).unwrap();
    end(&mut recorder);
    recorder.record(encode_request(&first())).unwrap();
    end(&mut recorder);
    for rejection in [queue_full(), race()] {
        recorder.rejection(&rejection).unwrap();
        end(&mut recorder);
    }
    recorder.host(&host()).unwrap();
    end(&mut recorder);
    recorder.record(encode_rejection(&REFUSED)).unwrap();
    end(&mut recorder);
    recorder.look(encode_request(&unanswered())).unwrap();
    end(&mut recorder);
    recorder.answer(u64::MAX - 7, &answer()).unwrap();
    end(&mut recorder);
    for moment in [0, 99, u64::MAX] {
        recorder.moment(moment).unwrap();
        end(&mut recorder);
    }
    recorder.namespace(7, "web").unwrap();
    end(&mut recorder);
    recorder.waiting(encode_request(&slow())).unwrap();
    end(&mut recorder);
    recorder.end(Some(&totals())).unwrap();
    end(&mut recorder);
    assert!(recorder.is_whole());
    (fs::read(path).unwrap(), ends)
}

fn sample() -> (Vec<u8>, Vec<usize>) {
    let directory = tempfile::tempdir().unwrap();
    recording(&directory.path().join("a.tracer"))
}

/// The blocks that can be read, and why no more.
fn blocks(bytes: &[u8]) -> (usize, Option<ReadError>) {
    let mut reader = match Reader::new(bytes) {
        Ok((_, reader)) => reader,
        Err(error) => return (0, Some(error)),
    };
    let mut count = 0;
    loop {
        match reader.next() {
            Ok(Some(_)) => count += 1,
            Ok(None) => return (count, None),
            Err(error) => return (count, Some(error)),
        }
    }
}

#[test]
fn what_is_written_is_read() {
    let (bytes, _) = sample();
    let (clock, mut reader) = Reader::new(&bytes[..]).unwrap();
    assert_eq!(clock, CLOCK);
    assert_eq!(reader.next().unwrap(), Some(Block::Hooks(hooks())));
    assert_eq!(reader.next().unwrap(), Some(Block::Limits(LIMITS)));
    assert_eq!(reader.next().unwrap(), Some(Block::Selection(selection())));
    assert_eq!(reader.next().unwrap(), Some(Block::Fact(fact())));
    assert_eq!(reader.next().unwrap(), Some(Block::Record(encode_request(&first()))));
    assert_eq!(reader.next().unwrap(), Some(Block::Rejection(Box::new(queue_full()))));
    assert_eq!(reader.next().unwrap(), Some(Block::Rejection(Box::new(race()))));
    assert_eq!(reader.next().unwrap(), Some(Block::Host(Box::new(host()))));
    assert_eq!(reader.next().unwrap(), Some(Block::Record(encode_rejection(&REFUSED))));
    assert_eq!(reader.next().unwrap(), Some(Block::Look(encode_request(&unanswered()))));
    assert_eq!(reader.next().unwrap(), Some(Block::Answer(u64::MAX - 7, Box::new(answer()))));
    for moment in [0, 99, u64::MAX] {
        assert_eq!(reader.next().unwrap(), Some(Block::Moment(moment)));
    }
    assert_eq!(reader.next().unwrap(), Some(Block::Namespace(7, "web".to_owned())));
    assert_eq!(reader.next().unwrap(), Some(Block::Waiting(encode_request(&slow()))));
    assert_eq!(reader.next().unwrap(), Some(Block::End(Some(totals()))));
    assert_eq!(reader.next().unwrap(), None);
}

/// What the reader refuses is not written: what may be long is written in parts, and what is too long ends the recording.
#[test]
fn what_is_long_is_read_as_well() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.tracer");
    let mut recorder = Recorder::create(&path, CLOCK).unwrap();
    let row = |name: &str| Row { name: name.to_owned(), kernel: u64::MAX, explained: u64::MAX, difference: 0 };
    let rows = ["ListenOverflows", "ListenDrops", "TCPReqQFullDrop", "OutRsts", "RetransSegs"].map(row).to_vec();
    let namespaces: Vec<_> =
        (0..5200).map(|netns| Reconciliation { netns, rows: rows.clone(), not_read: None, filtered: false }).collect();
    recorder.reconciliation(&namespaces).unwrap();
    assert!(recorder.is_whole());
    let error = recorder.namespace(1, &"x".repeat(2 << 20)).unwrap_err().to_string();
    assert!(error.contains("could not be read again"), "{error}");
    assert!(!recorder.is_whole());
    let bytes = fs::read(&path).unwrap();
    let (_, mut reader) = Reader::new(&bytes[..]).unwrap();
    let mut read = Vec::new();
    while let Ok(Some(Block::Reconciliation(some))) = reader.next() {
        read.extend(some);
    }
    assert!(read == namespaces, "{}", read.len());
}

#[test]
fn what_is_not_known_of_a_host_is_read_as_that() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.tracer");
    let mut recorder = Recorder::create(&path, CLOCK).unwrap();
    recorder.host(&HostFacts::default()).unwrap();
    recorder.answer(0, &Application::default()).unwrap();
    recorder.end(None).unwrap();
    let bytes = fs::read(&path).unwrap();
    let (_, mut reader) = Reader::new(&bytes[..]).unwrap();
    assert_eq!(reader.next().unwrap(), Some(Block::Host(Box::default())));
    assert_eq!(reader.next().unwrap(), Some(Block::Answer(0, Box::default())));
}

#[test]
fn cut_anywhere_what_is_whole_is_read_and_the_cut_is_named() {
    let (bytes, ends) = sample();
    for length in 1..bytes.len() {
        let (count, error) = blocks(&bytes[..length]);
        let whole = ends.iter().rposition(|&end| end <= length);
        assert_eq!(count, whole.unwrap_or(0), "{length}");
        let whole = whole.map_or(0, |it| ends[it]) as u64;
        match error.unwrap() {
            ReadError::Truncated { length: named, whole: end } => assert_eq!((named, end), (length as u64, whole)),
            other => panic!("{length}: {other}"),
        }
    }
    assert_eq!(blocks(&bytes).0, ends.len() - 1);
}

#[test]
fn what_is_no_recording_is_said() {
    let told = |bytes: &[u8]| blocks(bytes).1.unwrap().to_string();
    assert_eq!(
        told(b"{\"kind\":\"request\"}\n"),
        "not a recording of tracer: it looks like JSON lines, perhaps the output of tracer --json. \
         Recordings are made by tracer watch -w FILE"
    );
    assert!(told(b"").contains("an empty file"));
    let (mut bytes, ends) = sample();
    bytes.push(0);
    assert!(told(&bytes).starts_with("cut off") || told(&bytes).starts_with("damaged"));
    bytes[ends[0]] = 99;
    assert_eq!(told(&bytes), "damaged at byte 20 (unknown kind of block): reported is what comes before");
    bytes[8] = 4;
    assert_eq!(told(&bytes), "recorded in format 4 by a newer tracer; this one reads format 3: update tracer");
    bytes[8] = 2;
    assert_eq!(
        told(&bytes),
        "recorded in format 2 by an older tracer; this one reads format 3: use the tracer that wrote it"
    );
}

#[test]
fn a_place_that_cannot_be_written_is_said_before_tracing() {
    let directory = tempfile::tempdir().unwrap();
    let error = Recorder::create(directory.path(), CLOCK).unwrap_err();
    assert!(matches!(error, WriteError::Create { .. }));
    assert!(error.to_string().contains("Is a directory"), "{error}");
}

#[test]
fn a_full_disk_ends_the_recording_once() {
    // /dev/full takes the file's creation but no byte: the header fails.
    let error = Recorder::create(Path::new("/dev/full"), CLOCK).unwrap_err();
    assert!(error.to_string().contains("No space left on device (os error 28)"), "{error}");
}

#[test]
fn a_write_error_is_told_once_and_ends_the_recording() {
    use std::os::fd::AsRawFd;
    let (reader, writer) = std::io::pipe().unwrap();
    let path = format!("/proc/self/fd/{}", writer.as_raw_fd());
    let mut recorder = Recorder::create(Path::new(&path), CLOCK).unwrap();
    drop(reader);
    recorder.record(encode_request(&first())).unwrap();
    let error = recorder.flush().unwrap_err().to_string();
    assert!(error.contains(&path) && error.contains("(os error 32)"), "{error}");
    assert!(!recorder.is_whole());
    recorder.record(encode_request(&first())).unwrap();
    recorder.end(None).unwrap();
}

proptest! {
    #[test]
    fn no_file_panics(at in 0usize..4800, value: u8, tail in prop::collection::vec(any::<u8>(), 0..40)) {
        let (mut bytes, _) = sample();
        let at = at % bytes.len();
        bytes[at] = value;
        blocks(&bytes);
        bytes.truncate(at);
        bytes.extend(tail);
        blocks(&bytes);
    }
}
