//! What a host says about the process of a server: the answer to a question about a close.

use super::rejection::{ProcessName, Setting};
use serde::{Deserialize, Serialize};

/// The answers. What is not known is absent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Application {
    /// The process still runs.
    pub is_alive: bool,
    /// Something listens where the connection came in.
    pub listens: bool,
    /// The processes, by pid, that listen there and had run for a few seconds already: their listeners are none that replaced
    /// another one just now.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub elders: Vec<u32>,
    /// Open files, and how many the process may have.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub open_files: Option<(u64, u64)>,
    /// Threads.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub threads: Option<u64>,
    /// The name of the server in the table of servers.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub server: Option<String>,
    /// The process that listens, if the question was about that one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub process: Option<ProcessName>,
    /// The control group of the process, by its path.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cgroup: Option<String>,
    /// How many connections wait to be accepted at the listener, and how many may, if it is the only one there.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub queue: Option<(u32, u32)>,
    /// For how long it keeps idle connections.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub keep_alive: Option<Setting>,
}
