//! After every kind of end nothing is left: no program, no link, no map, no filter, no queueing discipline.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use lab::clock::sleep;
use lab::process::Signal;
use lab::tracer::{Tracer, binary};
use lab::{Process, wait_until};

use crate::attachments::{Held, of_interfaces};
use crate::{Scene, ms};

#[test]
fn a_signal_leaves_nothing() -> Result<()> {
    let scene = Scene::new()?;
    let before = of_interfaces(&scene.lab.target)?;
    for (index, signal) in [Signal::KILL, Signal::INT, Signal::TERM, Signal::HUP, Signal::ABORT].into_iter().enumerate()
    {
        let mut tracer = Tracer::start(&scene.lab, &format!("tracer-{index}"), &[])?;
        let held = Held::by(tracer.pid())?;
        let traffic = std::thread::scope(|scope| {
            let traffic = scope.spawn(|| scene.send(2000));
            sleep(ms(100));
            tracer.process.signal(signal)?;
            tracer.process.wait(ms(10_000))?;
            traffic.join().map_err(|_| anyhow::anyhow!("the client panicked"))
        })?;
        traffic.with_context(|| format!("the traffic did not go on after {signal:?}"))?;
        held.assert_gone().with_context(|| format!("after {signal:?}"))?;
        assert_eq!(of_interfaces(&scene.lab.target)?, before, "after {signal:?}");
        scene.send(10)?;
    }
    Ok(())
}

#[test]
fn a_reader_that_goes_away_leaves_nothing() -> Result<()> {
    let scene = Scene::new()?;
    let before = of_interfaces(&scene.lab.target)?;
    let script = "\"$0\" watch --json --netns \"$1\" | head -1";
    let mut command = Command::new("sh");
    command.args(["-c", script]).arg(binary()?).arg(scene.lab.target.path());
    let mut shell = Process::start("shell", command, scene.lab.directory())?;
    shell.wait_ready(ms(30_000), |shell| shell.stderr().is_ok_and(|text| text.contains("tracer: watching")))?;
    let tracer = children(shell.pid())?.into_iter().find(|&pid| is_tracer(pid)).context("tracer is not there")?;
    let held = Held::by(tracer)?;
    wait_until("it to end", ms(20_000), || scene.send(20).is_ok() && shell.try_wait().is_ok_and(|it| it.is_some()))?;
    held.assert_gone()?;
    assert_eq!(of_interfaces(&scene.lab.target)?, before);
    Ok(())
}

fn children(pid: u32) -> Result<Vec<u32>> {
    let list = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
    Ok(list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect())
}

fn is_tracer(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim() == "tracer")
}

#[test]
fn twenty_starts_and_stops_leave_nothing() -> Result<()> {
    let scene = Scene::new()?;
    let before = of_interfaces(&scene.lab.target)?;
    let mut all = Vec::new();
    for index in 0..20 {
        let tracer = Tracer::start(&scene.lab, &format!("tracer-{index}"), &[])?;
        all.push(Held::by(tracer.pid())?);
        scene.send(1)?;
        let trace = tracer.stop()?;
        assert_eq!(trace.requests.len(), 1, "run {index}");
    }
    all.iter().try_for_each(Held::assert_gone)?;
    assert_eq!(of_interfaces(&scene.lab.target)?, before);
    Ok(())
}

#[test]
fn a_start_that_is_killed_at_any_moment_leaves_nothing() -> Result<()> {
    let scene = Scene::new()?;
    let before = of_interfaces(&scene.lab.target)?;
    let mut counts = Vec::new();
    for delay in (0..400).step_by(20) {
        let mut command = Command::new(binary()?);
        command.args(["watch", "--netns", scene.lab.target.name()]);
        let mut process = Process::start(&format!("tracer-{delay}"), command, scene.lab.directory())?;
        sleep(ms(delay));
        process.signal(Signal::STOP)?;
        let held = Held::so_far(process.pid())?;
        process.stop(Signal::KILL)?;
        held.assert_gone()?;
        counts.push(held.count());
    }
    counts.dedup();
    assert!(counts.len() > 2, "it was killed at different moments: {counts:?}");
    wait_until("nothing to be attached", ms(5000), || of_interfaces(&scene.lab.target).is_ok_and(|now| now == before))?;
    scene.send(10)?;
    Ok(())
}

#[test]
fn check_leaves_nothing() -> Result<()> {
    let scene = Scene::new()?;
    let before = of_interfaces(&scene.lab.target)?;
    let program = binary()?;
    let output = scene.lab.target.run(&program.to_string_lossy(), &["check"])?;
    ensure!(output.contains("This host can be traced"), "{output}");
    wait_until("nothing to be attached", ms(5000), || of_interfaces(&scene.lab.target).is_ok_and(|now| now == before))?;
    Ok(())
}
