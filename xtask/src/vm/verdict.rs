//! What the console of a virtual machine says about the binary on that kernel.

use std::time::Duration;

use serde_json::Value;

use super::{
    kernel::{Kernel, Series},
    qemu::Run,
    transcript::{self, Section},
};
use crate::{arch::Arch, cargo::passed_in};

/// What a kernel cannot yield, by design.
#[derive(Clone, Copy)]
struct Limits {
    /// Hooks that may be refused.
    refused: &'static [&'static str],
    /// Stages that may be merged into a neighbour.
    merged: &'static [&'static str],
    /// The ways to a fact, beside the best one, that have to attach as well.
    ways: &'static [&'static str],
}

/// Ways that every kernel has.
const FALLBACKS: [&str; 3] =
    ["clsact ingress", "kretprobe inet_csk_accept", "tracepoint sys_exit_accept4, sys_exit_accept"];

impl Limits {
    fn of(kernel: Kernel) -> Self {
        match kernel {
            // No fentry on arm64 before 6.4: nothing tells when the response was written.
            Kernel { arch: Arch::Arm64, series: Series::V6_1 } => {
                Self { refused: &["write"], merged: &["egress"], ways: &FALLBACKS }
            }
            _ => Self {
                refused: &[],
                merged: &[],
                ways: &[FALLBACKS[0], FALLBACKS[1], FALLBACKS[2], "fexit inet_csk_accept", "fentry tcp_sendmsg"],
            },
        }
    }
}

/// The stages of a request, each of which a kernel has to yield.
const STAGES: [&str; 7] = ["ingress", "pickup", "upload", "service", "egress", "download", "drain"];

/// The outcome of one machine.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Time to the first process.
    boot: Option<Duration>,
    /// What was counted, for the line of the kernel.
    counts: Vec<(&'static str, String)>,
    /// Why it failed; empty when it passed.
    problems: Vec<String>,
}

impl Verdict {
    /// Judges a run of the test: all hooks attached, requests recorded with all their stages, and as many tests of
    /// rejections passed as were to run.
    pub fn of_test(run: &Run, kernel: Kernel, rejections: usize) -> Self {
        let (mut verdict, sections) = Self::of_machine(run);
        for name in ["check", "serve", "watch", "killed"] {
            verdict.expect_success(&sections, name);
        }
        if let Some(check) = transcript::find(&sections, "check") {
            verdict.judge_ways(&check.lines, Limits::of(kernel));
        }
        if let Some(watch) = transcript::find(&sections, "watch") {
            verdict.judge_records(&watch.lines, Limits::of(kernel));
        }
        if rejections > 0 {
            verdict.judge_rejections(&sections, rejections);
        }
        verdict
    }

    /// Judges a run of one command: it succeeded.
    pub fn of_command(run: &Run) -> Self {
        let (mut verdict, sections) = Self::of_machine(run);
        verdict.expect_success(&sections, "command");
        verdict
    }

    /// Whether nothing failed.
    pub fn passed(&self) -> bool {
        self.problems.is_empty()
    }

    /// One line about the kernel, and one for each problem.
    pub fn line(&self, release: &str) -> String {
        let mut columns = vec![format!("{release:<32}"), format!("{:<6}", if self.passed() { "ok" } else { "FAILED" })];
        columns.extend(self.boot.map(|boot| format!("boot {:>4.1} s", boot.as_secs_f64())));
        columns.extend(self.counts.iter().map(|(name, count)| format!("{name} {count}")));
        let problems = self.problems.iter().map(|problem| format!("    {problem}"));
        std::iter::once(columns.join("   ")).chain(problems).collect::<Vec<_>>().join("\n")
    }

    /// What holds for every run: it booted, loaded its modules, ended by itself and the kernel did not complain.
    fn of_machine(run: &Run) -> (Self, Vec<Section>) {
        let mut verdict = Self { boot: run.boot, ..Self::default() };
        let sections = transcript::parse(&run.console);
        if run.timed_out {
            verdict.problems.push("killed: it took longer than --timeout".to_owned());
        }
        if run.boot.is_none() {
            verdict.problems.push(format!("did not boot; the console ends with: {}", tail(&run.console)));
            return (verdict, sections);
        }
        verdict.expect_success(&sections, "modules");
        if let Some(warnings) = transcript::find(&sections, "kernel-warnings").filter(|found| !found.lines.is_empty()) {
            let first = warnings.lines.iter().take(3).map(String::as_str).collect::<Vec<_>>();
            verdict.problems.push(format!("the kernel warned: {}", first.join(" | ")));
        }
        (verdict, sections)
    }

    fn expect_success(&mut self, sections: &[Section], name: &str) {
        let problem = match transcript::find(sections, name) {
            Some(Section { status: Some(0), .. }) => return,
            Some(Section { status: Some(status), lines, .. }) => format!("{name}: exit {status}: {}", tail(lines)),
            Some(Section { status: None, lines, .. }) => format!("{name}: did not end: {}", tail(lines)),
            None => format!("{name}: was not reached"),
        };
        self.problems.push(problem);
    }

