// SPDX-License-Identifier: GPL-2.0

//! kcmp(2).

use crate::error::Error;
use crate::process::{Fd, Pid, Place};
use std::cmp::Ordering;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

// From enum kcmp_type in linux/kcmp.h.
const KCMP_FILE: i32 = 0;
const KCMP_FILES: i32 = 2;
const KCMP_EPOLL_TFD: i32 = 7;

/// struct kcmp_epoll_slot of linux/kcmp.h: `toff` entries with the same `tfd` precede the entry.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Slot {
    pub efd: Fd,
    pub tfd: Fd,
    pub toff: u32,
}

static CALLS: AtomicU64 = AtomicU64::new(0);

/// The number of kcmp(2) calls so far.
pub fn calls() -> u64 {
    CALLS.load(Relaxed)
}

fn kcmp(pid1: Pid, pid2: Pid, kind: i32, idx1: usize, idx2: usize) -> io::Result<Ordering> {
    CALLS.fetch_add(1, Relaxed);
    // SAFETY: kcmp() writes no memory. It reads a slot at `idx2` for KCMP_EPOLL_TFD only, and fails
    // if it cannot.
    match unsafe { libc::syscall(libc::SYS_kcmp, pid1, pid2, kind, idx1, idx2) } {
        0 => Ok(Ordering::Equal),
        1 => Ok(Ordering::Less),
        2 => Ok(Ordering::Greater),
        -1 => Err(io::Error::last_os_error()),
        other => Err(io::Error::other(format!("unknown result {other}"))),
    }
}

/// Compares two files.
pub fn compare_files(a: &Place, b: &Place) -> io::Result<Ordering> {
    kcmp(
        a.table.tid,
        b.table.tid,
        KCMP_FILE,
        a.fd as usize,
        b.fd as usize,
    )
}

/// Compares a file with the target file of an entry, in the order of [`compare_files`].
pub fn compare_entry(file: &Place, epoll: &Place, (tfd, toff): (Fd, u32)) -> io::Result<Ordering> {
    let slot = Slot {
        efd: epoll.fd,
        tfd,
        toff,
    };
    kcmp(
        file.table.tid,
        epoll.table.tid,
        KCMP_EPOLL_TFD,
        file.fd as usize,
        &raw const slot as usize,
    )
}

/// Whether two threads share their fd table.
pub fn same_table(a: Pid, b: Pid) -> io::Result<bool> {
    Ok(kcmp(a, b, KCMP_FILES, 0, 0)?.is_eq())
}

/// Whether an error says that the entry is gone, or that its epoll file was replaced by another
/// file.
pub fn is_no_entry(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EINVAL))
}

/// Returns `None` for errors which say that a file, an entry or a process is gone, or that the
/// process may not be inspected any more.
pub fn ask(answer: io::Result<Ordering>) -> Result<Option<Ordering>, Error> {
    match answer {
        Ok(ordering) => Ok(Some(ordering)),
        Err(e) if is_no_entry(&e) => Ok(None),
        Err(e) => match e.raw_os_error() {
            Some(libc::EBADF | libc::ESRCH | libc::EPERM) => Ok(None),
            _ => Err(Error::Io("kcmp", e)),
        },
    }
}

/// Owns the file that a system call has opened.
///
/// # Safety
///
/// Nothing else owns it.
pub unsafe fn owned(fd: libc::c_long) -> io::Result<OwnedFd> {
    match fd {
        -1 => Err(io::Error::last_os_error()),
        // SAFETY: The kernel has opened it, and by the safety requirement nothing else owns it.
        fd => Ok(unsafe { OwnedFd::from_raw_fd(fd as Fd) }),
    }
}

/// Creates an epoll instance.
pub fn epoll_create() -> io::Result<OwnedFd> {
    // SAFETY: No memory is involved, and the file is new.
    unsafe { owned(libc::epoll_create1(libc::EPOLL_CLOEXEC).into()) }
}

/// Creates an eventfd.
pub fn eventfd() -> io::Result<OwnedFd> {
    // SAFETY: No memory is involved, and the file is new.
    unsafe { owned(libc::eventfd(0, libc::EFD_CLOEXEC).into()) }
}

/// Creates a pipe.
pub fn pipe() -> io::Result<[OwnedFd; 2]> {
    let mut fds = [0; 2];
    // SAFETY: `fds` is valid for writing two fds.
    match unsafe { libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC) } {
        -1 => Err(io::Error::last_os_error()),
        // SAFETY: The kernel has opened them, and nothing else owns them.
        _ => Ok(fds.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) })),
    }
}

/// Checks that the calls which lsepoll needs work on lsepoll itself.
pub fn probe(own: Pid) -> Result<(), Error> {
    same_table(own, own).map_err(|e| match e.raw_os_error() {
        Some(libc::ENOSYS) => Error::NoKcmp,
        Some(libc::EPERM | libc::EACCES) => Error::KcmpNotPermitted,
        _ => Error::Io("kcmp", e),
    })?;

    let error = |e: io::Error| match e.raw_os_error() {
        Some(libc::ENOSYS) => Error::NoEpoll,
        _ => Error::Io("epoll_create1", e),
    };
    let epoll = epoll_create().map_err(error)?;
    let epoll = epoll.as_raw_fd();
    let slot = Slot {
        efd: epoll,
        tfd: 0,
        toff: 0,
    };
    let slot = &raw const slot as usize;
    // The interest list is empty: a kernel that has KCMP_EPOLL_TFD returns ENOENT.
    let answer = kcmp(own, own, KCMP_EPOLL_TFD, epoll as usize, slot);
    match answer.map_err(|e| e.raw_os_error()) {
        Err(Some(libc::ENOENT)) => Ok(()),
        _ => Err(Error::NoEpollTfd),
    }
}
