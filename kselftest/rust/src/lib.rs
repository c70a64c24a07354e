// SPDX-License-Identifier: GPL-2.0

//! What the programs here share: kcmp(2), the targets that `fdinfo` lists, and files sent over unix
//! sockets.
//!
//! File descriptors are plain numbers throughout: the programs are about numbers that are reused,
//! closed elsewhere, and of other processes.

use std::fs;
use std::io;
use std::mem;
use std::os::fd::RawFd;

/// A number of a process, as seen by the caller.
pub type Pid = libc::pid_t;

const KCMP_FILE: libc::c_int = 0;
const KCMP_EPOLL_TFD: libc::c_int = 7;

/// `struct kcmp_epoll_slot` of `linux/kcmp.h`.
#[repr(C)]
struct Slot {
    efd: u32,
    tfd: u32,
    toff: u32,
}

/// The answer of kcmp(2) for two files.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    Equal,
    Less,
    Greater,
}

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

/// Turns what a C function returned into a result.
pub fn cvt(ret: libc::c_int) -> io::Result<libc::c_int> {
    if ret < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(ret)
    }
}

fn kcmp(pid1: Pid, pid2: Pid, kind: libc::c_int, idx1: RawFd, idx2: usize) -> io::Result<Verdict> {
    // SAFETY: For the kinds used here, kcmp() reads at most the slot that `idx2` points at.
    let ret =
        unsafe { libc::syscall(libc::SYS_kcmp, pid1, pid2, kind, idx1 as u32 as usize, idx2) };
    match cvt(ret as libc::c_int)? {
        0 => Ok(Verdict::Equal),
        1 => Ok(Verdict::Less),
        2 => Ok(Verdict::Greater),
        other => Err(io::Error::other(format!("kcmp returned {other}"))),
    }
}

/// Compares two files.
pub fn kcmp_files(a: FileOf, b: FileOf) -> io::Result<Verdict> {
    kcmp(a.pid, b.pid, KCMP_FILE, a.fd, b.fd as u32 as usize)
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
        slot as usize,
    )
}

/// A line of `/proc/PID/fdinfo/EFD`: a target of an epoll file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Listed {
    pub tfd: RawFd,
    pub data: u64,
}

/// Lists the targets of an epoll file, in the order of fdinfo.
pub fn list_targets(epoll: FileOf) -> io::Result<Vec<Listed>> {
    let path = format!("/proc/{}/fdinfo/{}", epoll.pid, epoll.fd);
    let text = fs::read_to_string(path)?;
    // tfd:        5 events:       19 data:                5  pos:0 ino:b sdev:f
    let parse = |line: &str| {
        let mut words = line.split_whitespace();
        let mut after = |key| words.find(|word| *word == key).and_then(|_| words.next());
        Some(Listed {
            tfd: after("tfd:")?.parse().ok()?,
            data: u64::from_str_radix(after("data:")?, 16).ok()?,
        })
    };
    text.lines()
        .filter(|line| line.starts_with("tfd:"))
        .map(|line| parse(line).ok_or_else(|| io::Error::other(format!("fdinfo: {line}"))))
        .collect()
}

/// Lists the numbers of the files that a process has open.
pub fn list_files(pid: Pid) -> io::Result<Vec<RawFd>> {
    let mut fds: Vec<RawFd> = fs::read_dir(format!("/proc/{pid}/fd"))?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    fds.sort_unstable();
    Ok(fds)
}

/// epoll_ctl(2). `data` is what fdinfo and epoll_wait(2) tell of the target.
pub fn epoll_ctl(efd: RawFd, op: libc::c_int, fd: RawFd, events: i32, data: u64) -> io::Result<()> {
    let mut event = libc::epoll_event {
        events: events as u32,
        u64: data,
    };
    // SAFETY: `event` is valid for the duration of the call.
    cvt(unsafe { libc::epoll_ctl(efd, op, fd, &mut event) }).map(drop)
}

/// Room for the control message that carries one file.
#[repr(C, align(8))]
struct Control([u8; 24]);

