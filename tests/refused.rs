// SPDX-License-Identifier: GPL-2.0

//! Mistakes that the compiler rejects.
//!
//! As it is, this file compiles. Each `--cfg` that an attribute below names enables one mistake,
//! which the compiler rejects with the error in the comment above it. `make check` tries all.

use kernel::{
    fs::{
        eventpoll::EventPoll,
        RemoteFile, //
    },
    prelude::*,
    task::Task, //
};

/// Returns whether file `fd` of `task` is the target file of the first entry of `ep` that was added
/// as `tfd`.
pub fn is_target(ep: &EventPoll, task: &Task, fd: u32, tfd: i32) -> Result<bool> {
    let file = RemoteFile::fget_task(task, fd)?;

    // E0505: The file is released before it is compared.
    #[cfg(file_released)]
    let file = {
        let borrowed: &RemoteFile = &file;
        drop(file);
        borrowed
    };

    // E0505: The epoll file is released while its instance is in use.
    #[cfg(epoll_file_released)]
    let ep = {
        let epoll_file = RemoteFile::fget_task(task, fd)?;
        let ep = EventPoll::from_file(&epoll_file)?;
        drop(epoll_file);
        ep.with_interest_list(|_| ());
        ep
    };

    // E0599: The interest list is searched without the lock.
    #[cfg(lock_not_taken)]
    let _ = ep.target(tfd, 0);

    // E0451: An interest list is made without the lock.
    #[cfg(lock_claimed)]
    let _ = kernel::fs::eventpoll::InterestList {
        ep,
        _guard: todo!(),
    };

    // error: lifetime may not live long enough: The entry is used after the lock is released.
    #[cfg(lock_released)]
    let target = ep.with_interest_list(|list| list.target(tfd, 0));

    // E0521: The interest list is used after the lock is released.
    #[cfg(list_escapes)]
    let _ = {
        let mut escaped = None;
        ep.with_interest_list(|list| escaped = Some(list));
        escaped
    };

    // E0277: The interest list is sent to another thread, which could release the lock.
    #[cfg(list_sent)]
    ep.with_interest_list(|list| {
        fn send<T: Send>(_: T) {}
        send(list)
    });

    // E0521: Two interest lists are swapped, but each is only locked in its own closure.
    #[cfg(lists_swapped)]
    ep.with_interest_list(|outer| ep.with_interest_list(|inner| core::mem::swap(outer, inner)));

    ep.with_interest_list(|list| {
        let target = list.target(tfd, 0).ok_or(ENOENT)?;

        // E0133: The address of the target file is taken outside an `unsafe` block.
        #[cfg(address_taken)]
        let _ = target.file_ptr();

        // SAFETY: The address is only compared, while `target` exists.
        Ok(unsafe { target.file_ptr() } == file.as_ptr())
    })
}
