//! `tracer check`: whether this host can be traced, through what, and why not.

use crate::{
    cli::CheckArgs,
    probe::{
        Filters, HookStatus, Probe, ProbeError, Ways,
        host::{self, HostCheck},
    },
};
use anyhow::Context;
use serde::Serialize;
use std::{
    io::{self, Write},
    process::ExitCode,
};
use tracer_core::model::status::Hook;

/// Runs the command.
pub fn run(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    let facts = host::facts().context("reading /proc")?;
    let outcome = examine(&facts, if args.all { Ways::Every } else { Ways::Best });
    let mut out = io::stdout().lock();
    if args.json {
        json(&mut out, &facts, &outcome)?;
    } else {
        text(&mut out, &facts, &outcome)?;
    }
    Ok(match outcome {
        Outcome::Tried { verdict: Ok(()), .. } => ExitCode::SUCCESS,
        Outcome::Tried { verdict: Err(error), .. } | Outcome::Failed(error) => ExitCode::from(error.exit_code()),
    })
}

enum Outcome {
    /// The hooks were attached, as far as they could be, and detached again.
    Tried { hooks: Vec<HookStatus>, missing: Vec<&'static str>, verdict: Result<(), ProbeError> },
    /// It did not come to that.
    Failed(ProbeError),
}

fn examine(facts: &HostCheck, ways: Ways) -> Outcome {
    let tried = Probe::supports_btf().and_then(|()| {
        if facts.missing_capabilities.is_empty() {
            Probe::attach(&Filters::default(), ways, false)
        } else {
            Err(ProbeError::Privileges(facts.missing_capabilities.join(", ")))
        }
    });
    match tried {
        Ok(probe) => Outcome::Tried {
            hooks: probe.hooks().to_vec(),
            missing: probe.missing_members().to_vec(),
            verdict: probe.require_essential(),
        },
        Err(error) => Outcome::Failed(error),
    }
}

fn text(out: &mut impl Write, facts: &HostCheck, outcome: &Outcome) -> io::Result<()> {
    writeln!(out, "kernel      {} {}", facts.release, facts.machine)?;
    writeln!(out, "lockdown    {}", facts.lockdown.as_deref().unwrap_or("not readable"))?;
    let missing = &facts.missing_capabilities;
    let privileges = if missing.is_empty() { "enough".to_owned() } else { format!("missing {}", missing.join(", ")) };
    writeln!(out, "privileges  {privileges}")?;
    match outcome {
        Outcome::Failed(error) => {
            if let ProbeError::Privileges(_) = error {
                writeln!(out, "types       readable (BTF)")?;
                writeln!(out, "\nWhether the hooks attach was not tried: run it with sudo.")
            } else {
                writeln!(out, "\nThis host cannot be traced: {error}")
            }
        }
        Outcome::Tried { hooks, missing, verdict } => {
            writeln!(out, "types       readable (BTF)\n")?;
            writeln!(out, "{:<13}THROUGH", "HOOK")?;
            hooks.iter().try_for_each(|hook| hook_lines(out, hook))?;
            if !missing.is_empty() {
                writeln!(out, "\nnot in this kernel: {}", missing.join(", "))?;
            }
            let attached = hooks.iter().filter(|hook| hook.through.is_some()).count();
            match verdict {
                Ok(()) if attached == hooks.len() => {
                    writeln!(out, "\nThis host can be traced: {attached} of {attached} hooks.")
                }
                Ok(()) => writeln!(out, "\nThis host can be traced, in part: {attached} of {} hooks.", hooks.len()),
                Err(error) => writeln!(out, "\nThis host cannot be traced: {error}"),
            }
        }
    }
}

fn hook_lines(out: &mut impl Write, hook: &HookStatus) -> io::Result<()> {
    let indent = "";
    match &hook.through {
        Some(through) => writeln!(out, "{:<13}{through}", hook.name)?,
        None => writeln!(out, "{:<13}NOT ATTACHED; lost: {}", hook.name, hook.lost)?,
    }
    hook.also.iter().try_for_each(|way| writeln!(out, "{indent:<13}  also: {way}"))?;
    hook.refused.iter().try_for_each(|(way, reason)| writeln!(out, "{indent:<13}  refused: {way}: {reason}"))
}

#[derive(Serialize)]
struct Json<'a> {
    kind: &'static str,
    kernel: &'a str,
    machine: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    lockdown: Option<&'a str>,
    missing_capabilities: &'a [&'static str],
    #[serde(skip_serializing_if = "Option::is_none")]
    can_be_traced: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    hooks: Vec<Hook>,
}

fn json(out: &mut impl Write, facts: &HostCheck, outcome: &Outcome) -> anyhow::Result<()> {
    let (can_be_traced, error, hooks) = match outcome {
        Outcome::Tried { hooks, verdict, .. } => (
            Some(verdict.is_ok()),
            verdict.as_ref().err().map(ToString::to_string),
            hooks.iter().map(Hook::from).collect(),
        ),
        // Without privileges it is not known.
        Outcome::Failed(error) => ((error.exit_code() == 3).then_some(false), Some(error.to_string()), Vec::new()),
    };
    let object = Json {
        kind: "check",
        kernel: &facts.release,
        machine: facts.machine,
        lockdown: facts.lockdown.as_deref(),
        missing_capabilities: &facts.missing_capabilities,
        can_be_traced,
        error,
        hooks,
    };
    serde_json::to_writer(&mut *out, &object)?;
    writeln!(out)?;
    Ok(())
}
