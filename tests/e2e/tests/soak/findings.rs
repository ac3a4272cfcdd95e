//! What does not hold, and what of it is known.

use anyhow::{Result, ensure};

/// What is known not to hold yet: the topic, and what ten minutes have shown on Linux 6.18.
const KNOWN: [(&str, &str); 4] = [
    ("resident memory", "21.2 MB in the second round of a short run, 22.4 in the last"),
    ("map LISTENERS", "an entry per listener that a connection came for, until the least used make way at 768"),
    ("map NAMESPACES", "22 entries in the first minute, 185 in the last: an entry per number that a namespace has had"),
    ("map PORTS", "13 words in the first minute, 76 in the last: a bit per port on which something has ever listened"),
];

/// What does not hold: topic and words.
#[derive(Debug, Default)]
pub struct Findings(Vec<(String, String)>);

impl Findings {
    pub fn add(&mut self, topic: &str, text: String) {
        self.0.push((topic.to_owned(), text));
    }

    /// Holds a figure of tracer against the one that is right.
    pub fn hold(&mut self, topic: &str, what: &str, told: u64, expected: u64) {
        println!("{what}: {told} of {expected}");
        if told != expected {
            self.add(topic, format!("{what}: {told} instead of {expected}"));
        }
    }

    /// Fails for anything.
    pub fn assert_none(self) -> Result<()> {
        let texts: Vec<_> = self.0.into_iter().map(|(_, text)| text).collect();
        ensure!(texts.is_empty(), "{} findings:\n{}", texts.len(), texts.join("\n"));
        Ok(())
    }

    /// Fails for what is not known.
    pub fn assert_known(self) -> Result<()> {
        let (mut unknown, mut topics) = (Self::default(), Vec::new());
        for (topic, text) in self.0 {
            match KNOWN.iter().find(|(known, _)| *known == topic) {
                Some(known) => {
                    println!("known: {text}");
                    topics.push(known);
                }
                None => unknown.0.push((topic, text)),
            }
        }
        topics.dedup();
        for (topic, why) in topics {
            println!("known of {topic}: {why}");
        }
        unknown.assert_none()
    }
}
