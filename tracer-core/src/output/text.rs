//! Text for people: lines, and the figures at the end.

use super::{Output, lines::Lines, reconciliation, summary, terminal::Terminal};
use crate::{
    explain::Explanation,
    model::{clock::Clock, namespaces::Label, rejection::Rejection, request::Request},
    report::Report,
};
use std::io::{self, Write};
use tracer_common::record::ConnectionRecord;

/// Text on `W`.
#[derive(Debug)]
pub struct Text<W> {
    out: W,
    terminal: Terminal,
    lines: Lines,
    /// Something was shown.
    any: bool,
}

impl<W: Write> Text<W> {
    /// Text for `terminal`.
    pub fn new(clock: Clock, terminal: Terminal, out: W) -> Self {
        Self { out, terminal, lines: Lines::new(clock, terminal), any: false }
    }
}

impl<W: Write> Output for Text<W> {
    fn request(&mut self, request: &Request<'_>) -> io::Result<()> {
        self.any = true;
        self.lines.request(&mut self.out, request)
    }

    fn connection(&mut self, _: &ConnectionRecord) -> io::Result<()> {
        Ok(())
    }

    fn rejection(
        &mut self,
        rejection: &Rejection,
        explanation: &Explanation,
        namespace: Option<Label<'_>>,
    ) -> io::Result<()> {
        self.any = true;
        self.lines.rejection(&mut self.out, rejection, explanation, namespace)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    fn finish(&mut self, report: &Report) -> io::Result<()> {
        if self.any {
            writeln!(self.out)?;
        }
        let mut text = Vec::new();
        summary::summary(&mut text, self.terminal, report)?;
        summary::waiting(&mut text, report.clock, &report.waiting())?;
        reconciliation::lines(&mut text, &report.run.reconciliation, &report.namespaces)?;
        summary::missing(&mut text, &report.run)?;
        self.out.write_all(self.terminal.fold(&String::from_utf8_lossy(&text)).as_bytes())?;
        self.out.flush()
    }
}
