// SPDX-License-Identifier: GPL-2.0

//! Epoll files and their targets.

use crate::{cvt, FileOf};
use std::fs;
use std::io;
use std::os::fd::RawFd;

/// epoll_create1(2).
pub fn epoll_create() -> io::Result<RawFd> {
    // SAFETY: No memory is involved.
    cvt(unsafe { libc::epoll_create1(0) })
}

/// epoll_ctl(2). `data` is what fdinfo and epoll_wait(2) tell of the target.
pub fn epoll_ctl(efd: RawFd, op: libc::c_int, fd: RawFd, events: i32, data: u64) -> io::Result<()> {
    let mut event = libc::epoll_event {
        events: events as u32,
        u64: data,
    };
    // SAFETY: `event` is valid for the duration of the call.
    cvt(unsafe { libc::epoll_ctl(efd, op, fd, &mut event) }).map(drop)
}

/// epoll_wait(2) for up to `N` events. Gives how many there were.
pub fn epoll_wait<const N: usize>(efd: RawFd, timeout: libc::c_int) -> io::Result<usize> {
    let mut events = [libc::epoll_event { events: 0, u64: 0 }; N];
    // SAFETY: `events` is valid for writing `N` events.
    let count = unsafe { libc::epoll_wait(efd, events.as_mut_ptr(), N as libc::c_int, timeout) };
    Ok(cvt(count)? as usize)
}

/// The data of a target that is ready, if one is.
pub fn epoll_next(efd: RawFd) -> io::Result<Option<u64>> {
    let mut event = libc::epoll_event { events: 0, u64: 0 };
    // SAFETY: `event` is valid for writing one event.
    let count = cvt(unsafe { libc::epoll_wait(efd, &mut event, 1, 0) })?;
    Ok((count > 0).then_some(event.u64))
}

/// A line of `/proc/PID/fdinfo/EFD`: a target of an epoll file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Listed {
    pub tfd: RawFd,
    pub data: u64,
}

/// Lists the targets of an epoll file, in the order of fdinfo.
pub fn list_targets(epoll: FileOf) -> io::Result<Vec<Listed>> {
    let path = format!("/proc/{}/fdinfo/{}", epoll.pid, epoll.fd);
    let text = fs::read_to_string(path)?;
    // tfd:        5 events:       19 data:                5  pos:0 ino:b sdev:f
    let parse = |line: &str| {
        let mut words = line.split_whitespace();
        let mut after = |key| words.find(|word| *word == key).and_then(|_| words.next());
        Some(Listed {
            tfd: after("tfd:")?.parse().ok()?,
            data: u64::from_str_radix(after("data:")?, 16).ok()?,
        })
    };
    text.lines()
        .filter(|line| line.starts_with("tfd:"))
        .map(|line| parse(line).ok_or_else(|| io::Error::other(format!("fdinfo: {line}"))))
        .collect()
}
