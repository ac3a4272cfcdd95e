//! What this host says about the process of a server: whether it still runs, how many files it has open, which server it
//! is, and how it is set.

use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
    time::Duration,
};
use tracer_core::{
    explain::servers::{self, Server},
    model::{application::Application, rejection::Setting},
};

/// A configuration is read up to here, with all files that it includes.
const MOST_CONFIGURATION: usize = 1 << 20;
/// Files that a configuration includes are read up to this number.
const MOST_FILES: usize = 64;
/// A program is searched up to here for the mark of the Go linker.
const MOST_PROGRAM: u64 = 64 << 20;

/// A process that has run for less may have been started to take over from another one. It is longer than the second after
/// which a question about a close is asked.
const ELDER: Duration = Duration::from_secs(3);
/// Columns of `/proc/PID/stat` (proc(5)), counted from the one behind the name.
const STATE: usize = 0;
const STARTED: usize = 19;
/// Milliseconds per tick in `stat`: `USER_HZ` is 100 on x86 and arm64, whatever the kernel's own clock is.
const TICK_MS: u64 = 10;

/// What `/proc` says about the process `pid`. Whether something listens is for the caller to add.
pub fn read(pid: u32) -> Application {
    of(Path::new("/proc"), pid)
}

fn of(proc: &Path, pid: u32) -> Application {
    let process = proc.join(pid.to_string());
    let command = command(proc, &process);
    let comm = fs::read_to_string(process.join("comm")).unwrap_or_default();
    let server = server(&process, comm.trim_end(), &command);
    Application {
        is_alive: is_alive(&process),
        listens: false,
        elders: Vec::new(),
        process: None,
        queue: None,
        cgroup: super::process::place_of(pid).map(|place| place.cgroup),
        open_files: open_files(&process),
        threads: status(&process, "Threads:").and_then(|threads| threads.parse().ok()),
        server: server.map(|server| server.name.to_owned()),
        keep_alive: server.and_then(|server| keep_alive(&process, server, &command)),
    }
}

/// The open files of the process `pid`, and how many it may have.
pub fn open_files_of(pid: u32) -> Option<(u64, u64)> {
    open_files(&Path::new("/proc").join(pid.to_string()))
}

/// Whether a child of the process `pid` holds one of its sockets: then the children serve, and which one is to blame cannot be
/// told.
pub fn shares_sockets(pid: u32) -> bool {
    let sockets = |pid: u32| -> Vec<PathBuf> {
        let files = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        let links = files.filter_map(|file| fs::read_link(file.path()).ok());
        links.filter(|link| link.to_string_lossy().starts_with("socket:")).collect()
    };
    let own = sockets(pid);
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let children = threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    let children: Vec<u32> =
        children.flat_map(|it| it.split_ascii_whitespace().flat_map(str::parse).collect::<Vec<_>>()).collect();
    children.into_iter().any(|child| sockets(child).iter().any(|socket| own.contains(socket)))
}

/// Whether the process `pid` has run for [`ELDER`].
pub fn is_elder(pid: u32) -> bool {
    is_elder_of(Path::new("/proc"), pid).unwrap_or(false)
}

fn is_elder_of(proc: &Path, pid: u32) -> Option<bool> {
    let started = stat(&proc.join(pid.to_string()), STARTED)?.parse::<u64>().ok()?;
    let uptime = fs::read_to_string(proc.join("uptime")).ok()?;
    let uptime = Duration::try_from_secs_f64(uptime.split_ascii_whitespace().next()?.parse().ok()?).ok()?;
    Some(uptime >= ELDER + Duration::from_millis(started.saturating_mul(TICK_MS)))
}

/// A process that has ended and that nobody has waited for does not run.
fn is_alive(process: &Path) -> bool {
    stat(process, STATE).is_some_and(|state| !matches!(state.as_str(), "Z" | "X"))
}

