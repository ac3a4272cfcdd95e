//! Holding a socket's lock for as long as wanted, so that what arrives has to wait: a system call that copies to a page
//! which is not there yet, under that lock.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::null_mut;

use anyhow::{Context, Result, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

const PAGE: usize = 4096;
/// From `linux/userfaultfd.h`.
const UFFD_API: u64 = 0xaa;
const UFFDIO_API: u64 = 0xc018_aa3f;
const UFFDIO_REGISTER: u64 = 0xc020_aa00;
const UFFDIO_ZEROPAGE: u64 = 0xc020_aa04;
const REGISTER_MODE_MISSING: u64 = 1;

/// A page that is not there until [`SlowPage::fill`]: who touches it waits, also inside the kernel.
#[derive(Debug)]
pub struct SlowPage {
    faults: OwnedFd,
    address: usize,
}

impl SlowPage {
    pub fn new() -> Result<Self> {
        // SAFETY: a new mapping, at an address that the kernel chooses.
        let page = unsafe {
            let protection = libc::PROT_READ | libc::PROT_WRITE;
            libc::mmap(null_mut(), PAGE, protection, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0)
        };
        ensure!(page != libc::MAP_FAILED, "cannot map a page: {}", io::Error::last_os_error());
        // SAFETY: takes no pointer.
        let faults = unsafe { libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC | libc::O_NONBLOCK) };
        ensure!(faults >= 0, "userfaultfd is refused: {}", io::Error::last_os_error());
        // SAFETY: the descriptor is new and owned by nobody else.
        let faults = unsafe { OwnedFd::from_raw_fd(i32::try_from(faults)?) };
        let slow = Self { faults, address: page.addr() };
        slow.control(UFFDIO_API, &mut [UFFD_API, 0, 0])?;
        slow.control(UFFDIO_REGISTER, &mut [slow.address as u64, PAGE as u64, REGISTER_MODE_MISSING, 0])?;
        Ok(slow)
    }

    /// Calls `getsockopt(TCP_SAVED_SYN)` with the page for its answer: it takes the lock of `socket` and returns once the
    /// page is filled. The listener must have had `TCP_SAVE_SYN` set; the kernel keeps a SYN for one call.
    pub fn hold_lock(&self, socket: BorrowedFd) -> Result<()> {
        let mut length = libc::socklen_t::try_from(PAGE)?;
        let page = std::ptr::with_exposed_provenance_mut(self.address);
        // SAFETY: the page is mapped, writable and as long as `length` says; nothing else reads or writes it.
        let status = unsafe {
            libc::getsockopt(socket.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_SAVED_SYN, page, &raw mut length)
        };
        ensure!(status == 0 && length > 0, "no saved SYN ({length} bytes): {}", io::Error::last_os_error());
        Ok(())
    }

    /// Waits until somebody waits for the page.
    pub fn wait_touched(&self) -> Result<()> {
        let limit = Timespec { tv_sec: 5, tv_nsec: 0 };
        let ready = poll(&mut [PollFd::new(&self.faults, PollFlags::IN)], Some(&limit)).context("cannot wait")?;
        ensure!(ready == 1, "nobody has touched the page");
        Ok(())
    }

    /// Makes the page be there.
    pub fn fill(&self) -> Result<()> {
        self.control(UFFDIO_ZEROPAGE, &mut [self.address as u64, PAGE as u64, 0, 0])
    }

    fn control<const N: usize>(&self, request: u64, argument: &mut [u64; N]) -> Result<()> {
        // SAFETY: each request above takes a struct of as many 64-bit words as its number says and is given here.
        let status = unsafe { libc::ioctl(self.faults.as_raw_fd(), request, argument.as_mut_ptr()) };
        ensure!(status == 0, "userfaultfd request {request:#x}: {}", io::Error::last_os_error());
        Ok(())
    }
}

impl Drop for SlowPage {
    fn drop(&mut self) {
        // SAFETY: the mapping is this object's, and no reference to it exists.
        unsafe { libc::munmap(std::ptr::with_exposed_provenance_mut(self.address), PAGE) };
    }
}

/// Has the kernel keep the SYN of each connection to the listener.
pub fn save_syns(listener: BorrowedFd) -> Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: `on` is as long as is said, and is only read.
    let status = unsafe {
        libc::setsockopt(
            listener.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_SAVE_SYN,
            (&raw const on).cast(),
            libc::socklen_t::try_from(size_of_val(&on))?,
        )
    };
    ensure!(status == 0, "TCP_SAVE_SYN is refused: {}", io::Error::last_os_error());
    Ok(())
}
