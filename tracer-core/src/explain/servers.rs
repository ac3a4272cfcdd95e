//! The settings of well-known servers that advice names.

use std::time::Duration;

/// By how much a keep-alive time should be longer than the load balancer's idle timeout, in seconds: a second for the remainder of
/// that timeout, and some for clocks that look now and then.
const MARGIN: u64 = 5;

/// A server.
pub struct Server {
    /// Its name in the table.
    pub name: &'static str,
    /// How the names of its threads begin.
    pub comm: &'static [&'static str],
    /// What of its command line tells it, where its threads have another name.
    pub command: &'static [&'static str],
    /// For how long it keeps an idle connection.
    pub keep_alive: &'static str,
    /// The name of that setting on its command line.
    pub keep_alive_flag: Option<&'static str>,
    /// The name of that setting in its configuration.
    pub keep_alive_directive: Option<&'static str>,
    /// The option that names its configuration.
    pub configuration_flag: Option<&'static str>,
    /// Where its configuration is otherwise.
    pub configuration: &'static [&'static str],
    /// How many connections it serves at once.
    pub workers: &'static str,
    /// How many may wait in its accept queue.
    pub backlog: &'static str,
    /// What it closes new connections for.
    pub limits: &'static str,
    /// For how long it waits for the rest of a request.
    pub body: &'static str,
    /// It answers every request that came whole.
    pub answers_everything: bool,
    /// What makes it read the rest of an upload that it has answered.
    pub lingering: &'static str,
    /// How that setting is written for a longer time: `{s}` stands for its seconds, `{ms}` for its
    /// milliseconds, `{more_ms}` for a second more.
    pub longer: Option<&'static str>,
    /// The command that makes it take effect without a restart. `{unit}` stands for its systemd unit.
    pub reload: Option<&'static str>,
    /// What replaces its workers.
    pub recycle: &'static str,
}

/// A server of which nothing is known.
const UNKNOWN: Server = Server {
    name: "",
    comm: &[],
    command: &[],
    keep_alive: "its keep-alive time",
    keep_alive_flag: None,
    keep_alive_directive: None,
    configuration_flag: None,
    configuration: &[],
    workers: "workers or threads",
    backlog: "the backlog of the application's listen()",
    limits: "connections or workers at once, or open files",
    body: "its time-out for the body",
    answers_everything: false,
    lingering: "it has to read the rest of the body itself",
    longer: None,
    reload: None,
    recycle: "A limit of requests for each worker ends its idle connections now and then",
};

