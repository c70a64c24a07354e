// SPDX-License-Identifier: GPL-2.0

//! The lookup behind `KCMP_EPOLL_TFD` of kcmp(2).
//!
//! [`kernel/kcmp.c`](srctree/kernel/kcmp.c) finds the tasks, checks the permissions, and calls
//! [`kcmp_epoll_target`] in place of the function in C.

use core::mem::offset_of;
use kernel::{
    bindings,
    ffi::{
        c_int,
        c_ulong, //
    },
    fs::{
        eventpoll::EventPoll,
        AnyFile,
        FileId, //
    },
    prelude::*,
    task::Task,
    uaccess::{
        UserPtr,
        UserSlice, //
    },
};

/// `struct kcmp_epoll_slot` as it is copied from user space: `efd`, `tfd`, `toff`. An array, since
/// that implements `FromBytes`, which the type in `bindings` does not.
type Slot = [u32; 3];

const _: () = {
    assert!(size_of::<Slot>() == size_of::<bindings::kcmp_epoll_slot>());
    assert!(offset_of!(bindings::kcmp_epoll_slot, efd) == 0);
    assert!(offset_of!(bindings::kcmp_epoll_slot, tfd) == size_of::<u32>());
    assert!(offset_of!(bindings::kcmp_epoll_slot, toff) == 2 * size_of::<u32>());
};

/// Compares two files as `KCMP_FILE` does.
#[inline]
fn kcmp_files(file1: FileId<'_>, file2: FileId<'_>) -> c_int {
    // SAFETY: `kcmp_file_ptr()` compares the addresses, and does not read what they point at.
    unsafe { bindings::kcmp_file_ptr(file1.as_ptr(), file2.as_ptr()) }
}

/// Compares file `idx1` of `task1` with the target file of an entry of an epoll file of `task2`.
/// The slot at `uslot` names the epoll file and the entry.
///
/// Returns 0, 1 or 2, as `KCMP_FILE` does for two files. Errors are checked in this order:
///
/// - `EFAULT`: the slot cannot be read.
/// - `EBADF`: `idx1` is not open in `task1`, or `efd` is not open in `task2`.
/// - `EINVAL`: `efd` is not an epoll file.
/// - `ENOENT`: the interest list has at most `toff` entries that were added as `tfd`.
fn compare(task1: &Task, task2: &Task, idx1: c_ulong, uslot: UserPtr) -> Result<c_int> {
    let [efd, tfd, toff] = UserSlice::new(uslot, size_of::<Slot>())
        .reader()
        .read::<Slot>()?;

    // As in C, only the low 32 bits of `idx1` are used.
    let file = AnyFile::fget_task(task1, idx1 as u32)?;
    let epoll_file = AnyFile::fget_task(task2, efd)?;

    let mut list = EventPoll::from_file(&epoll_file)?.lock();
    let target = list.target(tfd as c_int, toff).ok_or(ENOENT)?;
    Ok(kcmp_files(file.id(), target))
}

/// C entry point of the lookup. See [`compare`] for the results; errors are negative.
///
/// # Safety
///
/// - `task1` and `task2` must be valid pointers to tasks that stay alive for the duration of the
///   call.
/// - The caller must be in the context of the process that `uslot` belongs to, and be allowed to
///   sleep. `uslot` itself may be any address.
#[export]
pub unsafe extern "C" fn kcmp_epoll_target(
    task1: *mut bindings::task_struct,
    task2: *mut bindings::task_struct,
    idx1: c_ulong,
    uslot: *mut bindings::kcmp_epoll_slot,
) -> c_int {
    // SAFETY: The caller guarantees that both tasks are valid for the duration of the call. `Task`
    // is `#[repr(transparent)]`.
    let (task1, task2) = unsafe { (&*task1.cast::<Task>(), &*task2.cast::<Task>()) };

    compare(task1, task2, idx1, UserPtr::from_ptr(uslot.cast())).unwrap_or_else(|e| e.to_errno())
}