    /// Judges what `tracer check --all --json` wrote.
    fn judge_ways(&mut self, lines: &[String], limits: Limits) {
        let checks = lines.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let hooks: Vec<Value> = checks.filter_map(|check| check["hooks"].as_array().cloned()).flatten().collect();
        let also = |hook: &Value| hook["also"].as_array().cloned().unwrap_or_default();
        let attached: Vec<String> = hooks
            .iter()
            .flat_map(|hook| also(hook).into_iter().chain([hook["attached"].clone()]))
            .filter_map(|way| way.as_str().map(str::to_owned))
            .collect();
        self.counts.push(("ways", attached.len().to_string()));
        let missing = limits.ways.iter().filter(|way| !attached.iter().any(|attached| attached.starts_with(**way)));
        self.problems.extend(missing.map(|way| format!("check: {way} did not attach")));
    }

    fn judge_records(&mut self, lines: &[String], limits: Limits) {
        let records: Vec<Value> = lines.iter().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let of_kind = |kind: &'static str| records.iter().filter(move |record| record["kind"] == kind);
        match of_kind("status").next_back() {
            Some(status) => self.judge_hooks(status, limits),
            None => self.problems.push("watch: no status record".to_owned()),
        }
        let requests = of_kind("request").count();
        self.counts.push(("requests", requests.to_string()));
        if requests == 0 {
            self.problems.push("watch: no request was recorded".to_owned());
        }
        if requests > 0 && !of_kind("request").any(|request| has_all_stages(request, limits)) {
            self.problems.push("watch: no request has all its stages".to_owned());
        }
    }

    fn judge_rejections(&mut self, sections: &[Section], expected: usize) {
        self.expect_success(sections, "rejections");
        let lines = transcript::find(sections, "rejections").map_or(&[][..], |section| &section.lines);
        let passed: usize = lines.iter().map(|line| passed_in(line)).sum();
        self.counts.push(("rejections", format!("{passed}/{expected}")));
        if passed != expected {
            self.problems.push(format!("rejections: {passed} of {expected} tests passed"));
        }
    }

    fn judge_hooks(&mut self, status: &Value, limits: Limits) {
        let hooks = status["hooks"].as_array().map_or(&[][..], Vec::as_slice);
        let refused: Vec<&Value> = hooks.iter().filter(|hook| hook["attached"].is_null()).collect();
        self.counts.push(("hooks", format!("{}/{}", hooks.len() - refused.len(), hooks.len())));
        if hooks.is_empty() {
            self.problems.push("watch: the status record names no hooks".to_owned());
        }
        let allowed = |hook: &Value| hook["hook"].as_str().is_some_and(|name| limits.refused.contains(&name));
        let unexpected = refused.iter().filter(|hook| !allowed(hook));
        self.problems.extend(unexpected.map(|hook| format!("hook refused: {hook}")));
    }
}

