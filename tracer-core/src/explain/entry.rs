//! What the table of causes says of each.

use crate::model::rejection::{Cause, Evidence};

/// When it strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// No connection comes about.
    BeforeConnection,
    /// A connection, or a request on it, is broken.
    OnConnection,
    /// Nothing is harmed yet.
    Warning,
}

/// What a count of it is a count of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// Packets. The peer sends them again: a connection that fails loses several.
    Packets,
    /// Connections that did not come about.
    Attempts,
    /// Connections.
    Connections,
    /// Requests.
    Requests,
    /// Requests that came for a connection that was no more, and are hence not among those that were traced.
    LateRequests,
    /// Nothing: its verdict is a whole sentence.
    Itself,
}

/// A cause. `text`, `verdict` and `advice` are templates (see `template.rs`) with the values of `values.rs`.
#[derive(Debug)]
pub struct Entry {
    /// Which.
    pub cause: Cause,
    /// Its name in every output: a promise.
    pub code: &'static str,
    /// When it strikes.
    pub family: Family,
    /// What a count of it is a count of.
    pub counted: Counted,
    /// What it may rest on.
    pub evidence: &'static [Evidence],
    /// A few words.
    pub title: &'static str,
    /// One sentence about one example.
    pub text: &'static str,
    /// About all of them: goes on from `37 requests from 10.0.1.0/24 to :8080`, and ends with what to do, in brief.
    pub verdict: &'static str,
    /// The status codes that the load balancer answers with. Of two, the second holds from the moment at which the
    /// request had waited for as long as the load balancer's idle timeout.
    pub alb: &'static [&'static str],
    /// What to do: a command or a setting.
    pub advice: &'static str,
}
