use super::*;
use crate::{
    clock::Clock,
    decode::{encode_request, tests::encode_connection},
    recording::write::Recorder,
    samples::{CLOCK, closed, fact, first, slow, unanswered},
    status::Counters,
};
use std::{fs, time::Duration};
use tracer_common::record::{ConnectionRecord, Kind};

fn recording() -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.tracer");
    let mut recorder = Recorder::create(&path, CLOCK).unwrap();
    recorder.hooks(&[]).unwrap();
    recorder.fact(&fact()).unwrap();
    let opened = ConnectionRecord { kind: Kind::Opened as u32, reported: first().accepted, ..closed() };
    recorder.record(encode_connection(&opened)).unwrap();
    recorder.record(encode_request(&first())).unwrap();
    recorder.record(encode_request(&slow())).unwrap();
    recorder.record(encode_request(&unanswered())).unwrap();
    recorder.record(encode_connection(&closed())).unwrap();
    recorder.record(&[7; 12]).unwrap();
    recorder.waiting(encode_request(&unanswered())).unwrap();
    recorder.end(Some(&Counters::new([2, 1, 1, 4, 3, 0, 0, 0, 0, 0, 0, 0]))).unwrap();
    fs::read(&path).unwrap()
}

fn all() -> ShowArgs {
    ShowArgs { ports: vec![], peers: vec![], min: None, json: false, summary: false }
}

fn show(bytes: &[u8], args: &ShowArgs) -> (String, Option<String>) {
    let mut out = Vec::new();
    let terminal = Terminal { width: Some(80), ..Terminal::default() };
    let error = report(bytes, args, terminal, &mut out).err().map(|error| error.to_string());
    (String::from_utf8(out).unwrap(), error)
}

#[test]
fn a_report_is_the_same_every_time() {
    let bytes = recording();
    for args in [all(), ShowArgs { json: true, ..all() }, ShowArgs { summary: true, ..all() }] {
        let (first, error) = show(&bytes, &args);
        assert_eq!(error, None);
        assert!(!first.is_empty());
        assert_eq!(show(&bytes, &args), (first, None));
    }
}

#[test]
fn json_ends_with_the_status() {
    let (text, _) = show(&recording(), &ShowArgs { json: true, ..all() });
    let kinds: Vec<_> = text
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["kind"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(kinds, ["request", "request", "request", "connection", "waiting", "summary", "status"]);
    let status: serde_json::Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!((status["requests"].as_u64(), status["records_lost"].as_u64()), (Some(3), Some(0)));
    assert_eq!(status["records_undecodable"].as_u64(), Some(1));
}

#[test]
fn cut_anywhere_what_is_whole_is_reported() {
    let bytes = recording();
    for length in 1..bytes.len() {
        for json in [false, true] {
            let (text, error) = show(&bytes[..length], &ShowArgs { json, ..all() });
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
    let lines = |args: &ShowArgs| show(&bytes, args).0.lines().take_while(|line| !line.is_empty()).count();
    assert_eq!(lines(&all()), 4);
    assert_eq!(lines(&ShowArgs { ports: vec![8080], ..all() }), 3);
    assert_eq!(lines(&ShowArgs { peers: vec!["2001:db8::/32".parse().unwrap()], ..all() }), 2);
    assert_eq!(lines(&ShowArgs { min: Some(Duration::from_millis(1_500)), ..all() }), 2);
    assert_eq!(lines(&ShowArgs { min: Some(Duration::from_millis(1_300)), ..all() }), 3);
}

#[test]
fn a_clock_beyond_all_dates_is_no_panic() {
    let mut bytes = recording();
    for offset in [i64::MIN, i64::MAX] {
        bytes[12..20].copy_from_slice(&Clock { offset }.offset.to_le_bytes());
        assert_eq!(show(&bytes, &ShowArgs { json: true, ..all() }).1, None);
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
        let error = report(&bytes[..], &ShowArgs { json, ..all() }, Terminal::default(), Head(300)).unwrap_err();
        assert!(crate::is_broken_pipe(&anyhow::Error::from(error).context("a.tracer")));
    }
}
