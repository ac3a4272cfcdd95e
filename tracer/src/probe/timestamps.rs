//! Receive timestamps: while one socket of the host asks for them, the kernel stamps every packet at the device.

use std::{
    io,
    net::UdpSocket,
    os::fd::{AsRawFd, OwnedFd},
};

/// A socket that asks; the kernel stops stamping when it is dropped, if no other socket asks.
#[derive(Debug)]
pub struct ReceiveTimestamps {
    _socket: OwnedFd,
}

impl ReceiveTimestamps {
    /// Asks.
    ///
    /// # Errors
    ///
    /// If no socket can be had.
    pub fn new() -> io::Result<Self> {
        // An unconnected socket on an ephemeral loopback port, which nobody sends to.
        let socket = UdpSocket::bind("127.0.0.1:0").or_else(|_| UdpSocket::bind("[::1]:0"))?;
        let on: libc::c_int = 1;
        let length = libc::socklen_t::try_from(size_of_val(&on)).map_err(io::Error::other)?;
        // SAFETY: an open socket and an int of the length given.
        let result = unsafe {
            libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, (&raw const on).cast(), length)
        };
        if result == 0 { Ok(Self { _socket: socket.into() }) } else { Err(io::Error::last_os_error()) }
    }
}
