// SPDX-License-Identifier: GPL-2.0

//! Files of processes, and their numbers.

use crate::{cvt, first_number, Pid};
use std::fs;
use std::io;
use std::mem;
use std::ops::Range;
use std::os::fd::RawFd;

/// eventfd(2).
pub fn eventfd() -> io::Result<RawFd> {
    // SAFETY: No memory is involved.
    cvt(unsafe { libc::eventfd(0, 0) })
}

/// Writes a 1, which makes an eventfd ready.
pub fn write_one(fd: RawFd) -> io::Result<()> {
    let one = 1u64;
    // SAFETY: `one` is valid for reading.
    let written = unsafe { libc::write(fd, (&raw const one).cast(), mem::size_of_val(&one)) };
    cvt(written as i32).map(drop)
}

/// poll(2) for one file. Gives what has happened: 0 if nothing did within `timeout` milliseconds.
pub fn poll(fd: RawFd, events: i16, timeout: libc::c_int) -> io::Result<i16> {
    let mut poll = libc::pollfd {
        fd,
        events,
        revents: 0,
    };
    // SAFETY: `poll` is valid for the duration of the call.
    cvt(unsafe { libc::poll(&mut poll, 1, timeout) })?;
    Ok(poll.revents)
}

/// dup2(2).
pub fn dup2(from: RawFd, to: RawFd) -> io::Result<()> {
    // SAFETY: No memory is involved.
    cvt(unsafe { libc::dup2(from, to) }).map(drop)
}

/// close(2).
pub fn close(fd: RawFd) -> io::Result<()> {
    // SAFETY: No memory is involved, and none of the programs here own files by type.
    cvt(unsafe { libc::close(fd) }).map(drop)
}

/// Closes all files of a range of numbers, with close_range(2).
pub fn close_range(range: Range<RawFd>) -> io::Result<()> {
    let (first, last) = (range.start as u32, range.end as u32 - 1);
    // SAFETY: No memory is involved, and none of the programs here own files by type.
    cvt(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) } as i32).map(drop)
}

/// Puts a new file at a number of choice.
pub fn place(fd: RawFd, at: RawFd) -> io::Result<()> {
    dup2(fd, at)?;
    close(fd)
}

/// Lets this process have `count` files open.
pub fn allow_files(count: RawFd) -> io::Result<()> {
    let limit = libc::rlimit {
        rlim_cur: count as libc::rlim_t,
        rlim_max: count as libc::rlim_t,
    };
    // SAFETY: `limit` is valid for the duration of the call.
    cvt(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) }).map(drop)
}

/// Raises what limits of the whole system are lower, so that processes can have `count` files open,
/// and as many targets. Needs to be root.
pub fn raise_limits(count: RawFd) -> io::Result<()> {
    for name in ["fs/nr_open", "fs/file-max", "fs/epoll/max_user_watches"] {
        let path = format!("/proc/sys/{name}");
        if first_number(&path)? < count as u64 {
            fs::write(&path, count.to_string())
                .map_err(|e| io::Error::new(e.kind(), format!("{path}: {e}")))?;
        }
    }
    allow_files(count)
}

/// Lists the numbers of the files that a process has open.
pub fn list_files(pid: Pid) -> io::Result<Vec<RawFd>> {
    let mut fds: Vec<RawFd> = fs::read_dir(format!("/proc/{pid}/fd"))?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    fds.sort_unstable();
    Ok(fds)
}
