// SPDX-License-Identifier: GPL-2.0

//! What the programs here share: kcmp(2), the targets that `fdinfo` lists, files and words sent
//! over unix sockets, processes, and the results of tests.
//!
//! File descriptors are plain numbers throughout: the programs are about numbers that are reused,
//! closed elsewhere, and of other processes.

use std::fmt;
use std::fs;
use std::io;
use std::mem;
use std::ops::Range;
use std::os::fd::RawFd;
use std::process::ExitCode;
use std::ptr;
use std::sync::atomic::AtomicU64;

/// A number of a process, as seen by the caller.
pub type Pid = libc::pid_t;

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

/// Turns what a C function returned into a result.
pub fn cvt(ret: libc::c_int) -> io::Result<libc::c_int> {
    if ret < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(ret)
    }
}

/// kcmp(2) with any arguments, of which all bits are passed. Gives what the kernel does: the
/// answer, or a negative errno.
pub fn kcmp_raw(pid1: u64, pid2: u64, kind: u64, idx1: u64, idx2: u64) -> i32 {
    // SAFETY: kcmp() writes nothing, and fails if it cannot read what `idx2` points at.
    let ret = unsafe { libc::syscall(libc::SYS_kcmp, pid1, pid2, kind, idx1, idx2) };
    match cvt(ret as libc::c_int) {
        Ok(answer) => answer,
        Err(e) => -e.raw_os_error().unwrap_or(0),
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

/// Closes all files of a range of numbers, with close_range(2).
pub fn close_range(range: Range<RawFd>) -> io::Result<()> {
    let (first, last) = (range.start as u32, range.end as u32 - 1);
    // SAFETY: No memory is involved, and none of the programs here own files by type.
    cvt(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) } as i32).map(drop)
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

/// Puts a new file at a number of choice.
pub fn place(fd: RawFd, at: RawFd) -> io::Result<()> {
    dup2(fd, at)?;
    close(fd)
}

/// Sends a few words to the other side of a socket.
pub fn send_words(socket: RawFd, words: &[u64]) -> io::Result<()> {
    let len = std::mem::size_of_val(words);
    // SAFETY: `words` is valid for reading.
    let sent = unsafe { libc::send(socket, words.as_ptr().cast(), len, libc::MSG_NOSIGNAL) };
    cvt(sent as i32).map(drop)
}

/// Receives as many words as are asked for.
pub fn receive_words<const N: usize>(socket: RawFd) -> io::Result<[u64; N]> {
    let mut words = [0; N];
    let len = std::mem::size_of_val(&words);
    // SAFETY: `words` is valid for writing.
    let received = unsafe { libc::recv(socket, words.as_mut_ptr().cast(), len, 0) };
    if cvt(received as i32)? as usize == len {
        Ok(words)
    } else {
        Err(io::Error::other("the other side has ended"))
    }
}

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

/// What went wrong, in one line.
#[derive(Debug)]
pub struct Failure(pub String);

impl From<io::Error> for Failure {
    fn from(e: io::Error) -> Self {
        Failure(e.to_string())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Fails with a message if a condition does not hold.
#[macro_export]
macro_rules! ensure {
    ($condition:expr, $($text:tt)*) => {
        if !$condition {
            return Err($crate::Failure(format!($($text)*)));
        }
    };
}

/// How a test ended that has not failed.
pub enum Done {
    Passed,
    /// Why it cannot run here.
    Skipped(String),
}

/// A test: its name, and what it does.
pub type Test<'a> = (&'a str, &'a dyn Fn() -> Result<Done, Failure>);

/// Runs tests, prints TAP, and gives the exit status of kselftest.
pub fn run_tests(tests: &[Test<'_>]) -> ExitCode {
    println!("TAP version 13\n1..{}", tests.len());
    let (mut failed, mut skipped) = (0, 0);
    for (i, (name, test)) in tests.iter().enumerate() {
        let n = i + 1;
        match test() {
            Ok(Done::Passed) => println!("ok {n} {name}"),
            Ok(Done::Skipped(why)) => {
                skipped += 1;
                println!("ok {n} {name} # SKIP {why}");
            }
            Err(failure) => {
                failed += 1;
                println!("# {failure}\nnot ok {n} {name}");
            }
        }
    }
    match (failed, skipped) {
        (1.., _) => ExitCode::FAILURE,
        (_, skipped) if skipped == tests.len() => ExitCode::from(4),
        _ => ExitCode::SUCCESS,
    }
}

/// Memory that this process shares with those that it forks later: words that are 0 at first.
pub fn share_words<const N: usize>() -> io::Result<&'static [AtomicU64; N]> {
    let len = mem::size_of::<[AtomicU64; N]>();
    let prot = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
    // SAFETY: A new mapping, at an address that the kernel chooses.
    let memory = unsafe { libc::mmap(ptr::null_mut(), len, prot, flags, -1, 0) };
    if memory == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: The mapping is as long as the array, aligned to a page, zeroed, and never unmapped.
    // Atomics may be changed by other processes.
    Ok(unsafe { &*memory.cast() })
}

/// Lists the CPUs that this process may run on.
pub fn list_cpus() -> io::Result<Vec<usize>> {
    // SAFETY: All bits zero is a valid `cpu_set_t`: an empty set.
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    // SAFETY: `set` is valid for writing.
    cvt(unsafe { libc::sched_getaffinity(0, mem::size_of_val(&set), &mut set) })?;
    let all = 0..libc::CPU_SETSIZE as usize;
    // SAFETY: No CPU is beyond the size of the set.
    Ok(all
        .filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, &set) })
        .collect())
}

/// Lets the calling thread run on one CPU only.
pub fn run_on(cpu: usize) -> io::Result<()> {
    // SAFETY: All bits zero is a valid `cpu_set_t`: an empty set.
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    // SAFETY: CPU_SET() does nothing for a CPU beyond the size of the set. `set` is valid for
    // reading.
    unsafe {
        libc::CPU_SET(cpu, &mut set);
        cvt(libc::sched_setaffinity(0, mem::size_of_val(&set), &set)).map(drop)
    }
}
