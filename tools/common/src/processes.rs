// SPDX-License-Identifier: GPL-2.0

//! Processes.

use crate::{Pid, c, cvt};
use std::ffi::CStr;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::ptr;

/// Executes the program of this process again, with one argument. Returns only on failure.
pub fn exec_again(argument: &CStr) -> io::Error {
    // Unlike /proc/self/exe, this works even after the main thread has exited.
    let program = c"/proc/thread-self/exe".as_ptr();
    let argv = [
        program.cast_mut(),
        argument.as_ptr().cast_mut(),
        ptr::null_mut(),
    ];
    // SAFETY: `argv` is a list of strings that ends with a null pointer.
    unsafe { c::execv(program, argv.as_ptr()) };
    io::Error::last_os_error()
}

/// Stops this process until another one calls [`go_on`].
pub fn stop_self() -> io::Result<()> {
    // SAFETY: No memory is involved.
    cvt(unsafe { c::raise(c::SIGSTOP) }).map(drop)
}

/// Waits until a child stops. Fails if it ends instead.
pub fn wait_for_stop(pid: Pid) -> io::Result<()> {
    let mut status = 0;
    // SAFETY: `status` is valid for the duration of the call.
    cvt(unsafe { c::waitpid(pid, &mut status, c::WUNTRACED) })?;
    match ExitStatus::from_raw(status).stopped_signal() {
        Some(_) => Ok(()),
        None => Err(io::Error::other("a process has ended too early")),
    }
}

/// Continues a process that has stopped.
pub fn go_on(pid: Pid) -> io::Result<()> {
    // SAFETY: No memory is involved.
    cvt(unsafe { c::kill(pid, c::SIGCONT) }).map(drop)
}

/// Makes this process a child subreaper, which becomes the parent of its orphaned descendants.
pub fn adopt_orphans() -> io::Result<()> {
    // SAFETY: No memory is involved.
    cvt(unsafe { c::prctl(c::PR_SET_CHILD_SUBREAPER, 1u64) }).map(drop)
}
