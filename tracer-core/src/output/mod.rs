//! What people and programs get to see: formats of events, and of a [`Report`].

pub mod columns;
pub mod json;
pub mod json_rejection;
pub mod json_summary;
pub mod lines;
pub mod objects;
pub mod reconciliation;
pub mod rejection;
pub mod summary;
pub mod terminal;
pub mod text;

use crate::{
    explain::Explanation,
    model::{namespaces::Label, rejection::Rejection, request::Request},
    report::Report,
};
use std::io;
use tracer_common::record::ConnectionRecord;

/// A format, and where it goes. An error means that it cannot be written there.
pub trait Output {
    /// A request has ended, or one that was shown is amended.
    fn request(&mut self, request: &Request<'_>) -> io::Result<()>;

    /// A connection is gone.
    fn connection(&mut self, record: &ConnectionRecord) -> io::Result<()>;

    /// Something was rejected. `namespace` is where, if there are several.
    fn rejection(
        &mut self,
        rejection: &Rejection,
        explanation: &Explanation,
        namespace: Option<Label<'_>>,
    ) -> io::Result<()>;

    /// Passes on what is buffered. Called a few times per second.
    fn flush(&mut self) -> io::Result<()>;

    /// The end.
    fn finish(&mut self, report: &Report) -> io::Result<()>;
}
