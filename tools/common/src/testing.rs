// SPDX-License-Identifier: GPL-2.0

//! What the tests share: system calls, arguments, random choices, results.
//!
//! File descriptors are plain integers throughout: the tests reuse fds, close them elsewhere, and
//! use those of other processes.

use std::cmp::Ordering;
use std::env;
use std::error::Error;
use std::fs;
use std::io;
use std::mem;
use std::ops::Range;
use std::os::fd::RawFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitCode, ExitStatus};
use std::ptr;
use std::time::SystemTime;

/// The system's headers, and `linux/kcmp.h`.
#[allow(
    clippy::all,
    clippy::undocumented_unsafe_blocks,
    unsafe_op_in_unsafe_fn
)]
#[allow(non_camel_case_types, non_snake_case, non_upper_case_globals)]
pub mod c {
    include!(concat!(env!("OUT_DIR"), "/bindings.rs"));
}

// --- Failures ------------------------------------------------------------------------------------

/// Why a test failed, in one line.
pub type Failure = Box<dyn Error>;

/// Fails with a message if a condition does not hold.
#[macro_export]
macro_rules! ensure {
    ($condition:expr, $($text:tt)*) => {
        if !$condition {
            return Err($crate::Failure::from(format!($($text)*)));
        }
    };
}

/// Turns the return value of a C function into a result.
pub fn cvt(ret: i32) -> io::Result<i32> {
    if ret < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(ret)
    }
}

/// The errno of an error.
pub fn errno(e: &io::Error) -> i32 {
    e.raw_os_error().unwrap_or(c::EIO)
}

// --- Programs ------------------------------------------------------------------------------------

/// The exit status of a program that has skipped all its tests.
const KSFT_SKIP: u8 = 4;

/// Runs a program. Each of its options takes a number, and is given here with its default.
pub fn start<const N: usize>(
    help: &str,
    mut options: [(&str, u64); N],
    run: impl FnOnce([u64; N]) -> Result<ExitCode, Failure>,
) -> ExitCode {
    let mut args = env::args();
    let program = args.next().unwrap_or_default();
    let mut parse = || -> Result<_, Failure> {
        while let Some(arg) = args.next() {
            let option = options.iter_mut().find(|(name, _)| *name == arg);
            let (_, value) = option.ok_or_else(|| format!("unexpected argument '{arg}'"))?;
            let text = args.next().unwrap_or_default();
            *value = text.parse().map_err(|e| format!("{arg} '{text}': {e}"))?;
        }
        Ok(options.map(|(_, value)| value))
    };
    if env::args().any(|arg| arg == "-h" || arg == "--help") {
        print!("{help}");
        return ExitCode::SUCCESS;
    }
    parse().and_then(run).unwrap_or_else(|failure| {
        eprintln!("{program}: {failure}");
        ExitCode::FAILURE
    })
}

/// The outcome of a test that has not failed.
pub enum Done {
    Passed,
    /// Why the test cannot run here.
    Skipped(String),
}

/// A test: its name, and what it does.
pub type Test<'a> = (&'a str, &'a dyn Fn() -> Result<Done, Failure>);

/// Runs tests and prints TAP.
pub fn run_tests(tests: &[Test<'_>]) -> ExitCode {
    if kcmp_raw(0, 0, 0, 0, 0) == -c::ENOSYS {
        return skip_all("the kernel has no kcmp()");
    }
    println!("TAP version 13\n1..{}", tests.len());
    let (mut failed, mut skipped) = (0, 0);
    for (n, (name, test)) in (1..).zip(tests) {
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
        (_, skipped) if skipped == tests.len() => KSFT_SKIP.into(),
        _ => ExitCode::SUCCESS,
    }
}

/// Skips all tests, and says why.
pub fn skip_all(why: &str) -> ExitCode {
    println!("TAP version 13\n1..0 # SKIP {why}");
    KSFT_SKIP.into()
}

/// Runs tests that need root. For other users, skips them.
pub fn as_root(run: impl FnOnce() -> Result<ExitCode, Failure>) -> Result<ExitCode, Failure> {
    // SAFETY: No memory is involved.
    match unsafe { c::geteuid() } {
        0 => run(),
        _ => Ok(skip_all("must be run as root")),
    }
}

/// Runs the part of a test that this process was forked for. Returns its exit status.
pub fn report(part: impl FnOnce() -> Result<(), Failure>) -> i32 {
    match part() {
        Ok(()) => 0,
        Err(failure) => {
            println!("# {failure}");
            1
        }
    }
}

// --- Random choices ------------------------------------------------------------------------------

/// SplitMix64.
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Rng {
        Rng(seed)
    }

    pub fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        (self.word() % end as u64) as usize
    }

    pub fn fd(&mut self, range: Range<RawFd>) -> RawFd {
        range.start + self.below(range.len()) as RawFd
    }

    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }
}

