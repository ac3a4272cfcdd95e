use super::{
    read::{Block, ReadError, Reader},
    write::{Recorder, WriteError},
};
use crate::{
    decode::encode_request,
    explain::Limits,
    samples::{CLOCK, counters, fact, first, queue_full, race, slow},
    status::{Counters, Hook},
};
use proptest::prelude::*;
use std::{fs, path::Path, time::Duration};
use tracer_common::counter::Counter;

const LIMITS: Limits = Limits { idle_timeout: Duration::from_secs(350) };

fn totals() -> Counters {
    counters(&[(Counter::RequestsEnded, 7)])
}

fn hooks() -> Vec<Hook> {
    vec![Hook { hook: "read".to_owned(), attached: Some("tp_btf".to_owned()), ..Hook::default() }]
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
    recorder.fact(&fact()).unwrap();
    end(&mut recorder);
    recorder.record(encode_request(&first())).unwrap();
    end(&mut recorder);
    for rejection in [queue_full(), race()] {
        recorder.rejection(&rejection).unwrap();
        end(&mut recorder);
    }
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
    assert_eq!(reader.next().unwrap(), Some(Block::Fact(fact())));
    assert_eq!(reader.next().unwrap(), Some(Block::Record(encode_request(&first()))));
    assert_eq!(reader.next().unwrap(), Some(Block::Rejection(Box::new(queue_full()))));
    assert_eq!(reader.next().unwrap(), Some(Block::Rejection(Box::new(race()))));
    assert_eq!(reader.next().unwrap(), Some(Block::Waiting(encode_request(&slow()))));
    assert_eq!(reader.next().unwrap(), Some(Block::End(Some(totals()))));
    assert_eq!(reader.next().unwrap(), None);
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
    fn no_file_panics(at in 0usize..1800, value: u8, tail in prop::collection::vec(any::<u8>(), 0..40)) {
        let (mut bytes, _) = sample();
        let at = at % bytes.len();
        bytes[at] = value;
        blocks(&bytes);
        bytes.truncate(at);
        bytes.extend(tail);
        blocks(&bytes);
    }
}
