//! From records to what is said of them: the pure part of tracer.
//!
//! It asks nothing of the system that it runs on, so that a recording can be read anywhere. What a host has to be asked for
//! comes in as a value, from the live run or from a recording.

pub mod aggregate;
pub mod decode;
pub mod direct;
pub mod duration;
pub mod explain;
pub mod model;
pub mod output;
pub mod pipeline;
pub mod recording;
pub mod replay;
pub mod report;
#[cfg(test)]
mod samples;
pub mod track;
pub mod units;
