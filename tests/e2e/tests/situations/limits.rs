//! Connections that an application accepts and does not serve, or never accepts.

use std::io::Write;

use anyhow::Result;
use lab::clock::sleep;

use crate::scene::{GET, Scene, assert_blames_no_setting, assert_causes, assert_turns, drain, ms, the_one};

/// As nginx at its limit of connections, or node at its limit of open files.
#[test]
fn accepted_and_closed_with_the_request_unread() -> Result<()> {
    let scene = Scene::new("limit-unread", &[])?;
    let listener = scene.listen()?;
    let (mut client, server) = scene.pair(&listener)?;
    client.write_all(GET)?;
    sleep(ms(5));
    drop(server);
    drain(&mut client);
    let trace = scene.end()?;
    assert_causes(&trace, &[("reset_before_response", 1)]);
    let told = the_one(&trace, "reset_before_response");
    assert!(told.closed_unread && told.never_read && !told.never_accepted, "{told:#?}");
    assert!(told.open_files.is_some_and(|(open, limit)| open > 3 && limit >= open), "{told:#?}");
    assert!(told.explanation.contains("without reading it"), "{told:#?}");
    assert_blames_no_setting(told);
    Ok(())
}

#[test]
fn accepted_and_closed_before_the_request_comes() -> Result<()> {
    let scene = Scene::new("limit-at-once", &[])?;
    let listener = scene.listen()?;
    for _ in 0..5 {
        let (mut client, server) = scene.pair(&listener)?;
        drop(server);
        sleep(ms(20));
        client.write_all(GET)?;
        drain(&mut client);
    }
    let trace = scene.end()?;
    assert_causes(&trace, &[("reset_before_response", 5)]);
    for told in trace.rejections_of("reset_before_response") {
        assert!(told.closed_unread && !told.never_accepted, "{told:#?}");
        assert!(told.late_ns.is_some_and(|late| late >= 15_000_000), "{told:#?}");
        assert_blames_no_setting(told);
    }
    Ok(())
}

/// All files that the process may open are open.
#[test]
fn the_limit_of_open_files_is_named() -> Result<()> {
    let scene = Scene::new("limit-files", &[])?;
    let program = "import resource\nresource.setrlimit(resource.RLIMIT_NOFILE, (20, 20))\n\
        held = [open('/dev/null') for _ in range(13)]\n\
        while True:\n  c, _ = l.accept()\n  time.sleep(.02)\n  c.close()\n";
    let server = scene.python(program)?;
    let mut client = scene.connect()?;
    client.write_all(GET)?;
    drain(&mut client);
    let trace = scene.end()?;
    assert_causes(&trace, &[("reset_before_response", 1)]);
    let told = the_one(&trace, "reset_before_response");
    assert_eq!(told.ended_by.as_ref().map(|by| by.pid), Some(server.pid()), "{told:#?}");
    assert!(told.open_files.is_some_and(|(open, limit)| limit == 20 && open >= 16), "{told:#?}");
    assert!(told.advice.contains("limit of open files") && told.advice.contains("LimitNOFILE"), "{told:#?}");
    Ok(())
}

#[test]
fn nobody_accepts() -> Result<()> {
    let scene = Scene::new("never-accepted", &[])?;
    let _listener = scene.listen()?;
    let mut client = scene.connect()?;
    client.write_all(GET)?;
    let trace = scene.end()?;
    assert_causes(&trace, &[]);
    let stages: Vec<_> = trace.waiting.iter().map(|waiting| waiting.stage.as_deref()).collect();
    assert_eq!(stages, [Some("accept")], "{:#?}", trace.waiting);
    assert!(trace.waiting[0].accept_ns.is_some_and(|wait| wait > 1_000_000_000), "{:#?}", trace.waiting);
    Ok(())
}

#[test]
fn nobody_accepts_for_longer_than_the_load_balancer_waits() -> Result<()> {
    let scene = Scene::new("never-accepted-504", &["--idle-timeout", "1s"])?;
    let _listener = scene.listen()?;
    let mut client = scene.connect()?;
    client.write_all(GET)?;
    sleep(ms(1500));
    let trace = scene.end()?;
    assert_causes(&trace, &[("no_response", 1)]);
    let told = the_one(&trace, "no_response");
    assert!(told.never_accepted && told.evidence == "observed", "{told:#?}");
    assert_eq!(told.queue_length.zip(told.queue_limit).map(|(length, _)| length), Some(1), "{told:#?}");
    assert!(told.explanation.contains("(in the accept queue: 1 of "), "{told:#?}");
    Ok(())
}

