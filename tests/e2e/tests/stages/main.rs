//! Each delay that the lab injects shows in its own stage and in no other, within 2 ms or 5 % of it, for IPv4, IPv6, and
//! IPv4 through a dual-stack listener. Needs root and the program (`TRACER_BIN`).

mod application;
mod bench;
mod connection;
mod ends;
mod faults;
mod ingress;
mod keep_alive;
mod kernel_lock;
mod network;