/// A seed that is new each time.
pub fn new_seed() -> u64 {
    let time = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    Rng::new(time.as_nanos() as u64).word()
}

// --- Processes -----------------------------------------------------------------------------------

pub type Pid = c::pid_t;

/// getpid(2).
pub fn getpid() -> Pid {
    std::process::id() as Pid
}

/// Forks a child that runs `body` and exits with its result.
pub fn fork(body: impl FnOnce() -> i32) -> io::Result<Pid> {
    // SAFETY: No program here forks while it has several threads, thus the child may do anything.
    match cvt(unsafe { c::fork() })? {
        0 => exit_at_once(body()),
        pid => Ok(pid),
    }
}

/// _exit(2).
pub fn exit_at_once(status: i32) -> ! {
    // SAFETY: Never returns, and no memory is involved.
    unsafe { c::_exit(status) }
}

/// Waits for a child. Returns its exit status, or 128 plus the signal that killed it.
pub fn wait(pid: Pid) -> io::Result<i32> {
    let mut status = 0;
    // SAFETY: `status` is valid for the duration of the call.
    cvt(unsafe { c::waitpid(pid, &mut status, 0) })?;
    let status = ExitStatus::from_raw(status);
    Ok(status.code().or(status.signal().map(|n| 128 + n)).unwrap())
}

/// Lets the kernel reap children when they exit.
pub fn disown_children() -> io::Result<()> {
    let action = c::sigaction {
        sa_flags: c::SA_NOCLDWAIT,
        ..Default::default()
    };
    // SAFETY: `action` is valid for reading, and installs no handler.
    cvt(unsafe { c::sigaction(c::SIGCHLD, &action, ptr::null_mut()) }).map(drop)
}

/// Kills a process.
pub fn kill(pid: Pid) -> io::Result<()> {
    // SAFETY: No memory is involved.
    cvt(unsafe { c::kill(pid, c::SIGKILL) }).map(drop)
}

/// Asks the kernel to kill this process when its parent exits.
pub fn end_with_parent() -> io::Result<()> {
    // SAFETY: No memory is involved.
    cvt(unsafe { c::prctl(c::PR_SET_PDEATHSIG, c::SIGKILL as u64) }).map(drop)
}

/// Sleeps until this process is killed, at the latest when its parent exits.
pub fn sleep_until_killed() -> io::Result<i32> {
    end_with_parent()?;
    loop {
        std::thread::park();
    }
}

// --- Files ---------------------------------------------------------------------------------------

/// eventfd(2).
pub fn eventfd() -> io::Result<RawFd> {
    // SAFETY: No memory is involved.
    cvt(unsafe { c::eventfd(0, 0) })
}

/// dup2(2).
pub fn dup2(from: RawFd, to: RawFd) -> io::Result<()> {
    // SAFETY: No memory is involved.
    cvt(unsafe { c::dup2(from, to) }).map(drop)
}

/// close(2).
pub fn close(fd: RawFd) -> io::Result<()> {
    // SAFETY: No memory is involved, and no type owns a file that is closed this way.
    cvt(unsafe { c::close(fd) }).map(drop)
}

/// Closes all fds of a range.
pub fn close_range(range: Range<RawFd>) -> io::Result<()> {
    let (first, last) = (range.start, range.end - 1);
    // SAFETY: No memory is involved, and no type owns a file that is closed this way.
    cvt(unsafe { c::syscall(c::SYS_close_range.into(), first, last, 0) } as i32).map(drop)
}

/// Moves a file to another fd.
pub fn place(fd: RawFd, at: RawFd) -> io::Result<()> {
    dup2(fd, at)?;
    close(fd)
}

