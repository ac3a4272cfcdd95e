//! A process that opens connections to itself, from one network namespace to another, and holds them until it is ended.

use std::{
    fs::File,
    net::{SocketAddr, TcpListener, TcpStream},
    os::fd::AsFd as _,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow};
use rustix::{
    net::sockopt::set_socket_linger,
    thread::{LinkNameSpaceType, move_into_link_name_space},
};

/// What to hold.
#[derive(clap::Args)]
#[group(id = "hold")]
pub struct Args {
    /// The namespace of the server
    server: PathBuf,
    /// The namespace of the client
    client: PathBuf,
    /// Where the server listens
    address: SocketAddr,
    /// How many connections
    count: usize,
}

/// Opens them, says `ready`, and waits for its end.
pub fn run(args: &Args) -> Result<()> {
    lab::process::raise_file_limit();
    let listener = within(&args.server, || TcpListener::bind(args.address).context("cannot listen"))?;
    let connections = within(&args.client, || {
        // One after the other: none waits in the accept queue.
        let pair = |_| {
            let client = TcpStream::connect(args.address).context("cannot connect")?;
            // At the end it is reset: a hundred thousand sockets in TIME_WAIT would be in the way of what comes next.
            set_socket_linger(&client, Some(Duration::ZERO))?;
            Ok((client, listener.accept().context("cannot accept")?.0))
        };
        (0..args.count).map(pair).collect::<Result<Vec<_>>>()
    })?;
    println!("ready");
    loop {
        thread::park();
        // A thread may be unparked for no reason.
        std::hint::black_box(&connections);
    }
}

/// Runs `action` in a network namespace, in a thread of its own.
fn within<T: Send>(namespace: &Path, action: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let file = File::open(namespace).with_context(|| format!("cannot open {}", namespace.display()))?;
    let run = || {
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
            .context("cannot enter a namespace")?;
        action()
    };
    thread::scope(|scope| scope.spawn(run).join()).map_err(|_| anyhow!("a thread panicked"))?
}
