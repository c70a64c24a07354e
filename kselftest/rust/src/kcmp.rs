// SPDX-License-Identifier: GPL-2.0

//! kcmp(2).

use crate::{cvt, errno, Pid};
use std::io;
use std::os::fd::RawFd;

/// `enum kcmp_type` of `linux/kcmp.h`.
pub const KCMP_FILE: u64 = 0;
pub const KCMP_VM: u64 = 1;
pub const KCMP_FILES: u64 = 2;
pub const KCMP_FS: u64 = 3;
pub const KCMP_SIGHAND: u64 = 4;
pub const KCMP_IO: u64 = 5;
pub const KCMP_SYSVSEM: u64 = 6;
pub const KCMP_EPOLL_TFD: u64 = 7;

/// `struct kcmp_epoll_slot` of `linux/kcmp.h`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[repr(C)]
pub struct Slot {
    pub efd: u32,
    pub tfd: u32,
    pub toff: u32,
}

/// The answer of kcmp(2) for two files.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    Equal,
    Less,
    Greater,
}

/// All answers that kcmp(2) may give: verdicts, and errors as negative numbers.
pub const ANSWERS: [(i32, &str); 10] = [
    (0, "equal"),
    (1, "less"),
    (2, "greater"),
    (-libc::EPERM, "EPERM"),
    (-libc::ESRCH, "ESRCH"),
    (-libc::EFAULT, "EFAULT"),
    (-libc::EBADF, "EBADF"),
    (-libc::EINVAL, "EINVAL"),
    (-libc::ENOENT, "ENOENT"),
    (-libc::EOPNOTSUPP, "EOPNOTSUPP"),
];

/// A file of a process.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FileOf {
    pub pid: Pid,
    pub fd: RawFd,
}

/// Where a target stands: the epoll file, the number it was added under, and how many targets of
/// that number stand before it.
#[derive(Clone, Copy, Debug)]
pub struct TargetOf {
    pub epoll: FileOf,
    pub tfd: RawFd,
    pub toff: u32,
}

/// kcmp(2) with any arguments, of which all bits are passed. Gives what the kernel does: the
/// answer, or a negative errno.
pub fn kcmp_raw(pid1: u64, pid2: u64, kind: u64, idx1: u64, idx2: u64) -> i32 {
    // SAFETY: kcmp() writes nothing, and fails if it cannot read what `idx2` points at.
    let ret = unsafe { libc::syscall(libc::SYS_kcmp, pid1, pid2, kind, idx1, idx2) };
    match cvt(ret as libc::c_int) {
        Ok(answer) => answer,
        Err(e) => -errno(&e),
    }
}

fn kcmp(pid1: Pid, pid2: Pid, kind: u64, idx1: RawFd, idx2: u64) -> io::Result<Verdict> {
    match kcmp_raw(pid1 as u64, pid2 as u64, kind, idx1 as u32 as u64, idx2) {
        0 => Ok(Verdict::Equal),
        1 => Ok(Verdict::Less),
        2 => Ok(Verdict::Greater),
        answer if answer > 0 => Err(io::Error::other(format!("kcmp returned {answer}"))),
        error => Err(io::Error::from_raw_os_error(-error)),
    }
}

/// Compares two files.
pub fn kcmp_files(a: FileOf, b: FileOf) -> io::Result<Verdict> {
    kcmp(a.pid, b.pid, KCMP_FILE, a.fd, b.fd as u32 as u64)
}

/// Compares a file with the target of an epoll file.
///
/// Fails with `ENOENT` if there is no such target.
pub fn kcmp_target(file: FileOf, target: TargetOf) -> io::Result<Verdict> {
    let slot = Slot {
        efd: target.epoll.fd as u32,
        tfd: target.tfd as u32,
        toff: target.toff,
    };
    let slot = &raw const slot;
    kcmp(
        file.pid,
        target.epoll.pid,
        KCMP_EPOLL_TFD,
        file.fd,
        slot as u64,
    )
}
