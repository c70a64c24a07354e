// SPDX-License-Identifier: GPL-2.0

//! Sets up processes with files and epoll instances.

#[path = "../../src/demo/scene.rs"]
mod shared;

pub use shared::*;
use std::io;

type Fd = libc::c_int;

pub fn delete(efd: Fd, fd: Fd) -> io::Result<()> {
    epoll_ctl(efd, libc::EPOLL_CTL_DEL, fd, 0, 0)
}

/// Consumes up to 16 pending events. Returns their number.
pub fn epoll_wait(efd: Fd) -> io::Result<usize> {
    let mut events = [libc::epoll_event { events: 0, u64: 0 }; 16];
    let len = events.len() as libc::c_int;
    // SAFETY: `events` is valid for writing `len` events.
    Ok(cvt(unsafe { libc::epoll_wait(efd, events.as_mut_ptr(), len, 0) })? as usize)
}

pub fn pipe() -> io::Result<[Fd; 2]> {
    let mut fds = [0; 2];
    // SAFETY: `fds` is valid for writing two fds.
    cvt(unsafe { libc::pipe(fds.as_mut_ptr()) })?;
    Ok(fds)
}

/// Sets FD_CLOEXEC.
pub fn close_on_exec(fd: Fd) -> io::Result<()> {
    // SAFETY: No memory is involved.
    cvt(unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) }).map(drop)
}

/// Sets RLIMIT_NOFILE to `count`.
pub fn allow_files(count: usize) -> io::Result<()> {
    let count = count as libc::rlim_t;
    let limit = libc::rlimit {
        rlim_cur: count,
        rlim_max: count,
    };
    // SAFETY: `limit` is valid for the duration of the call.
    cvt(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) }).map(drop)
}