fn has_all_stages(request: &Value, limits: Limits) -> bool {
    let merged: Vec<&str> = request["merged"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    STAGES.iter().all(|stage| {
        let measured = request["stages_ns"][stage].is_u64() && !merged.contains(stage);
        measured || limits.merged.contains(stage)
    })
}

/// The last lines, on one line.
fn tail(lines: &[String]) -> String {
    let last = lines.len().saturating_sub(5);
    lines[last..].join(" | ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str =
        r#"{"kind":"status","hooks":[{"hook":"born","attached":"tp_btf"},{"hook":"accepted","attached":"fexit"}]}"#;
    const REQUEST: &str = r#"{"kind":"request","stages_ns":{"ingress":1,"pickup":2,"upload":0,"service":3,"egress":4,"download":0,"drain":5},"merged":[]}"#;

    const AMD64: Kernel = Kernel { arch: Arch::Amd64, series: Series::V6_1 };

    const CHECK: &str = r#"{"kind":"check","hooks":[{"hook":"syn","attached":"tcx ingress on lo","also":["clsact ingress on lo"]},{"hook":"accept","attached":"fexit inet_csk_accept","also":["kretprobe inet_csk_accept","tracepoint sys_exit_accept4, sys_exit_accept"]},{"hook":"write","attached":"fentry tcp_sendmsg"}]}"#;

    /// A run of the test whose `watch` wrote these lines.
    fn run(watch: &str, check_status: i32) -> Run {
        let console = format!(
            "@@ booted\n@@ begin modules\n\n@@ end modules 0\n@@ begin check\n{CHECK}\n\n@@ end check {check_status}\n\
             @@ begin serve\n\n@@ end serve 0\n@@ begin watch\n{watch}\n\n@@ end watch 0\n\
             @@ begin killed\n\n@@ end killed 0\n\
             @@ begin kernel-warnings\n\n@@ end kernel-warnings 0"
        );
        let console = console.lines().map(str::to_owned).collect();
        Run { console, boot: Some(Duration::from_millis(5100)), timed_out: false }
    }

    fn problems(watch: &str) -> String {
        Verdict::of_test(&run(watch, 0), AMD64, 0).problems.join("\n")
    }

    #[test]
    fn a_kernel_that_yields_all_passes_with_a_line() {
        let verdict = Verdict::of_test(&run(&format!("{REQUEST}\n{REQUEST}\n{STATUS}"), 0), AMD64, 0);
        assert!(verdict.passed(), "{:?}", verdict.problems);
        let line = verdict.line("6.1.0-50-cloud-amd64");
        assert_eq!(line, "6.1.0-50-cloud-amd64               ok       boot  5.1 s   ways 6   hooks 2/2   requests 2");
    }

    #[test]
    fn a_refused_hook_fails() {
        let refused =
            r#"{"kind":"status","hooks":[{"hook":"born","attached":"tp_btf"},{"hook":"drop","refused":"no BTF"}]}"#;
        let verdict = Verdict::of_test(&run(&format!("{REQUEST}\n{refused}"), 0), AMD64, 0);
        assert!(!verdict.passed());
        assert!(verdict.line("x").contains("hooks 1/2") && verdict.line("x").contains("no BTF"));
    }

    #[test]
    fn without_request_status_or_hooks_it_fails() {
        assert_eq!(problems(STATUS), "watch: no request was recorded");
        assert_eq!(problems(REQUEST), "watch: no status record");
        assert!(problems(&format!("{REQUEST}\n{}", r#"{"kind":"status","hooks":[]}"#)).contains("names no hooks"));
    }

    #[test]
    fn a_missing_or_merged_stage_fails_where_all_are_due() {
        let missing = REQUEST.replace(r#""egress":4,"#, "");
        let merged = REQUEST.replace(r#""merged":[]"#, r#""merged":["egress"]"#);
        for request in [&missing, &merged] {
            assert_eq!(problems(&format!("{request}\n{STATUS}")), "watch: no request has all its stages");
            assert_eq!(problems(&format!("{request}\n{REQUEST}\n{STATUS}")), "");
        }
    }

    #[test]
    fn every_test_of_rejections_has_to_run_and_to_pass() {
        let judge = |lines: &str, status: i32| {
            let mut run = run(&format!("{REQUEST}\n{STATUS}"), 0);
            let section = format!("@@ begin rejections\n{lines}\n\n@@ end rejections {status}");
            run.console.extend(section.lines().map(str::to_owned));
            Verdict::of_test(&run, AMD64, 2)
        };
        let verdict = judge("test result: ok. 2 passed; 0 failed", 0);
        assert!(verdict.passed() && verdict.line("x").ends_with("rejections 2/2"), "{verdict:?}");
        assert!(!judge("test result: ok. 1 passed; 0 failed; 1 ignored", 0).passed());
        assert_eq!(judge("test a ... FAILED\ntest result: FAILED. 1 passed; 1 failed", 101).problems.len(), 2);
        let absent = Verdict::of_test(&run(&format!("{REQUEST}\n{STATUS}"), 0), AMD64, 2);
        assert_eq!(absent.problems[0], "rejections: was not reached");
    }

    #[test]
    fn only_what_a_kernel_cannot_yield_is_forgiven_to_it() {
        let request = REQUEST.replace(r#""merged":[]"#, r#""merged":["egress"]"#);
        let status = r#"{"kind":"status","hooks":[{"hook":"state","attached":"tp_btf"},{"hook":"write","refused":"no fentry"}]}"#;
        let run = run(&format!("{request}\n{status}"), 0);
        let passed = |series| Verdict::of_test(&run, Kernel { arch: Arch::Arm64, series }, 0).passed();
        assert!(passed(Series::V6_1));
        assert!(!passed(Series::V6_12));
    }

    #[test]
    fn a_failed_command_shows_its_last_words() {
        let verdict = Verdict::of_test(&run(&format!("{REQUEST}\n{STATUS}"), 3), AMD64, 0);
        assert_eq!(verdict.problems, [format!("check: exit 3: {CHECK}")]);
    }

    #[test]
    fn a_machine_that_did_not_boot_or_was_killed_fails() {
        let dead = Run { console: vec!["Kernel panic".to_owned()], boot: None, timed_out: true };
        let verdict = Verdict::of_command(&dead);
        assert!(verdict.problems.iter().any(|problem| problem.contains("--timeout")));
        assert!(verdict.problems.iter().any(|problem| problem.contains("Kernel panic")));
    }

    #[test]
    fn a_warning_of_the_kernel_fails() {
        let mut run = run(&format!("{REQUEST}\n{STATUS}"), 0);
        let last = run.console.len() - 2;
        run.console[last] = "WARNING: CPU: 0 PID: 1 at kernel/bpf/verifier.c:1".to_owned();
        assert!(!Verdict::of_test(&run, AMD64, 0).passed());
    }
}
