//! Real servers, as they are run, stopped, reloaded and overloaded: nothing is reported of what is healthy, and every lost
//! request has its right cause. Needs root and what `cargo xtask setup` installs; `TRACER_BIN` names the program.

mod crowd;
mod deaths;
mod deploys;
mod early;
mod healthy;
mod http2;
mod limits;
mod protocols;
mod scene;
mod settings;
mod streams;
mod waits;
