// SPDX-License-Identifier: GPL-2.0

//! Which target files are ready now.
//!
//! Fetches the file, and polls it without waiting. This changes nothing, unlike epoll_wait(2) on
//! the epoll instance of another process, which would consume its events.

use crate::kcmp::owned;
use crate::process::{Pid, Place};
use std::collections::HashMap;
use std::os::fd::{AsRawFd, OwnedFd};

/// Since Linux 6.9.
const PIDFD_THREAD: libc::c_uint = libc::O_EXCL as libc::c_uint;

/// EPOLLONESHOT has cleared all events but flags, which are these.
const FLAGS: u32 = 0xf << 28;
const ALWAYS: u32 = (libc::EPOLLERR | libc::EPOLLHUP) as u32;

/// Whether an entry is ready.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ready {
    /// The events that epoll_wait(2) would report. None if 0.
    Events(u32),
    /// The target file cannot be fetched.
    Unknown,
}

impl Ready {
    pub fn is_ready(self) -> bool {
        matches!(self, Ready::Events(events) if events != 0)
    }
}

/// Polls files of other processes.
#[derive(Default)]
pub struct Poller {
    /// By tid.
    pidfds: HashMap<Pid, Option<OwnedFd>>,
}

impl Poller {
    /// The events of an entry that the file at a place has now.
    pub fn poll(&mut self, place: &Place, events: u32) -> Ready {
        let table = &place.table;
        let pidfd = self.pidfds.entry(table.tid).or_insert_with(|| {
            let flags = if table.tid == table.pid {
                0
            } else {
                PIDFD_THREAD
            };
            // SAFETY: No memory is involved, and the file is new.
            unsafe { owned(libc::syscall(libc::SYS_pidfd_open, table.tid, flags)) }.ok()
        });
        let Some(pidfd) = pidfd else {
            return Ready::Unknown;
        };
        let pidfd = pidfd.as_raw_fd();
        // SAFETY: No memory is involved, and the fd is new.
        let file = unsafe { owned(libc::syscall(libc::SYS_pidfd_getfd, pidfd, place.fd, 0)) };
        let Ok(file) = file else {
            return Ready::Unknown;
        };
        // Disarmed.
        if events & !FLAGS == 0 {
            return Ready::Events(0);
        }
        let mut poll = libc::pollfd {
            fd: file.as_raw_fd(),
            // poll(2) and epoll(7) have the same bits.
            events: events as i16,
            revents: 0,
        };
        // SAFETY: `poll` is valid for the duration of the call.
        match unsafe { libc::poll(&mut poll, 1, 0) } {
            -1 => Ready::Unknown,
            _ => Ready::Events(u32::from(poll.revents as u16) & (events | ALWAYS)),
        }
    }
}
