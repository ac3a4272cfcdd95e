//! Unusual but real set-ups of a host, each made with the real thing: the hop, worker or rule is named, every request is shown
//! with its stages and process, and nobody innocent is blamed. Needs root; `TRACER_BIN` names the program.

mod listeners;
mod networks;
mod path;
mod port_mapping;
mod python;
mod queues;
mod rules;
mod scene;
mod silence;
mod sockets;