/// A column of the process's `stat`, counted from the one behind its name.
fn stat(process: &Path, column: usize) -> Option<String> {
    let stat = fs::read_to_string(process.join("stat")).ok()?;
    // The name before it may hold anything.
    let (_, columns) = stat.rsplit_once(')')?;
    columns.split_ascii_whitespace().nth(column).map(str::to_owned)
}

fn open_files(process: &Path) -> Option<(u64, u64)> {
    let limits = fs::read_to_string(process.join("limits")).ok()?;
    let limit = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    let limit = limit.split_ascii_whitespace().next()?.parse().ok()?;
    Some((fs::read_dir(process.join("fd")).ok()?.count() as u64, limit))
}

/// The first word behind `name` in the status of a process.
fn status(process: &Path, name: &str) -> Option<String> {
    let status = fs::read_to_string(process.join("status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_ascii_whitespace().next().map(str::to_owned)
}

/// The last word of the command line of a process that Python's `multiprocessing` has started.
const PYTHON_CHILD: &str = "--multiprocessing-fork";

/// The words of the command line, and behind them those of its parent if that has the same name: the title of a worker
/// often hides its arguments. Those of the parent alone, if the process is a child of Python that says nothing of what it runs.
fn command(proc: &Path, process: &Path) -> Vec<String> {
    let mut words = words(process);
    let Some(parent) = status(process, "PPid:").map(|parent| proc.join(parent)) else { return words };
    let comm = |process: &Path| fs::read_to_string(process.join("comm")).ok();
    if words.iter().any(|word| word == PYTHON_CHILD) {
        return self::words(&parent);
    }
    if comm(&parent).is_some_and(|name| Some(name) == comm(process)) {
        words.extend(self::words(&parent));
    }
    words
}

fn words(process: &Path) -> Vec<String> {
    let command = fs::read(process.join("cmdline")).unwrap_or_default();
    let words = command.split(|byte| *byte == 0 || *byte == b' ').filter(|word| !word.is_empty());
    words.take(256).map(|word| String::from_utf8_lossy(word).into_owned()).collect()
}

fn server(process: &Path, comm: &str, command: &[String]) -> Option<&'static Server> {
    // The name of a JVM's process says nothing of what runs in it.
    let by_name = servers::of(comm).filter(|server| server.name != "jdk");
    by_name.or_else(|| servers::of_command(command)).or_else(|| servers::of(comm)).or_else(|| {
        let is_go = is_go(&process.join("exe")).unwrap_or(false);
        if is_go { servers::named("go") } else { None }
    })
}

/// Whether the Go linker made the program: it leaves a mark for `go version`.
fn is_go(program: &Path) -> Option<bool> {
    const MARK: &[u8] = b"\xff Go buildinf:";
    let mut file = fs::File::open(program).ok()?.take(MOST_PROGRAM);
    let mut buffer = vec![0; 1 << 16];
    let mut kept = 0;
    loop {
        let read = file.read(&mut buffer[kept..]).ok()?;
        if read == 0 {
            return Some(false);
        }
        let filled = kept + read;
        if buffer[..filled].windows(MARK.len()).any(|window| window == MARK) {
            return Some(true);
        }
        // The mark may lie across two reads.
        kept = MARK.len().min(filled);
        buffer.copy_within(filled - kept..filled, 0);
    }
}

fn keep_alive(process: &Path, server: &Server, command: &[String]) -> Option<Setting> {
    let of_command = server.keep_alive_flag.and_then(|flag| {
        let value = argument(command, flag)?;
        Some(Setting { name: flag.to_owned(), value, source: "command line".to_owned() })
    });
    of_command.or_else(|| {
        let directive = server.keep_alive_directive?;
        let named = server.configuration_flag.and_then(|flag| argument(command, flag));
        let usual = server.configuration.iter().map(|name| (*name).to_owned());
        named.into_iter().chain(usual).find_map(|name| configured(process, &name, directive))
    })
}

/// The value of `--flag value` or `--flag=value`.
fn argument(command: &[String], flag: &str) -> Option<String> {
    command.iter().enumerate().find_map(|(index, word)| match word.strip_prefix(flag) {
        Some("") => command.get(index + 1).cloned(),
        Some(rest) => rest.strip_prefix('=').map(str::to_owned),
        None => None,
    })
}

/// The value of `directive` in the configuration that the process calls `name` and in the files that it includes. `None` if it
/// has several: which one is for a connection, only the server knows.
fn configured(process: &Path, name: &str, directive: &str) -> Option<Setting> {
    let mut budget = MOST_CONFIGURATION;
    let mut files = vec![name.to_owned()];
    let mut next = 0;
    let mut found: Option<Setting> = None;
    while next < files.len() && next < MOST_FILES {
        let name = files[next].clone();
        next += 1;
        let Some(text) = text(&inside(process, &name), &mut budget) else { continue };
        for line in text.lines().map(|line| line.split('#').next().unwrap_or_default().trim()) {
            if let Some(value) = value(line, directive) {
                if found.as_ref().is_some_and(|found| found.value != value) {
                    return None;
                }
                found = found.or_else(|| Some(Setting { name: directive.to_owned(), value, source: name.clone() }));
            }
            if let Some(pattern) = value(line, "include").or_else(|| value(line, "IncludeOptional")) {
                files.extend(matching(process, &name, &pattern));
            }
        }
    }
    found
}

/// The path of a file as the process sees it.
fn inside(process: &Path, name: &str) -> PathBuf {
    match name.strip_prefix('/') {
        Some(name) => process.join("root").join(name),
        None => process.join("cwd").join(name),
    }
}

fn text(path: &Path, budget: &mut usize) -> Option<String> {
    let mut text = Vec::new();
    fs::File::open(path).ok()?.take(*budget as u64).read_to_end(&mut text).ok()?;
    *budget -= text.len().min(*budget);
    Some(String::from_utf8_lossy(&text).into_owned())
}

/// What stands behind `name` in a line: `name value;`, `name = value`, `name="value"`, `name(value)`.
fn value(line: &str, name: &str) -> Option<String> {
    let at = line.find(name)?;
    let (before, rest) = (&line[..at], &line[at + name.len()..]);
    if before.ends_with(|last: char| last.is_alphanumeric() || last == '_' || last == '-') {
        return None;
    }
    if !rest.starts_with([' ', '\t', '=', '(', ':']) {
        return None;
    }
    let rest = rest.trim_start_matches([' ', '\t', '=', '(', ':', '"', '\'']);
    let end = rest.find([';', ' ', '\t', ')', '"', '\'', ',', '>']).unwrap_or(rest.len());
    (end != 0).then(|| rest[..end].to_owned())
}

/// The files that `pattern` in the file `name` means: a path whose last part may have a `*`.
fn matching(process: &Path, name: &str, pattern: &str) -> Vec<String> {
    let folder = name.rsplit_once('/').map_or("", |(folder, _)| folder);
    let pattern = if pattern.starts_with('/') { pattern.to_owned() } else { format!("{folder}/{pattern}") };
    let Some((folder, last)) = pattern.rsplit_once('/') else { return Vec::new() };
    let Some((start, end)) = last.split_once('*') else { return vec![pattern] };
    let entries = fs::read_dir(inside(process, folder)).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<_> = names.filter(|name| name.starts_with(start) && name.ends_with(end)).collect();
    names.sort_unstable();
    names.into_iter().take(MOST_FILES).map(|name| format!("{folder}/{name}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn this_process_is_alive_and_has_files() {
        let found = read(std::process::id());
        let (open, limit) = found.open_files.unwrap();
        assert!(found.is_alive && open >= 3 && limit >= open && found.threads >= Some(1), "{found:?}");
        assert_eq!(read(u32::MAX), Application::default());
    }

    #[test]
    fn a_child_that_holds_a_socket_is_a_worker() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(!shares_sockets(u32::MAX));
        // What Rust opens closes in a child, so one that inherits nothing shares nothing.
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let alone = shares_sockets(std::process::id());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!alone);
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .stdin(std::os::fd::OwnedFd::from(listener.try_clone().unwrap()))
            .spawn()
            .unwrap();
        let shared = shares_sockets(std::process::id());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(shared);
    }

    #[test]
    fn a_process_that_nobody_waited_for_does_not_run() {
        let folder = tempfile::tempdir().unwrap();
        for (state, alive) in [("R", true), ("S", true), ("Z", false), ("X", false)] {
            fs::write(folder.path().join("stat"), format!("7 (a) Z b) {state} 1 7 7")).unwrap();
            assert_eq!(is_alive(folder.path()), alive, "{state}");
        }
    }

    #[test]
    fn a_process_that_has_run_for_long_is_an_elder() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("uptime"), "1000.00 3900.00\n").unwrap();
        fs::create_dir(folder.path().join("7")).unwrap();
        for (started, expected) in [(99_700, true), (99_701, false), (0, true), (100_100, false)] {
            let columns = format!("S 1 7 7 0 -1 4194560 9 9 9 9 9 9 9 9 20 0 1 0 {started} 999 9");
            fs::write(folder.path().join("7/stat"), format!("7 (a) Z b) {columns}")).unwrap();
            assert_eq!(is_elder_of(folder.path(), 7), Some(expected), "{started}");
        }
        assert_eq!(is_elder_of(folder.path(), 8), None);
    }

    #[test]
    fn settings_are_found_in_lines_of_any_server() {
        for (line, name, expected) in [
            ("keepalive_timeout 5s;", "keepalive_timeout", Some("5s")),
            ("keepalive_timeout  75s 60s;", "keepalive_timeout", Some("75s")),
            ("fastcgi_keepalive_timeout 9s;", "keepalive_timeout", None),
            ("keepalive_timeouts 9s;", "keepalive_timeout", None),
            ("KeepAliveTimeout 5", "KeepAliveTimeout", Some("5")),
            ("timeout http-keep-alive 10s", "timeout http-keep-alive", Some("10s")),
            ("keepalive = 2", "keepalive", Some("2")),
            ("persistent_timeout(20)", "persistent_timeout", Some("20")),
            ("<Connector port=\"8080\" keepAliveTimeout=\"20000\"/>", "keepAliveTimeout", Some("20000")),
            ("keepalive_timeout", "keepalive_timeout", None),
        ] {
            assert_eq!(value(line, name).as_deref(), expected, "{line}");
        }
    }

    /// A `/proc` with a master and its worker, whose title hides the arguments.
    #[test]
    fn the_configuration_is_that_of_the_process() {
        let proc = tempfile::tempdir().unwrap();
        let root = proc.path().join("root-of-them");
        fs::create_dir_all(root.join("etc/nginx/conf.d")).unwrap();
        let main = "http {\n  # keepalive_timeout 1s;\n  include /etc/nginx/conf.d/*.conf;\n}\n";
        fs::write(root.join("etc/nginx/other.conf"), main).unwrap();
        fs::write(root.join("etc/nginx/conf.d/a.conf"), "server {\n  keepalive_timeout 7s;\n}\n").unwrap();
        fs::write(root.join("etc/nginx/conf.d/b.conf.off"), "keepalive_timeout 8s;\n").unwrap();
        for (pid, parent, command) in
            [("20", "1", "nginx: master process nginx -c /etc/nginx/other.conf"), ("21", "20", "nginx: worker process")]
        {
            let process = proc.path().join(pid);
            fs::create_dir(&process).unwrap();
            fs::write(process.join("comm"), "nginx\n").unwrap();
            fs::write(process.join("cmdline"), command).unwrap();
            fs::write(process.join("status"), format!("Name:\tnginx\nPPid:\t{parent}\nThreads:\t1\n")).unwrap();
            symlink(&root, process.join("root")).unwrap();
        }
        let found = of(proc.path(), 21);
        assert_eq!((found.server.as_deref(), found.threads), (Some("nginx"), Some(1)));
        let (name, value) = ("keepalive_timeout".to_owned(), "7s".to_owned());
        assert_eq!(found.keep_alive, Some(Setting { name, value, source: "/etc/nginx/conf.d/a.conf".to_owned() }));
        // Which of two values holds for a connection, nobody knows but nginx.
        fs::write(root.join("etc/nginx/conf.d/c.conf"), "server {\n  keepalive_timeout 9s;\n}\n").unwrap();
        assert_eq!(of(proc.path(), 21).keep_alive, None);
    }

    /// A JVM is called `java` whatever it runs.
    #[test]
    fn a_server_in_a_jvm_is_known_by_its_command_line() {
        let name = |command: &str| {
            let words: Vec<_> = command.split(' ').map(str::to_owned).collect();
            server(Path::new("/nowhere"), "java", &words).map(|server| server.name)
        };
        assert_eq!(name("/opt/java/bin/java -cp x org.apache.catalina.startup.Bootstrap start"), Some("tomcat"));
        assert_eq!(name("java -jar app.jar --server.tomcat.threads.max=9"), Some("tomcat"));
        assert_eq!(name("/opt/java/bin/java -jar app.jar"), Some("jdk"));
        assert_eq!(name(""), Some("jdk"));
    }

    /// The workers of hypercorn and uvicorn are children of `multiprocessing`.
    #[test]
    fn a_child_of_python_is_what_its_parent_is() {
        let proc = tempfile::tempdir().unwrap();
        let child = "python\0-c\0from multiprocessing.spawn import spawn_main; spawn_main(tracker_fd=5)\0\
            --multiprocessing-fork\0";
        let parent = "/srv/bin/python\0/srv/bin/hypercorn\0--keep-alive\x002\0app:app\0";
        for (pid, comm, parent, command) in [("20", "hypercorn", "1", parent), ("21", "python", "20", child)] {
            let process = proc.path().join(pid);
            fs::create_dir(&process).unwrap();
            fs::write(process.join("comm"), format!("{comm}\n")).unwrap();
            fs::write(process.join("cmdline"), command).unwrap();
            fs::write(process.join("status"), format!("Name:\t{comm}\nPPid:\t{parent}\n")).unwrap();
        }
        let found = of(proc.path(), 21);
        let (name, value, source) = ("--keep-alive".to_owned(), "2".to_owned(), "command line".to_owned());
        assert_eq!(found.server.as_deref(), Some("hypercorn"));
        assert_eq!(found.keep_alive, Some(Setting { name, value, source }));
    }

    #[test]
    fn settings_are_found_on_the_command_line() {
        let words: Vec<_> = "gunicorn --keep-alive 5 -b :80".split(' ').map(str::to_owned).collect();
        assert_eq!(argument(&words, "--keep-alive").as_deref(), Some("5"));
        assert_eq!(argument(&["--keep-alive=9".to_owned()], "--keep-alive").as_deref(), Some("9"));
        assert_eq!(argument(&["--keep-alives".to_owned(), "9".to_owned()], "--keep-alive"), None);
        assert_eq!(argument(&["--keep-alive".to_owned()], "--keep-alive"), None);
    }

    #[test]
    fn a_go_program_is_known_by_its_mark() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("program");
        for (mark, expected) in [(&b"\xff Go buildinf:"[..], true), (b"\xff Go build", false)] {
            // Across two reads.
            let mut bytes = vec![7; (1 << 16) - 5];
            bytes.extend_from_slice(mark);
            bytes.extend_from_slice(&[7; 1000]);
            fs::write(&program, bytes).unwrap();
            assert_eq!(is_go(&program), Some(expected));
        }
    }
}
