//! The tracer against clocks that are not its own: haproxy's timers, and the times of packets that tcpdump captured.
//! Needs root and the program (`TRACER_BIN`).

mod compare;
mod haproxy;
mod packets;
