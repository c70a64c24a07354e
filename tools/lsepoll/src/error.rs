// SPDX-License-Identifier: GPL-2.0

//! Errors, each with a remedy where there is one.

use crate::bytes::Bytes;
use std::fmt;
use std::io;

type Pid = libc::pid_t;
type Fd = libc::c_int;

#[derive(Debug)]
pub enum Error {
    NoKcmp,
    KcmpNotPermitted,
    NoEpollTfd,
    NoEpoll,
    NoProc,
    OtherProc,
    NoProcess(Pid),
    Zombie(Pid),
    Ended(Pid),
    HiddenProcess(Pid),
    NotPermitted(Pid),
    NoName(Bytes),
    NotOpen(Pid, Fd),
    NotEpoll(Pid, Fd, String),
    Fdinfo(String),
    Io(&'static str, io::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::NoKcmp => f.write_str("this kernel has no kcmp(2): build it with CONFIG_KCMP=y"),
            Error::KcmpNotPermitted => f.write_str(
                "kcmp(2) is not permitted, even on lsepoll itself, probably because of a seccomp \
                 filter: most container runtimes allow it with CAP_SYS_PTRACE",
            ),
            Error::NoEpollTfd => f.write_str(
                "kcmp(2) of this kernel has no KCMP_EPOLL_TFD: Linux 4.13 or newer is required",
            ),
            Error::NoEpoll => {
                f.write_str("this kernel has no epoll(7): build it with CONFIG_EPOLL=y")
            }
            Error::NoProc => f.write_str("/proc is not mounted: mount -t proc proc /proc"),
            Error::OtherProc => f.write_str(
                "/proc shows another PID namespace: mount -t proc proc /proc in this one",
            ),
            Error::NoProcess(pid) => write!(f, "pid {pid}: no such process"),
            Error::Zombie(pid) => write!(f, "pid {pid}: a zombie, which has no files"),
            Error::Ended(pid) => write!(f, "pid {pid}: ended during the search"),
            Error::HiddenProcess(pid) => write!(
                f,
                "pid {pid}: hidden, /proc is mounted with hidepid: run lsepoll as root, \
                 or in the group of the gid= mount option"
            ),
            Error::NotPermitted(pid) => write!(
                f,
                "pid {pid}: not permitted: this requires CAP_SYS_PTRACE in its user namespace, as \
                 root has there, or the same user, if the process has not changed its uid, gid or \
                 capabilities"
            ),
            Error::NoName(name) => write!(f, "no process has the name \"{name}\""),
            Error::NotOpen(pid, fd) => write!(f, "pid {pid}: fd {fd} is not open"),
            Error::NotEpoll(pid, fd, name) => {
                write!(f, "pid {pid}: fd {fd} is not an epoll file, but {name}")
            }
            Error::Fdinfo(line) => write!(f, "cannot parse fdinfo of an epoll file: {line}"),
            Error::Io(what, error) => write!(f, "{what}: {error}"),
        }
    }
}

impl std::error::Error for Error {}