/// To be extended. The first one whose threads or command line fit.
pub static SERVERS: &[Server] = &[
    Server {
        name: "nginx",
        comm: &["nginx"],
        keep_alive: "nginx keepalive_timeout",
        keep_alive_directive: Some("keepalive_timeout"),
        configuration_flag: Some("-c"),
        configuration: &["/etc/nginx/nginx.conf"],
        workers: "nginx worker_processes, worker_connections",
        backlog: "backlog= of nginx's listen",
        limits: "nginx worker_connections, or worker_rlimit_nofile",
        body: "nginx client_body_timeout",
        answers_everything: true,
        lingering: "nginx lingering_close, which is on unless the configuration turns it off",
        longer: Some("keepalive_timeout {s}s;"),
        reload: Some("nginx -t && nginx -s reload"),
        recycle: "`nginx -s reload` ends the old workers and their idle connections at once",
        ..UNKNOWN
    },
    Server {
        name: "haproxy",
        comm: &["haproxy"],
        keep_alive: "haproxy timeout http-keep-alive",
        keep_alive_directive: Some("timeout http-keep-alive"),
        configuration_flag: Some("-f"),
        configuration: &["/etc/haproxy/haproxy.cfg"],
        workers: "haproxy maxconn",
        backlog: "haproxy backlog",
        limits: "haproxy maxconn",
        body: "haproxy timeout client",
        lingering: "haproxy reads it by itself",
        longer: Some("timeout http-keep-alive {s}s"),
        reload: Some("systemctl reload {unit}"),
        recycle: "A reload ends the idle connections of the old process; hard-stop-after bounds the others",
        ..UNKNOWN
    },
    Server {
        name: "apache",
        comm: &["apache2", "httpd"],
        keep_alive: "apache KeepAliveTimeout",
        keep_alive_directive: Some("KeepAliveTimeout"),
        configuration_flag: Some("-f"),
        configuration: &["/etc/apache2/apache2.conf", "/etc/httpd/conf/httpd.conf"],
        workers: "apache MaxRequestWorkers",
        backlog: "apache ListenBacklog",
        limits: "apache MaxRequestWorkers, or AsyncRequestWorkerFactor",
        body: "apache RequestReadTimeout",
        lingering: "apache reads for up to 30 s by itself",
        longer: Some("KeepAliveTimeout {s}"),
        reload: Some("apachectl configtest && apachectl graceful"),
        recycle: "MaxConnectionsPerChild recycles workers; 0 turns that off",
        ..UNKNOWN
    },
    Server {
        name: "php-fpm",
        comm: &["php-fpm"],
        keep_alive: "the keep-alive of the web server in front of php-fpm",
        workers: "php-fpm pm.max_children",
        backlog: "php-fpm listen.backlog",
        limits: "php-fpm pm.max_children",
        recycle: "pm.max_requests recycles workers; 0 turns that off",
        ..UNKNOWN
    },
    Server {
        name: "gunicorn",
        comm: &["gunicorn"],
        command: &["gunicorn"],
        keep_alive: "gunicorn --keep-alive",
        keep_alive_flag: Some("--keep-alive"),
        keep_alive_directive: Some("keepalive"),
        configuration_flag: Some("-c"),
        workers: "gunicorn --workers, --threads",
        backlog: "gunicorn --backlog",
        limits: "gunicorn --worker-connections",
        body: "gunicorn --timeout",
        recycle: "gunicorn --max-requests recycles workers; 0 turns that off",
        longer: Some("--keep-alive {s}"),
        ..UNKNOWN
    },
    Server {
        name: "uvicorn",
        comm: &["uvicorn"],
        command: &["uvicorn"],
        keep_alive: "uvicorn --timeout-keep-alive",
        keep_alive_flag: Some("--timeout-keep-alive"),
        workers: "uvicorn --workers",
        backlog: "uvicorn --backlog",
        limits: "uvicorn --limit-concurrency",
        recycle: "uvicorn --limit-max-requests recycles workers",
        longer: Some("--timeout-keep-alive {s}"),
        ..UNKNOWN
    },
    Server {
        name: "hypercorn",
        comm: &["hypercorn"],
        command: &["hypercorn"],
        keep_alive: "hypercorn --keep-alive",
        keep_alive_flag: Some("--keep-alive"),
        keep_alive_directive: Some("keep_alive_timeout"),
        configuration_flag: Some("-c"),
        workers: "hypercorn --workers",
        backlog: "hypercorn --backlog",
        recycle: "hypercorn --max-requests recycles workers",
        longer: Some("--keep-alive {s}"),
        ..UNKNOWN
    },
    Server {
        name: "waitress",
        // The command, and the names of its threads.
        comm: &["waitress-serve", "waitress"],
        command: &["waitress"],
        keep_alive: "waitress --channel-timeout",
        keep_alive_flag: Some("--channel-timeout"),
        workers: "waitress --threads",
        backlog: "waitress --backlog",
        limits: "waitress --connection-limit",
        body: "waitress --channel-timeout",
        longer: Some("--channel-timeout {s}"),
        ..UNKNOWN
    },
    Server {
        name: "puma",
        comm: &["puma"],
        command: &["puma"],
        keep_alive: "puma persistent_timeout",
        keep_alive_directive: Some("persistent_timeout"),
        configuration_flag: Some("-C"),
        configuration: &["config/puma.rb"],
        workers: "puma workers, threads",
        backlog: "backlog= of puma's bind",
        body: "puma first_data_timeout",
        recycle: "A phased restart, or a gem that recycles workers, ends their idle connections, too",
        longer: Some("persistent_timeout {s}"),
        ..UNKNOWN
    },
    Server {
        name: "tomcat",
        comm: &["http-nio-", "https-jsse-nio-", "http-apr-"],
        command: &["org.apache.catalina", "--server.tomcat."],
        keep_alive: "Tomcat keepAliveTimeout",
        keep_alive_flag: Some("--server.tomcat.keep-alive-timeout"),
        keep_alive_directive: Some("keepAliveTimeout"),
        workers: "Tomcat maxThreads, maxConnections",
        backlog: "Tomcat acceptCount",
        limits: "Tomcat maxConnections",
        body: "Tomcat connectionTimeout",
        lingering: "Tomcat maxSwallowSize",
        longer: Some("keepAliveTimeout=\"{ms}\"` in server.xml, or `--server.tomcat.keep-alive-timeout={s}s"),
        ..UNKNOWN
    },
    Server {
        name: "jdk",
        comm: &["java", "HTTP-Dispatcher"],
        command: &["java"],
        keep_alive: "the idle time of the server in the JVM (of the JDK's own: -Dsun.net.httpserver.idleInterval, in seconds)",
        keep_alive_flag: Some("-Dsun.net.httpserver.idleInterval"),
        workers: "the threads of its executor",
        backlog: "the backlog of its listening socket",
        limits: "the open files of the JVM, or the JDK's jdk.httpserver.maxConnections",
        longer: Some("-Dsun.net.httpserver.idleInterval={s}"),
        ..UNKNOWN
    },
    Server {
        name: "node",
        // Newer versions of Node call the thread of the event loop so.
        comm: &["node", "MainThread"],
        command: &["node"],
        keep_alive: "node server.keepAliveTimeout (and headersTimeout above it)",
        workers: "the number of node processes (node:cluster)",
        backlog: "the backlog of node's server.listen()",
        limits: "node server.maxConnections, or open files",
        body: "node server.requestTimeout",
        recycle: "A process manager that restarts workers ends their idle connections, too",
        longer: Some("server.keepAliveTimeout = {ms}; server.headersTimeout = {more_ms}"),
        ..UNKNOWN
    },
    Server {
        name: "go",
        keep_alive: "Go http.Server.IdleTimeout (ReadTimeout holds if it is 0)",
        workers: "what its handlers wait for",
        backlog: "`sysctl -w net.core.somaxconn=4096`",
        limits: "open files, or a limiting listener",
        body: "Go http.Server.ReadTimeout",
        longer: Some("IdleTimeout: {s} * time.Second"),
        ..UNKNOWN
    },
];

