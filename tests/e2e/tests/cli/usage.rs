//! Wrong use is answered with what is wrong and what would be right; help is there for everything.

use anyhow::Result;

use crate::tracer;

#[test]
fn wrong_arguments_are_named() -> Result<()> {
    for (arguments, told) in [
        ("watch --port 0", ["'0'", "--port"]),
        ("watch --port 65536", ["'65536'", "--port"]),
        ("watch --port http", ["'http'", "--port"]),
        ("watch --peer 10.0.1.0/33", ["10.0.1.0/33", "10.0.1.0/24"]),
        ("watch --peer web", ["'web'", "prefix length"]),
        ("watch --peer 10.0.1.5/24", ["network is 10.0.1.0/24", "single address 10.0.1.5"]),
        ("watch --peer 2001:db8::1/32", ["network is 2001:db8::/32", "single address 2001:db8::1"]),
        ("watch -d soon", ["'soon'", "250ms"]),
        ("watch --min=-1s", ["-1s", "--min"]),
        ("watch -n 0", ["'0'", "--count"]),
        ("watch -p 0", ["'0'", "--pid"]),
        ("watch --prot 80", ["--prot", "--port"]),
        ("watch --without receive", ["'receive'", "accept, device_time"]),
        ("watch --without accept --without read", ["'read'", "accept, device_time"]),
        ("report", ["FILE", "--help"]),
        ("report --json", ["FILE", "--help"]),
        ("wotch", ["'wotch'", "watch"]),
        ("watch again", ["'again'", "--help"]),
    ] {
        let run = tracer(&arguments.split(' ').collect::<Vec<_>>())?;
        run.assert_refused(2, &told);
    }
    Ok(())
}

#[test]
fn an_unknown_interface_is_answered_with_those_there_are() -> Result<()> {
    tracer(&["watch", "-i", "lo", "-i", "nope0", "-d", "1s"])?.assert_refused(2, &["nope0", "there are: ", "lo"]);
    Ok(())
}

#[test]
fn an_unknown_namespace_is_answered_with_where_to_look() -> Result<()> {
    for netns in ["no-such-namespace", "/no/such/namespace", "4194305", "4294967295", "net:[4026539999]", "/etc/passwd"]
    {
        let run = tracer(&["watch", "--netns", netns, "-d", "1s"])?;
        let shown = netns.trim_start_matches("net:[").trim_end_matches(']');
        run.assert_refused(2, &["network namespace", shown, "ip netns list"]);
    }
    Ok(())
}

#[test]
fn every_command_has_help() -> Result<()> {
    for (arguments, told) in [
        (&["--help"][..], &["Usage: tracer <COMMAND>", "watch", "report", "check", "Exit codes"][..]),
        (&["watch", "--help"], &["Usage: tracer watch", "--port", "--netns", "--min", "Examples:", "Stages:"]),
        (&["watch", "-h"], &["Usage: tracer watch", "--port"]),
        (&["report", "--help"], &["Usage: tracer report", "<FILE>", "Examples:"]),
        (&["check", "--help"], &["Usage: tracer check", "--json"]),
        (&["--version"], &["tracer "]),
    ] {
        let run = tracer(arguments)?;
        run.assert_done();
        for text in told {
            assert!(run.stdout.contains(text), "no {text:?} in {run:#?}");
        }
        assert_eq!(run.stderr, "", "{arguments:?}");
        let widest = run.stdout.lines().map(|line| line.chars().count()).max();
        assert!(widest.is_some_and(|widest| widest <= 120), "{arguments:?}: {widest:?} characters");
    }
    let nothing = tracer(&[])?;
    assert_eq!((nothing.code, nothing.stdout.as_str()), (Some(2), ""));
    assert!(nothing.stderr.contains("Usage: tracer <COMMAND>"), "{nothing:#?}");
    Ok(())
}
