//! JSON for programs: an object per event, the figures and the status at the end.

use super::{Output, json_rejection, json_summary, objects, objects::Objects};
use crate::{
    explain::Explanation,
    model::{clock::Clock, namespaces::Label, rejection::Rejection, request::Request},
    report::Report,
};
use std::io::{self, Write};
use tracer_common::record::ConnectionRecord;

/// JSON on `W`.
#[derive(Debug)]
pub struct Json<W> {
    out: W,
    clock: Clock,
    objects: Objects,
}

impl<W: Write> Json<W> {
    /// JSON for records of this clock.
    pub const fn new(clock: Clock, out: W) -> Self {
        Self { out, clock, objects: Objects::new(clock) }
    }
}

impl<W: Write> Output for Json<W> {
    fn request(&mut self, request: &Request<'_>) -> io::Result<()> {
        self.objects.request(&mut self.out, request)
    }

    fn connection(&mut self, record: &ConnectionRecord) -> io::Result<()> {
        self.objects.connection(&mut self.out, record)
    }

    fn rejection(&mut self, rejection: &Rejection, explanation: &Explanation, _: Option<Label<'_>>) -> io::Result<()> {
        json_rejection::rejection(&mut self.out, self.clock, rejection, explanation)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    fn finish(&mut self, report: &Report) -> io::Result<()> {
        let Self { out, objects: lines, .. } = self;
        report.waiting().iter().try_for_each(|request| lines.waiting(out, request))?;
        json_summary::summary(out, report)?;
        objects::status(out, report.rejections, &report.run, &report.namespaces.named())?;
        out.flush()
    }
}