impl Server {
    /// Its keep-alive setting for a time longer than `limit`, as it is written.
    pub fn longer_than(&self, limit: Duration) -> Option<String> {
        let seconds = limit.as_secs() + MARGIN;
        let milliseconds = |seconds: u64| (seconds * 1000).to_string();
        let text = self.longer?.replace("{s}", &seconds.to_string());
        Some(text.replace("{ms}", &milliseconds(seconds)).replace("{more_ms}", &milliseconds(seconds + 1)))
    }
}

/// The server whose thread is called `comm`.
pub fn of(comm: &str) -> Option<&'static Server> {
    SERVERS.iter().find(|server| server.comm.iter().any(|name| is_thread_of(comm, name)))
}

/// Whether `comm` is `name`, or that with a number or with words behind it (`php-fpm8.2`, `gunicorn: maste`). Another program may
/// have a name that only begins so (`node_exporter`, `haproxy-ingress`).
fn is_thread_of(comm: &str, name: &str) -> bool {
    let Some(rest) = comm.strip_prefix(name) else { return false };
    let mut rest = rest.chars();
    match rest.next() {
        Some('-' | '_' | '.') => !rest.next().is_some_and(char::is_alphabetic),
        Some(next) => !next.is_alphabetic(),
        None => true,
    }
}

/// The server of that name in the table.
pub fn named(name: &str) -> Option<&'static Server> {
    SERVERS.iter().find(|server| server.name == name)
}

/// The server with the words `command` as its command line.
pub fn of_command(command: &[String]) -> Option<&'static Server> {
    let is_word = |word: &String, name: &str| {
        let file = word.rsplit('/').next().unwrap_or_default();
        file == name || file.starts_with(&format!("{name}:")) || (name.contains('.') && word.contains(name))
    };
    // The interpreter, its options and the script or module: what follows are arguments of it.
    let head = &command[..command.len().min(8)];
    SERVERS.iter().find(|server| server.command.iter().any(|name| head.iter().any(|word| is_word(word, name))))
}

#[cfg(test)]
mod tests {
    use super::{SERVERS, named, of, of_command};
    use std::time::Duration;

    #[test]
    fn a_server_is_known_by_its_threads() {
        assert_eq!(of("gunicorn").map(|it| it.keep_alive), Some("gunicorn --keep-alive"));
        assert_eq!(of("http-nio-8080-e").map(|it| it.keep_alive), Some("Tomcat keepAliveTimeout"));
        assert_eq!(of("php-fpm8.2").map(|it| it.name), Some("php-fpm"));
        assert_eq!(of("waitress-serve").map(|it| it.name), Some("waitress"));
        assert_eq!(of("puma srv tp 001").map(|it| it.name), Some("puma"));
        for other in ["lab-target", "node_exporter", "haproxy-ingress", "nginx-ingress-c", "javac"] {
            assert!(of(other).is_none(), "{other}");
        }
        assert!(SERVERS.iter().all(|server| named(server.name).is_some_and(|it| std::ptr::eq(it, server))));
    }

    #[test]
    fn a_setting_is_written_as_its_server_wants_it() {
        let longer = |name| named(name).unwrap().longer_than(Duration::from_mins(1)).unwrap();
        assert_eq!(longer("nginx"), "keepalive_timeout 65s;");
        assert!(longer("tomcat").starts_with("keepAliveTimeout=\"65000\"` in server.xml"));
        assert_eq!(longer("node"), "server.keepAliveTimeout = 65000; server.headersTimeout = 66000");
        for server in SERVERS {
            let longer = server.longer_than(Duration::from_millis(1500));
            assert!(longer.is_none_or(|it| it.contains('6') && !it.contains(['{', '}'])), "{}", server.name);
        }
    }

    #[test]
    fn a_server_is_known_by_its_command_line() {
        let name = |command: &str| {
            let words: Vec<_> = command.split(' ').map(str::to_owned).collect();
            of_command(&words).map(|server| server.name)
        };
        assert_eq!(name("/usr/bin/python3 -m uvicorn app:app"), Some("uvicorn"));
        assert_eq!(name("/usr/bin/python3 /usr/bin/gunicorn -b :8080 app:app"), Some("gunicorn"));
        assert_eq!(name("puma: cluster worker 0: 77 [app]"), Some("puma"));
        assert_eq!(name("/opt/java/bin/java -cp x org.apache.catalina.startup.Bootstrap start"), Some("tomcat"));
        assert_eq!(name("/opt/java/bin/java -jar app.jar"), Some("jdk"));
        assert_eq!(name("/usr/bin/node server.js"), Some("node"));
        assert_eq!(name("/usr/bin/python3 serve.py"), None);
    }
}
