// SPDX-License-Identifier: GPL-2.0

//! Processes.

use crate::cvt;
use std::io;

/// A number of a process, as seen by the caller.
pub type Pid = libc::pid_t;

/// Forks a child that runs `body` and ends with its result as the exit status.
pub fn fork(body: impl FnOnce() -> i32) -> io::Result<Pid> {
    // SAFETY: No program here calls this in a process with threads, thus the child may do anything.
    match cvt(unsafe { libc::fork() })? {
        0 => {
            let status = body();
            // SAFETY: Ends this process, without what the parent has registered for its own end.
            unsafe { libc::_exit(status) }
        }
        pid => Ok(pid),
    }
}

/// Waits for a child. Gives its exit status, or 128 and the signal that ended it.
pub fn wait(pid: Pid) -> io::Result<i32> {
    let mut status = 0;
    // SAFETY: `status` is valid for the duration of the call.
    cvt(unsafe { libc::waitpid(pid, &mut status, 0) })?;
    if libc::WIFEXITED(status) {
        Ok(libc::WEXITSTATUS(status))
    } else {
        Ok(128 + libc::WTERMSIG(status))
    }
}

/// Kills a process.
pub fn kill(pid: Pid) -> io::Result<()> {
    // SAFETY: No memory is involved.
    cvt(unsafe { libc::kill(pid, libc::SIGKILL) }).map(drop)
}

/// Lets this process be killed when its parent ends.
pub fn end_with_parent() -> io::Result<()> {
    // SAFETY: No memory is involved.
    cvt(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) }).map(drop)
}

/// Sleeps until this process is killed, at the latest when its parent ends.
pub fn sleep_until_killed() -> io::Result<i32> {
    end_with_parent()?;
    loop {
        // SAFETY: No handler is installed.
        unsafe { libc::pause() };
    }
}
