//! From facts to causes, and from causes to sentences.

pub mod application;
pub mod causes;
pub mod classify;
pub mod close_reason;
pub mod closes;
pub mod connection;
pub mod ending;
pub mod entry;
pub mod reasons;
pub mod servers;
#[cfg(test)]
mod table;
mod template;
#[cfg(test)]
mod tests;
mod tls;
mod values;
pub mod verdict;

use crate::model::rejection::{Cause, Rejection};
use entry::Entry;
use std::{slice, time::Duration};
use template::render;
use values::{Known, has_timed_out};

/// What is assumed of the load balancer, unless the user says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Its idle timeout: it closes, or answers 504, after so long without a byte.
    pub idle_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { idle_timeout: Duration::from_mins(1) }
    }
}

/// A rejection in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// A few words, such as `accept queue full`.
    pub title: &'static str,
    /// One sentence with the figures filled in.
    pub text: String,
    /// What to do: a command or a setting.
    pub advice: String,
    /// The status codes that the load balancer answers with; empty for a warning.
    pub alb: &'static [&'static str],
}

/// Puts `rejection` into words.
pub fn explain(rejection: &Rejection, limits: Limits) -> Explanation {
    let entry = entry(rejection.cause);
    let known = Known { rejection, limits };
    let alb = match entry.alb {
        // What is forwarded and answered there harms nobody.
        _ if rejection.cause == Cause::Forwarded && rejection.facts.retransmits.is_none() => &[][..],
        // `net.ipv4.tcp_abort_on_overflow`.
        _ if rejection.cause == Cause::AcceptQueueFull && rejection.facts.answer.is_some() => &["502"],
        [soon, late] => slice::from_ref(if has_timed_out(&rejection.facts, limits) { late } else { soon }),
        codes => codes,
    };
    Explanation {
        title: entry.title,
        text: render(entry.text, |name| known.value(name)),
        advice: render(entry.advice, |name| known.value(name)),
        alb,
    }
}

/// The name of `cause` in every output.
pub fn name(cause: Cause) -> &'static str {
    entry(cause).code
}

/// What the table of causes says of `cause`.
pub fn entry(cause: Cause) -> &'static Entry {
    // The table is in the order of the causes (which is asserted there) and has all of them (which is tested).
    &causes::CAUSES[cause as usize]
}
