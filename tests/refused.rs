// SPDX-License-Identifier: GPL-2.0

//! Mistakes that the compiler rejects.
//!
//! As it is, this file compiles. Each `--cfg` that an attribute below names enables one mistake,
//! which the compiler rejects with the error in the comment above it. `make check` tries all.

use kernel::{
    fs::{
        eventpoll::EventPoll,
        AnyFile, //
    },
    prelude::*,
    task::Task, //
};

/// Returns whether two fds refer to the same file.
pub fn is_same_file(task: &Task, fd1: u32, fd2: u32) -> Result<bool> {
    // E0716: The first file is released before the second one is looked up: KCMP_FILE until now.
    #[cfg(file_not_held)]
    let id1 = AnyFile::fget_task(task, fd1)?.id();

    #[cfg(not(file_not_held))]
    let file1 = AnyFile::fget_task(task, fd1)?;
    #[cfg(not(file_not_held))]
    let id1 = file1.id();

    let file2 = AnyFile::fget_task(task, fd2)?;
    Ok(id1 == file2.id())
}

/// Returns whether file `fd` of `task` is the target file of the first entry of `ep` that was added
/// as `tfd`.
pub fn is_target(ep: &EventPoll, task: &Task, fd: u32, tfd: i32) -> Result<bool> {
    let file = AnyFile::fget_task(task, fd)?;
    let id = file.id();

    // E0505: The file is released before it is compared: KCMP_EPOLL_TFD until now.
    #[cfg(file_released)]
    drop(file);

    // E0505: The epoll file is released while its instance is in use.
    #[cfg(epoll_file_released)]
    let ep = {
        let epoll_file = AnyFile::fget_task(task, fd)?;
        let ep = EventPoll::from_file(&epoll_file)?;
        drop(epoll_file);
        drop(ep.lock());
        ep
    };

    // E0599: The interest list is searched without the lock.
    #[cfg(lock_not_taken)]
    let _ = ep.target(tfd, 0);

    // E0451: A guard is made without the lock.
    #[cfg(lock_claimed)]
    let _ = kernel::fs::eventpoll::InterestListGuard {
        ep,
        _guard: todo!(),
    };

    // E0716: The target file is used after the lock is released, at the end of the statement.
    #[cfg(lock_released)]
    let target = ep.lock().target(tfd, 0).ok_or(ENOENT)?;

    let mut list = ep.lock();
    #[cfg(not(lock_released))]
    let target = list.target(tfd, 0).ok_or(ENOENT)?;

    // E0505: The target file is used after the lock is released by hand.
    #[cfg(lock_dropped)]
    drop(list);

    // E0499: Two entries are looked up at once: the second lookup may move the cursor.
    #[cfg(looked_up_twice)]
    let _ = list.target(tfd, 1);

    // E0277: The guard is sent to another thread, which could release the lock.
    #[cfg(list_sent)]
    {
        fn send<T: Send>(_: T) {}
        send(ep.lock());
    }

    // E0308: A file is compared with an address that nothing keeps valid.
    #[cfg(address_compared)]
    let _ = id == file.as_ptr();

    Ok(id == target)
}

/// Returns an identity that outlives the file.
// E0515: The identity is returned, and the file released.
#[cfg(id_returned)]
pub fn id_of(task: &Task, fd: u32) -> Result<kernel::fs::FileId<'_>> {
    let file = AnyFile::fget_task(task, fd)?;
    Ok(file.id())
}
