//! Small servers and clients of sockets that need an option which no library of Rust has.

use anyhow::Result;
use lab::{Lab, Namespace, Process, wait_until};

use crate::scene::ms;

/// A server: `listener` is its listening socket, made by `MAKE`. It answers each request with the number of bytes that its path
/// names, after as many milliseconds as stand before that: `GET /50/1000`. After a response without a byte it closes.
const SERVER: &str = r#"
import socket, sys, threading, time
PORT = int(sys.argv[1])
def serve(connection):
    try:
        while data := connection.recv(65536):
            _, wait, size = data.split(b" ")[1].split(b"/")
            time.sleep(int(wait) / 1000)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % int(size) + b"x" * int(size))
            if int(size) == 0:
                break
    except OSError:
        pass
    connection.close()
MAKE
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind(("0.0.0.0", PORT))
listener.listen(128)
BEGIN
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
"#;

/// A client: `open()` makes a socket, `get(socket, wait, size)` makes a request on it.
const CLIENT: &str = r#"
import socket, struct, sys, time
PORT = int(sys.argv[1])
TARGET = ("10.77.0.2", PORT)
def request(wait, size):
    return b"GET /%d/%d HTTP/1.1\r\nHost: a\r\n\r\n" % (wait, size)
def response(connection):
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(65536)
    head, body = data.split(b"\r\n\r\n", 1)
    left = int(head.split(b"Content-Length: ")[1]) - len(body)
    while left > 0:
        left -= len(connection.recv(65536))
def get(connection, wait, size):
    connection.sendall(request(wait, size))
    response(connection)
def reset(connection):
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
"#;

/// Serves one connection after the other through an `io_uring`: accepts, reads and writes. With a second argument it reads
/// nothing.
const URING: &str = r#"
import ctypes, mmap, struct
ACCEPT, SEND, RECEIVE = 13, 26, 27
libc = ctypes.CDLL(None, use_errno=True)
parameters = ctypes.create_string_buffer(120)
ring = libc.syscall(425, 8, parameters)
assert ring >= 0, ctypes.get_errno()
words = struct.unpack("30I", parameters.raw)
submission, completion = words[10:18], words[20:28]
length = max(submission[6] + words[0] * 4, completion[5] + words[1] * 16)
queues, entries = mmap.mmap(ring, length), mmap.mmap(ring, words[0] * 64, offset=0x10000000)
def word(at, value=None):
    if value is not None:
        queues[at:at + 4] = struct.pack("I", value)
    return struct.unpack("I", queues[at:at + 4])[0]
def call(operation, descriptor, buffer=0, length=0):
    tail = word(submission[1])
    index = tail & word(submission[2])
    entry = struct.pack("<BBHiQQIIQ", operation, 0, 0, descriptor, 0, buffer, length, 0, 1)
    entries[index * 64:index * 64 + 64] = entry + bytes(24)
    word(submission[6] + index * 4, index)
    word(submission[1], tail + 1)
    libc.syscall(426, ring, 1, 1, 1, 0, 0)
    head = word(completion[0])
    at = completion[5] + (head & word(completion[2])) * 16
    result = struct.unpack("<Qi", queues[at:at + 12])[1]
    word(completion[0], head + 1)
    return result
buffer = ctypes.create_string_buffer(65536)
answer = ctypes.create_string_buffer(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
while True:
    connection = call(ACCEPT, listener.fileno())
    while len(sys.argv) == 2 and call(RECEIVE, connection, ctypes.addressof(buffer), 65536) > 0:
        call(SEND, connection, ctypes.addressof(answer), len(answer) - 1)
"#;

/// Accepts and passes each connection on to a child, which serves it.
const PASSED_ON: &str = r#"
import os
here, there = socket.socketpair(socket.AF_UNIX)
if os.fork() == 0:
    listener.close()
    open(sys.argv[2], "w").write(str(os.getpid()))
    while True:
        _, (descriptor,), _, _ = socket.recv_fds(there, 1, 1)
        threading.Thread(target=serve, args=(socket.socket(fileno=descriptor),), daemon=True).start()
while True:
    connection = listener.accept()[0]
    socket.send_fds(here, [b"x"], [connection.fileno()])
    connection.close()
"#;

/// Starts a server on `port` of the target; `make` is the expression that makes its socket.
pub fn serve(lab: &Lab, port: u16, make: &str) -> Result<Process> {
    start(lab, port, (make, ""), &[])
}

/// Starts a server that accepts, reads and writes through an `io_uring`, or only accepts.
pub fn serve_through_io_uring(lab: &Lab, port: u16, reads: bool) -> Result<Process> {
    start(lab, port, (TCP, URING), if reads { &[] } else { &["unread"] })
}

/// Starts a server that passes its connections on to a child; returns the child's pid, too.
pub fn serve_by_a_child(lab: &Lab, port: u16) -> Result<(Process, u32)> {
    let file = lab.directory().join("child");
    let server = start(lab, port, (TCP, PASSED_ON), &[&file.to_string_lossy()])?;
    let pid = || std::fs::read_to_string(&file).ok()?.parse().ok();
    wait_until("the child of a server", ms(10_000), || pid().is_some())?;
    Ok((server, pid().unwrap_or(0)))
}

/// What stands in the place of `MAKE` and of `BEGIN`.
fn start(lab: &Lab, port: u16, (make, begin): (&str, &str), arguments: &[&str]) -> Result<Process> {
    let script = SERVER.replace("MAKE", &format!("listener = {make}")).replace("BEGIN", begin);
    let mut command = lab.target.command("python3")?;
    command.args(["-c", &script, &port.to_string()]).args(arguments);
    let server = Process::start(&format!("python-{port}"), command, lab.directory())?;
    wait_until("a server in Python", ms(10_000), || lab.target.is_listening(port).unwrap_or(false))?;
    Ok(server)
}

/// Runs a client of the server on `port` to its end.
pub fn client(from: &Namespace, port: u16, script: &str) -> Result<()> {
    from.run("python3", &["-c", &format!("{CLIENT}\n{script}"), &port.to_string()]).map(drop)
}

/// A socket of plain TCP.
pub const TCP: &str = "socket.socket()";
