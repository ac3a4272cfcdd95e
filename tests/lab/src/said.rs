//! What tracer said of a situation, without what differs from run to run.
//!
//! The end-to-end tests write it beside a recording, and `tracer-core/tests/situations.rs`, which includes this file, compares
//! the report of that recording with it.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

/// The members of a rejection that are kept as they are, if they are there.
const MEMBERS: [&str; 12] = [
    "cause",
    "evidence",
    "sequence",
    "alb",
    "closed_because",
    "closed_together",
    "same_idle",
    "ended_unanswered",
    "closed_unread",
    "never_accepted",
    "never_read",
    "outgoing",
];
/// The sentences of a rejection.
const SENTENCES: [&str; 2] = ["explanation", "advice"];

/// The verdict in `output`, which is what `tracer watch --json` or `tracer report --json` printed.
///
/// # Errors
/// Where a line is no JSON.
pub fn verdict(output: &str) -> serde_json::Result<Value> {
    let objects = output.lines().map(serde_json::from_str).collect::<serde_json::Result<Vec<Value>>>()?;
    let of_kind = |kind: &'static str| objects.iter().filter(move |object| object["kind"] == kind);
    let mut rejections = BTreeMap::<String, u64>::new();
    for object in of_kind("rejection") {
        *rejections.entry(rejection(object).to_string()).or_default() += object["count"].as_u64().unwrap_or(0);
    }
    let rejections = rejections.into_iter().map(|(text, count)| {
        let mut rejection: Value = serde_json::from_str(&text)?;
        rejection["count"] = count.into();
        Ok(rejection)
    });
    let rejections = rejections.collect::<serde_json::Result<Vec<Value>>>()?;
    let mut verdict = json!({ "rejections": rejections });
    if let Some(summary) = of_kind("summary").next() {
        for member in ["requests", "unanswered", "cut", "messages", "streams", "connections"] {
            verdict[member] = summary[member].as_u64().unwrap_or(0).into();
        }
        if let Some(incomplete) = summary.get("may_be_incomplete") {
            verdict["may_be_incomplete"] = incomplete.clone();
        }
    }
    verdict["waiting"] = of_kind("waiting").map(|object| object["stage"].clone()).collect();
    Ok(verdict)
}

fn rejection(object: &Value) -> Value {
    let mut kept = Map::new();
    for member in MEMBERS {
        kept.extend(object.get(member).map(|value| (member.to_owned(), value.clone())));
    }
    if let Some(how) = object["ended_by"].get("how") {
        kept.insert("how".to_owned(), how.clone());
    }
    for sentence in SENTENCES {
        let text = object[sentence].as_str().unwrap_or_default();
        kept.insert(sentence.to_owned(), steady(text).into());
    }
    kept.into()
}

/// The sentence with `#` for each time, size, pid, address and other number, except numbers of connections and signals.
fn steady(text: &str) -> String {
    let mut steady = String::with_capacity(text.len());
    let mut at = 0;
    while let Some(found) = text[at..].find(|c: char| c.is_ascii_digit()) {
        let start = at + found;
        let is_in_number = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == ':';
        let number = text[start..].split(|c| !is_in_number(c)).next().unwrap_or_default().trim_end_matches(['.', ':']);
        let (before, after) = (&text[..start], &text[start + number.len()..]);
        let is_in_word = before.ends_with(|c: char| c.is_alphanumeric() || c == '_');
        let is_kept = is_in_word || before.ends_with("signal ") || after.starts_with(" connections");
        steady.push_str(&text[at..start]);
        steady.push_str(if is_kept { number } else { "#" });
        at = start + number.len();
    }
    steady + &text[at..]
}

#[cfg(test)]
mod tests {
    use super::{steady, verdict};

    #[test]
    fn what_differs_from_run_to_run_is_left_out() {
        for (text, expected) in [
            ("app[17] closed after 1.20s without", "app[#] closed after # without"),
            ("python3[17] (killed by signal 9): 3 connections", "python3[#] (killed by signal 9): 3 connections"),
            ("10.77.0.1:40000 gave up 812ms later.", "# gave up # later."),
            ("`cat /proc/17/stack`, 100kB (12 of 1024)", "`cat /proc/#/stack`, # (# of #)"),
            ("in 3.", "in #."),
        ] {
            assert_eq!(steady(text), expected);
        }
    }

    #[test]
    fn equal_rejections_are_added_up() {
        let line = r#"{"kind":"rejection","cause":"a","count":2,"explanation":"after 3s","advice":"b"}"#;
        let other = line.replace("3s", "4s");
        let verdict = verdict(&format!("{line}\n{other}\n")).unwrap();
        assert_eq!(verdict["rejections"][0]["count"], 4);
        assert_eq!(verdict["rejections"][0]["explanation"], "after #");
        assert_eq!(verdict["rejections"].as_array().map(Vec::len), Some(1));
    }
}
