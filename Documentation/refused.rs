// SPDX-License-Identifier: GPL-2.0

//! What the compiler refuses.
//!
//! As it stands, this compiles. Each `--cfg` that the attributes below name makes a mistake of it,
//! and the compiler refuse it, with the error that the comment above tells. `make check` tries all
//! of them.

use kernel::{
    fs::{
        eventpoll::EventPoll,
        RemoteFile, //
    },
    prelude::*,
    task::Task, //
};

/// Compares file `fd` of `task` with the first target of `ep` that has the number `tfd`.
pub fn compare(ep: &EventPoll, task: &Task, fd: u32, tfd: i32) -> Result<i32> {
    let file = RemoteFile::fget_task(task, fd)?;

    // E0308: The file is let go, and only its address kept, as `get_file_raw_ptr()` does.
    #[cfg(file_not_pinned)]
    let file = { file.as_ptr() };

    // E0505: The file is let go before it is compared.
    #[cfg(file_let_go)]
    let file = {
        let borrowed: &RemoteFile = &file;
        drop(file);
        borrowed
    };

    let set = ep.lock();

    // E0599: The set is walked without its lock.
    #[cfg(lock_not_taken)]
    let set = ep;

    let target = set.targets(tfd).next();

    // E0505: The target is used after the lock is released, as `get_epoll_tfile_raw_ptr()` does.
    #[cfg(lock_released)]
    drop(set);

    // E0716: The lock is released at the end of the statement.
    #[cfg(lock_is_temporary)]
    let target = ep.lock().targets(tfd).next();

    Ok(target.ok_or(ENOENT)?.kcmp(&file))
}
