// SPDX-License-Identifier: GPL-2.0

//! epoll_wait(2).

use crate::{c, cvt};
use std::io;
use std::os::fd::RawFd;

/// epoll_wait(2) for up to `N` events. Returns their number.
pub fn epoll_wait<const N: usize>(efd: RawFd, timeout: i32) -> io::Result<usize> {
    let mut events = [c::epoll_event::default(); N];
    // SAFETY: `events` is valid for writing `N` events.
    let count = unsafe { c::epoll_wait(efd, events.as_mut_ptr(), N as i32, timeout) };
    Ok(cvt(count)? as usize)
}

/// The data of an entry that is ready, if any.
pub fn epoll_next(efd: RawFd) -> io::Result<Option<u64>> {
    let mut event = c::epoll_event::default();
    // SAFETY: `event` is valid for writing one event.
    let count = cvt(unsafe { c::epoll_wait(efd, &mut event, 1, 0) })?;
    // SAFETY: This library stores only `u64`s as data, and the default is 0.
    Ok((count > 0).then_some(unsafe { event.data.u64_ }))
}
