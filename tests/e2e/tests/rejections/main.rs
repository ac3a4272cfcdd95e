//! Every way in which the last hop refuses or breaks requests, made with the real thing, is reported by its name, as often
//! as it happened, with its evidence; and nothing else is. Each for IPv4 and IPv6. Needs root; `TRACER_BIN` names the
//! program.

mod broken;
mod filters;
mod firewall;
mod flood;
mod healthy;
mod keep_alive;
mod packets;
mod queues;
mod routes;
mod scene;
mod told;
mod waiting;