/// poll(2) for one file. Returns the events: 0 if there were none within `timeout` milliseconds.
pub fn poll(fd: RawFd, events: i32, timeout: i32) -> io::Result<i32> {
    let mut poll = c::pollfd {
        fd,
        events: events as i16,
        revents: 0,
    };
    // SAFETY: `poll` is valid for the duration of the call.
    cvt(unsafe { c::poll(&mut poll, 1, timeout) })?;
    Ok(poll.revents.into())
}

// --- Unix sockets --------------------------------------------------------------------------------

/// socketpair(2) of unix sockets.
pub fn socketpair(kind: u32) -> io::Result<[RawFd; 2]> {
    let mut fds = [0; 2];
    // SAFETY: `fds` is valid for writing two fds.
    cvt(unsafe { c::socketpair(c::AF_UNIX, kind as i32, 0, fds.as_mut_ptr()) })?;
    Ok(fds)
}

/// A pair of unix sockets at these fds.
pub fn place_pair(kind: u32, [one, other]: [RawFd; 2]) -> io::Result<()> {
    let [a, b] = socketpair(kind)?;
    place(a, one)?;
    place(b, other)
}

/// A unix socket whose other end is closed.
pub fn lone_socket() -> io::Result<RawFd> {
    let [ours, theirs] = socketpair(c::SOCK_STREAM)?;
    close(theirs)?;
    Ok(ours)
}

/// A control message with one fd.
#[repr(C)]
#[derive(Default)]
struct Control {
    header: c::cmsghdr,
    fd: RawFd,
}

/// Calls `f` with a message of one byte and one control message.
fn with_message<R>(control: &mut Control, f: impl FnOnce(&mut c::msghdr) -> R) -> R {
    let mut byte = 0u8;
    let mut iov = c::iovec {
        iov_base: (&raw mut byte).cast(),
        iov_len: 1,
    };
    f(&mut c::msghdr {
        msg_iov: &mut iov,
        msg_iovlen: 1,
        msg_control: (&raw mut *control).cast(),
        msg_controllen: size_of::<Control>() as _,
        ..Default::default()
    })
}

/// Sends a file over a unix socket.
pub fn send_file(socket: RawFd, fd: RawFd) -> io::Result<()> {
    let mut control = Control {
        header: c::cmsghdr {
            cmsg_len: (mem::offset_of!(Control, fd) + size_of::<RawFd>()) as _,
            cmsg_level: c::SOL_SOCKET,
            cmsg_type: c::SCM_RIGHTS as i32,
            ..Default::default()
        },
        fd,
    };
    // SAFETY: The message and what it points at are valid for the duration of the call.
    let sent = with_message(&mut control, |msg| unsafe { c::sendmsg(socket, msg, 0) });
    cvt(sent as i32).map(drop)
}

/// Receives a file over a unix socket, and returns its fd.
pub fn receive_file(socket: RawFd) -> io::Result<RawFd> {
    let mut control = Control::default();
    // SAFETY: The message and what it points at are valid for the duration of the call.
    let received = with_message(&mut control, |msg| unsafe { c::recvmsg(socket, msg, 0) });
    cvt(received as i32)?;
    match control.header.cmsg_type {
        0 => Err(io::Error::other("a message without a file")),
        _ => Ok(control.fd),
    }
}

/// Sends words to the other end of a socket.
pub fn send_words(socket: RawFd, words: &[u64]) -> io::Result<()> {
    let (data, flags) = (words.as_ptr().cast(), c::MSG_NOSIGNAL as i32);
    // SAFETY: `words` is valid for reading.
    let sent = unsafe { c::send(socket, data, size_of_val(words), flags) };
    cvt(sent as i32).map(drop)
}

/// Receives words, all of them at once.
pub fn receive_words<const N: usize>(socket: RawFd) -> io::Result<[u64; N]> {
    let mut words = [0; N];
    let len = size_of_val(&words);
    // SAFETY: `words` is valid for writing.
    let received = unsafe { c::recv(socket, words.as_mut_ptr().cast(), len, 0) };
    if cvt(received as i32)? as usize == len {
        Ok(words)
    } else {
        Err(io::Error::other("the other end has closed the socket"))
    }
}

// --- Epoll ---------------------------------------------------------------------------------------

/// epoll_create1(2).
pub fn epoll_create() -> io::Result<RawFd> {
    // SAFETY: No memory is involved.
    cvt(unsafe { c::epoll_create1(0) })
}