/// One thread, busy with another connection: the next one is accepted but not read.
#[test]
fn nobody_reads_for_longer_than_the_load_balancer_waits() -> Result<()> {
    let mut scene = Scene::new("never-read-504", &["--idle-timeout", "1s"])?;
    let server = scene.python("c, _ = l.accept()\ntime.sleep(60)\n")?;
    let mut client = scene.connect()?;
    client.write_all(GET)?;
    scene.wait_for_rejection()?;
    let trace = scene.end_soon()?;
    let told = the_one(&trace, "no_response");
    assert!(told.never_read && !told.never_accepted && told.evidence == "observed", "{told:#?}");
    assert_eq!(told.threads, Some(1), "{told:#?}");
    assert_eq!(told.process.as_ref().map(|process| process.pid), Some(server.pid()), "{told:#?}");
    assert!(told.explanation.contains("has not read a request"), "{told:#?}");
    assert!(told.explanation.ends_with("(the process has 1 thread)."), "{told:#?}");
    Ok(())
}

/// Opened and closed without a byte, by either side: health checks.
#[test]
fn connections_without_a_request_are_not_reported() -> Result<()> {
    let scene = Scene::new("no-request", &[])?;
    let listener = scene.listen()?;
    let (mut client, server) = scene.pair(&listener)?;
    drop(server);
    drain(&mut client);
    drop(client);
    let (client, mut server) = scene.pair(&listener)?;
    drop(client);
    drain(&mut server);
    drop(server);
    let trace = scene.end_soon()?;
    assert_causes(&trace, &[]);
    assert_turns(&trace, 0, 0, 0);
    Ok(())
}

/// The listener closes with a connection in its queue.
#[test]
fn nobody_accepts_and_the_listener_closes() -> Result<()> {
    let scene = Scene::new("never-accepted-closed", &[])?;
    let listener = scene.listen()?;
    let mut client = scene.connect()?;
    client.write_all(GET)?;
    sleep(ms(100));
    drop(listener);
    drain(&mut client);
    let trace = scene.end_soon()?;
    assert_causes(&trace, &[("reset_before_response", 1)]);
    let told = the_one(&trace, "reset_before_response");
    assert!(told.never_accepted && !told.closed_unread, "{told:#?}");
    assert!(told.explanation.contains("it had never been accepted"), "{told:#?}");
    assert!(told.advice.contains("The listener closed with connections in its queue"), "{told:#?}");
    Ok(())
}

/// All files that the process may open are open: it accepts nothing.
#[test]
fn nobody_accepts_at_the_limit_of_open_files() -> Result<()> {
    let mut scene = Scene::new("limit-files-504", &["--idle-timeout", "1s"])?;
    let program = "import resource\nresource.setrlimit(resource.RLIMIT_NOFILE, (20, 20))\nheld = []\n\
        try:\n  while True: held.append(open('/dev/null'))\nexcept OSError: pass\n\
        while True:\n  try: l.accept()\n  except OSError: time.sleep(.05)\n";
    let server = scene.python(program)?;
    let mut client = scene.connect()?;
    client.write_all(GET)?;
    scene.wait_for_rejection()?;
    let trace = scene.end_soon()?;
    assert_causes(&trace, &[("no_response", 1)]);
    let told = the_one(&trace, "no_response");
    assert!(told.never_accepted && told.evidence == "observed", "{told:#?}");
    // A file that was open before the limit was set counts, too.
    assert!(told.open_files.is_some_and(|(open, limit)| open >= 20 && limit == 20), "{told:#?}");
    assert_eq!(told.process.as_ref().map(|process| process.pid), Some(server.pid()), "{told:#?}");
    assert!(told.explanation.contains("has not accepted the connection of a request"), "{told:#?}");
    assert!(told.advice.contains("limit of open files (2"), "{told:#?}");
    assert!(told.advice.contains("LimitNOFILE") && !told.advice.contains("workers"), "{told:#?}");
    Ok(())
}