/// Calls `f` with a message that has one byte of data and room for one file.
fn with_message<R>(f: impl FnOnce(&mut libc::msghdr) -> R) -> R {
    let mut byte = 0u8;
    let mut iov = libc::iovec {
        iov_base: (&raw mut byte).cast(),
        iov_len: 1,
    };
    let mut control = Control([0; 24]);
    // SAFETY: All bits zero is a valid `msghdr`: an empty message.
    let mut msg: libc::msghdr = unsafe { mem::zeroed() };
    msg.msg_iov = &mut iov;
    msg.msg_iovlen = 1;
    msg.msg_control = (&raw mut control).cast();
    msg.msg_controllen = mem::size_of::<Control>() as _;
    f(&mut msg)
}

/// Sends a file over a unix socket.
pub fn send_file(socket: RawFd, fd: RawFd) -> io::Result<()> {
    with_message(|msg| {
        // SAFETY: `msg` has room for a control message with one number.
        unsafe {
            let cmsg = libc::CMSG_FIRSTHDR(msg);
            (*cmsg).cmsg_level = libc::SOL_SOCKET;
            (*cmsg).cmsg_type = libc::SCM_RIGHTS;
            (*cmsg).cmsg_len = libc::CMSG_LEN(mem::size_of::<RawFd>() as u32) as _;
            libc::CMSG_DATA(cmsg).cast::<RawFd>().write_unaligned(fd);
            msg.msg_controllen = libc::CMSG_SPACE(mem::size_of::<RawFd>() as u32) as _;
        }
        // SAFETY: `msg` and what it points at are valid for the duration of the call.
        cvt(unsafe { libc::sendmsg(socket, msg, 0) } as libc::c_int).map(drop)
    })
}

/// Receives a file over a unix socket, and returns its number.
pub fn receive_file(socket: RawFd) -> io::Result<RawFd> {
    with_message(|msg| {
        // SAFETY: `msg` and what it points at are valid for the duration of the call.
        cvt(unsafe { libc::recvmsg(socket, msg, 0) } as libc::c_int)?;
        // SAFETY: `msg` was filled in by recvmsg().
        let cmsg = unsafe { libc::CMSG_FIRSTHDR(msg) };
        if cmsg.is_null() {
            return Err(io::Error::other("a message without a file"));
        }
        // SAFETY: The senders here send one file with each message.
        Ok(unsafe { libc::CMSG_DATA(cmsg).cast::<RawFd>().read_unaligned() })
    })
}

/// socketpair(2) of unix sockets.
pub fn socketpair(kind: libc::c_int) -> io::Result<[RawFd; 2]> {
    let mut fds = [0; 2];
    // SAFETY: `fds` is valid for writing two numbers.
    cvt(unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, fds.as_mut_ptr()) })?;
    Ok(fds)
}

/// dup2(2).
pub fn dup2(from: RawFd, to: RawFd) -> io::Result<()> {
    // SAFETY: No memory is involved.
    cvt(unsafe { libc::dup2(from, to) }).map(drop)
}

/// close(2).
pub fn close(fd: RawFd) -> io::Result<()> {
    // SAFETY: No memory is involved, and none of the programs here own files by type.
    cvt(unsafe { libc::close(fd) }).map(drop)
}

/// epoll_create1(2).
pub fn epoll_create() -> io::Result<RawFd> {
    // SAFETY: No memory is involved.
    cvt(unsafe { libc::epoll_create1(0) })
}

/// eventfd(2).
pub fn eventfd() -> io::Result<RawFd> {
    // SAFETY: No memory is involved.
    cvt(unsafe { libc::eventfd(0, 0) })
}

/// Forks a child that runs `body` and ends with its result as the exit status.
pub fn fork(body: impl FnOnce() -> i32) -> io::Result<Pid> {
    // SAFETY: None of the programs here have threads, thus the child may do anything.
    match cvt(unsafe { libc::fork() })? {
        0 => {
            let status = body();
            // SAFETY: Ends this process, without what the parent has registered for its own end.
            unsafe { libc::_exit(status) }
        }
        pid => Ok(pid),
    }
}