/// epoll_ctl(2). fdinfo and epoll_wait(2) report `data`.
pub fn epoll_ctl(efd: RawFd, op: i32, fd: RawFd, events: u32, data: u64) -> io::Result<()> {
    let data = c::epoll_data { u64_: data };
    let mut event = c::epoll_event { events, data };
    // SAFETY: `event` is valid for the duration of the call.
    cvt(unsafe { c::epoll_ctl(efd, op, fd, &mut event) }).map(drop)
}

/// A line of `/proc/PID/fdinfo/EFD`: an entry of an interest list.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Listed {
    pub tfd: RawFd,
    pub data: u64,
}

/// Lists the entries of an epoll file, in the order of its fdinfo, the file at `path`.
pub fn list_entries(path: &str) -> io::Result<Vec<Listed>> {
    // tfd:        5 events:       19 data:                5  pos:0 ino:b sdev:f
    let parse = |line: &str| {
        let mut words = line.split_whitespace();
        let mut after = |key| words.find(|word| *word == key).and_then(|_| words.next());
        Some(Listed {
            tfd: after("tfd:")?.parse().ok()?,
            data: u64::from_str_radix(after("data:")?, 16).ok()?,
        })
    };
    fs::read_to_string(path)?
        .lines()
        .filter(|line| line.starts_with("tfd:"))
        .map(|line| parse(line).ok_or_else(|| io::Error::other(format!("fdinfo: {line}"))))
        .collect()
}

// --- kcmp(2) -------------------------------------------------------------------------------------

/// All that kcmp(2) may return: results, and negative errnos.
pub const ANSWERS: [(i32, &str); 10] = [
    (0, "equal"),
    (1, "less"),
    (2, "greater"),
    (-c::EPERM, "EPERM"),
    (-c::ESRCH, "ESRCH"),
    (-c::EFAULT, "EFAULT"),
    (-c::EBADF, "EBADF"),
    (-c::EINVAL, "EINVAL"),
    (-c::ENOENT, "ENOENT"),
    (-c::EOPNOTSUPP, "EOPNOTSUPP"),
];

/// A file of a process.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FileOf {
    pub pid: Pid,
    pub fd: RawFd,
}

/// An entry of an interest list, as `struct kcmp_epoll_slot` identifies it: by the fd under which
/// it was added, and the number of entries of that fd before it.
#[derive(Clone, Copy, Debug)]
pub struct EntryOf {
    pub epoll: FileOf,
    pub tfd: RawFd,
    pub toff: u32,
}

/// kcmp(2) with any arguments, whose bits are all passed to the kernel. Returns the result or a
/// negative errno.
pub fn kcmp_raw(pid1: u64, pid2: u64, kind: u64, idx1: u64, idx2: u64) -> i32 {
    // SAFETY: kcmp() writes nothing, and fails if it cannot read what `idx2` points at.
    let ret = unsafe { c::syscall(c::SYS_kcmp.into(), pid1, pid2, kind, idx1, idx2) };
    cvt(ret as i32).unwrap_or_else(|e| -errno(&e))
}

fn kcmp(a: FileOf, pid2: Pid, kind: c::kcmp_type, idx2: u64) -> io::Result<Ordering> {
    match kcmp_raw(a.pid as u64, pid2 as u64, kind.into(), a.fd as u64, idx2) {
        0 => Ok(Ordering::Equal),
        1 => Ok(Ordering::Less),
        2 => Ok(Ordering::Greater),
        result if result > 0 => Err(io::Error::other(format!("kcmp returned {result}"))),
        error => Err(io::Error::from_raw_os_error(-error)),
    }
}

/// Compares two files.
pub fn kcmp_files(a: FileOf, b: FileOf) -> io::Result<Ordering> {
    kcmp(a, b.pid, c::KCMP_FILE, b.fd as u64)
}

/// Compares a file with the target file of an entry.
pub fn kcmp_entry(file: FileOf, entry: EntryOf) -> io::Result<Ordering> {
    let slot = c::kcmp_epoll_slot {
        efd: entry.epoll.fd as u32,
        tfd: entry.tfd as u32,
        toff: entry.toff,
    };
    let pid2 = entry.epoll.pid;
    kcmp(file, pid2, c::KCMP_EPOLL_TFD, &raw const slot as u64)
}
