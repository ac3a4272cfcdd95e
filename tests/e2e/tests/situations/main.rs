//! Situations from public reports, each as small as it can be: what real servers do at a deploy, at a limit, with an upload
//! that they answer early, and what only looks like a request. Needs root; `TRACER_BIN` names the program.
//!
//! With `KEEP_SITUATIONS=DIR` each recording and what was decided of it is kept in DIR: `cargo xtask situations` does that.
//! `tracer-core/tests/situations.rs` replays them without a kernel.

mod deaths;
mod deploys;
mod limits;
mod lingering;
mod scene;
mod turns;
mod uploads;
mod waits;
