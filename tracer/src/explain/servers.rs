//! The settings of well-known servers that advice names.

/// A server.
pub struct Server {
    /// How the names of its threads begin.
    pub comm: &'static [&'static str],
    /// For how long it keeps an idle connection.
    pub keep_alive: &'static str,
    /// How many connections it serves at once.
    pub workers: &'static str,
    /// How many may wait in its accept queue.
    pub backlog: &'static str,
}

/// To be extended.
pub static SERVERS: &[Server] = &[
    Server {
        comm: &["nginx"],
        keep_alive: "nginx keepalive_timeout",
        workers: "nginx worker_processes, worker_connections",
        backlog: "backlog= of nginx's listen",
    },
    Server {
        // Newer versions of Node call the thread of the event loop so.
        comm: &["node", "MainThread"],
        keep_alive: "node server.keepAliveTimeout (and headersTimeout above it)",
        workers: "the number of node processes (node:cluster)",
        backlog: "the backlog of node's server.listen()",
    },
    Server {
        comm: &["gunicorn"],
        keep_alive: "gunicorn --keep-alive",
        workers: "gunicorn --workers, --threads",
        backlog: "gunicorn --backlog",
    },
    Server {
        comm: &["uvicorn"],
        keep_alive: "uvicorn --timeout-keep-alive",
        workers: "uvicorn --workers",
        backlog: "uvicorn --backlog",
    },
    Server {
        comm: &["apache2", "httpd"],
        keep_alive: "apache KeepAliveTimeout",
        workers: "apache MaxRequestWorkers",
        backlog: "apache ListenBacklog",
    },
    Server {
        comm: &["haproxy"],
        keep_alive: "haproxy timeout http-keep-alive",
        workers: "haproxy maxconn",
        backlog: "haproxy backlog",
    },
    Server {
        comm: &["puma"],
        keep_alive: "puma persistent_timeout",
        workers: "puma workers, threads",
        backlog: "backlog= of puma's bind",
    },
    Server {
        comm: &["http-nio-", "https-jsse-nio-"],
        keep_alive: "Tomcat keepAliveTimeout",
        workers: "Tomcat maxThreads, maxConnections",
        backlog: "Tomcat acceptCount",
    },
];

/// The server whose thread is called `comm`.
#[must_use]
pub fn of(comm: &str) -> Option<&'static Server> {
    SERVERS.iter().find(|server| server.comm.iter().any(|name| comm.starts_with(name)))
}

#[cfg(test)]
mod tests {
    use super::of;

    #[test]
    fn a_server_is_known_by_its_threads() {
        assert_eq!(of("gunicorn").map(|it| it.keep_alive), Some("gunicorn --keep-alive"));
        assert_eq!(of("http-nio-8080-e").map(|it| it.keep_alive), Some("Tomcat keepAliveTimeout"));
        assert!(of("lab-target").is_none());
    }
}
