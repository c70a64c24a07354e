// SPDX-License-Identifier: GPL-2.0

//! Files, and the limits on their number.

use crate::{c, cvt, first_number};
use std::fs;
use std::io;
use std::os::fd::RawFd;

/// Writes the 64-bit integer 1, which makes an eventfd readable.
pub fn write_one(fd: RawFd) -> io::Result<()> {
    let one = 1u64;
    // SAFETY: `one` is valid for reading.
    let written = unsafe { c::write(fd, (&raw const one).cast(), size_of_val(&one)) };
    cvt(written as i32).map(drop)
}

/// Sets `RLIMIT_NOFILE` to `count`.
pub fn allow_files(count: RawFd) -> io::Result<()> {
    let limit = c::rlimit {
        rlim_cur: count as c::rlim_t,
        rlim_max: count as c::rlim_t,
    };
    // SAFETY: `limit` is valid for the duration of the call.
    cvt(unsafe { c::setrlimit(c::RLIMIT_NOFILE, &limit) }).map(drop)
}

/// Raises the system-wide limits on open files and epoll entries to at least `count`, and sets
/// `RLIMIT_NOFILE` to `count`. Requires root.
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
