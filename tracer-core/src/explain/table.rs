//! The table of causes for README.md: what the templates say when no figure is known.

use super::{
    causes::CAUSES,
    entry::{Entry, Family},
    template::render,
};
use crate::model::rejection::Evidence;
use std::{env, fmt::Write, fs, path::Path};

const BEGIN: &str = "<!-- causes -->\n";
const END: &str = "<!-- /causes -->";

/// The table as Markdown.
pub fn markdown() -> String {
    let mut text = String::from("\n| cause | what it means | ALB | evidence | what to do |\n|---|---|---|---|---|\n");
    let families = [
        (Family::BeforeConnection, "before a connection"),
        (Family::OnConnection, "on a connection"),
        (Family::Warning, "before harm"),
    ];
    for (family, title) in families {
        let _ = writeln!(text, "| **{title}** | | | | |");
        for entry in CAUSES.iter().filter(|entry| entry.family == family) {
            row(&mut text, entry);
        }
    }
    text.push('\n');
    text
}

fn row(text: &mut String, entry: &Entry) {
    let plain = |template| render(template, |_| None).replace('|', "\\|");
    let codes = if entry.alb.is_empty() { "-".to_owned() } else { entry.alb.join(", ") };
    let evidence: Vec<_> = entry.evidence.iter().map(|&it| evidence(it)).collect();
    let (means, advice) = (plain(entry.text), plain(entry.advice));
    let _ = writeln!(text, "| `{}` | {means} | {codes} | {} | {advice} |", entry.code, evidence.join(", "));
}

const fn evidence(evidence: Evidence) -> &'static str {
    match evidence {
        Evidence::Observed => "observed",
        Evidence::Inferred => "inferred",
        Evidence::NotSeen => "not seen",
    }
}

/// `UPDATE_README=1 cargo test -p tracer-core readme` writes it.
#[test]
fn readme_has_the_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let readme = fs::read_to_string(&path).unwrap();
    let (before, rest) = readme.split_once(BEGIN).unwrap();
    let (table, after) = rest.split_once(END).unwrap();
    if env::var_os("UPDATE_README").is_some() {
        fs::write(&path, [before, BEGIN, &markdown(), END, after].concat()).unwrap();
    } else {
        assert!(table == markdown(), "UPDATE_README=1 cargo test -p tracer-core readme");
    }
}
