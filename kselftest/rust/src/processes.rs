// SPDX-License-Identifier: GPL-2.0

//! Processes.

use crate::cvt;
use std::ffi::CStr;
use std::io;
use std::ptr;

/// A number of a process, as seen by the caller.
pub type Pid = libc::pid_t;

/// getpid(2).
pub fn getpid() -> Pid {
    std::process::id() as Pid
}

/// Forks a child that runs `body` and ends with its result as the exit status.
pub fn fork(body: impl FnOnce() -> i32) -> io::Result<Pid> {
    // SAFETY: No program here calls this in a process with threads, thus the child may do anything.
    match cvt(unsafe { libc::fork() })? {
        0 => exit_at_once(body()),
        pid => Ok(pid),
    }
}

/// Ends this process, without what its parent has registered for its own end.
pub fn exit_at_once(status: i32) -> ! {
    // SAFETY: Never returns, and no memory is involved.
    unsafe { libc::_exit(status) }
}

/// Lets this process execute its own program with an argument. Returns only if that fails.
pub fn exec_again(argument: &CStr) -> io::Error {
    // Unlike /proc/self, this is there even if the first thread has ended.
    let program = c"/proc/thread-self/exe".as_ptr();
    let argv = [program, argument.as_ptr(), ptr::null()];
    // SAFETY: `argv` is a list of strings that ends with a null pointer.
    unsafe { libc::execv(program, argv.as_ptr()) };
    io::Error::last_os_error()
}

/// Lets children end without being waited for.
pub fn disown_children() {
    // SAFETY: No handler is installed.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
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

/// Stops this process until another one calls [`go_on`].
pub fn stop_self() -> io::Result<()> {
    // SAFETY: No memory is involved.
    cvt(unsafe { libc::raise(libc::SIGSTOP) }).map(drop)
}

/// Waits until a child stops. Fails if it ends instead.
pub fn wait_for_stop(pid: Pid) -> io::Result<()> {
    let mut status = 0;
    // SAFETY: `status` is valid for the duration of the call.
    cvt(unsafe { libc::waitpid(pid, &mut status, libc::WUNTRACED) })?;
    if libc::WIFSTOPPED(status) {
        Ok(())
    } else {
        Err(io::Error::other("a process has ended too early"))
    }
}

/// Lets a process that has stopped go on.
pub fn go_on(pid: Pid) -> io::Result<()> {
    // SAFETY: No memory is involved.
    cvt(unsafe { libc::kill(pid, libc::SIGCONT) }).map(drop)
}

/// Makes this process the parent of what its children leave behind: the one that waits for it.
pub fn adopt_orphans() -> io::Result<()> {
    // SAFETY: No memory is involved.
    cvt(unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1) }).map(drop)
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
