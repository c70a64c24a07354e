// SPDX-License-Identifier: GPL-2.0

//! A benchmark of `KCMP_EPOLL_TFD`, and of what shares the interest set with it.
//!
//! The unit is a nanosecond of `CLOCK_MONOTONIC`. In a guest under QEMU's `-icount shift=0` that is
//! an instruction.

use kcmp_epoll::*;
use lexopt::prelude::*;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::RawFd;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

const HELP: &str = "\
Measure KCMP_EPOLL_TFD, epoll_ctl(2), epoll_wait(2) and fdinfo, in nanoseconds a call.

Usage: kcmp_epoll_bench [--max N] [--seed N] [NAME...]

  --max N    measure with 1, 10, 100, ... targets, N at most (default 1000000)
  --seed N   of the random choices (default 1)
  NAME       only what begins so: lookup, toff, ctl, fdinfo, wait, hold

Prints a line for each result: name, number of targets, nanoseconds, separated by tabs. Says on
standard error what it is at. Needs to be root, for more files than usual.
";

/// Where the epoll set is, all the time.
const EPOLL: RawFd = 10;
/// A measurement does about this many calls.
const CALLS: usize = 2000;
/// A call of epoll_wait(2) asks for as many events at most.
const EVENTS: usize = 64;

/// The time now, in nanoseconds.
fn now() -> u64 {
    let mut ts = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `ts` is valid for writing.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut ts) };
    ts.tv_sec as u64 * 1_000_000_000 + ts.tv_nsec as u64
}

/// Nanoseconds that `f` takes.
fn time(f: impl FnOnce() -> io::Result<()>) -> io::Result<u64> {
    let begin = now();
    f()?;
    Ok(now() - begin)
}

/// Does as many runs as take half a second of the clock, 30 at most. A run tells how many
/// nanoseconds it took.
///
/// A result is the best of all runs: one in which no tick of the clock, or other work of the
/// kernel, fell. Runs over large sets are so long that all have their share of that.
fn repeat(mut run: impl FnMut() -> io::Result<u64>) -> io::Result<()> {
    let mut spent = 0;
    for _ in 0..30 {
        spent += run()?;
        if spent >= 500_000_000 {
            break;
        }
    }
    Ok(())
}

/// The best of several runs, in nanoseconds a call.
fn best(calls: usize, mut run: impl FnMut() -> io::Result<u64>) -> io::Result<f64> {
    let mut least = u64::MAX;
    repeat(|| {
        let spent = run()?;
        least = least.min(spent);
        Ok(spent)
    })?;
    Ok(least as f64 / calls as f64)
}

fn report(name: &str, targets: usize, value: f64) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{name}\t{targets}\t{value:.1}")?;
    out.flush()
}

/// Whether the user asked for what is named so.
struct Wanted(Vec<String>);

impl Wanted {
    fn wants(&self, name: &str) -> bool {
        self.0.is_empty()
            || self
                .0
                .iter()
                .any(|prefix| name.starts_with(prefix.as_str()))
    }
}

// --- Files ---------------------------------------------------------------------------------------

/// Puts a new, empty epoll set in place of the one before.
fn new_set() -> io::Result<()> {
    place(epoll_create()?, EPOLL)
}

/// How the files of a set come by their numbers.
#[derive(Clone, Copy)]
enum Pattern {
    /// Eventfds, opened one after the other, and used in the order of their numbers.
    Ascending,
    /// The same, used from the last to the first.
    Descending,
    /// Sockets from accept(), many of them closed and replaced: number, address and order of use
    /// have nothing to do with each other.
    Sockets,
}

impl Pattern {
    const ALL: [Pattern; 3] = [Pattern::Ascending, Pattern::Descending, Pattern::Sockets];

    fn name(self) -> &'static str {
        match self {
            Pattern::Ascending => "eventfds ascending",
            Pattern::Descending => "eventfds descending",
            Pattern::Sockets => "sockets random",
        }
    }

    /// Opens `count` files. Gives those to use, in order, and those that only need to stay open.
    fn open(self, count: usize, rng: &mut fastrand::Rng) -> io::Result<(Vec<RawFd>, Vec<RawFd>)> {
        match self {
            Pattern::Ascending => Ok((open_eventfds(count)?, Vec::new())),
            Pattern::Descending => {
                let mut fds = open_eventfds(count)?;
                fds.reverse();
                Ok((fds, Vec::new()))
            }
            Pattern::Sockets => open_sockets(count, rng),
        }
    }
}

fn open_eventfds(count: usize) -> io::Result<Vec<RawFd>> {
    (0..count).map(|_| eventfd()).collect()
}

fn close_all(fds: &[RawFd]) -> io::Result<()> {
    fds.iter().try_for_each(|&fd| close(fd))
}

/// Sockets that a listener has accepted, and their other ends.
fn open_sockets(count: usize, rng: &mut fastrand::Rng) -> io::Result<(Vec<RawFd>, Vec<RawFd>)> {
    // SAFETY: No memory is involved.
    let socket = || cvt(unsafe { libc::socket(libc::AF_UNIX, libc::SOCK_STREAM, 0) });

    let listener = socket()?;
    let mut address = libc::sockaddr_un {
        sun_family: libc::AF_UNIX as _,
        sun_path: [0; 108],
    };
    // A name that is not in the file system begins with a zero.
    address.sun_path[1] = b'k' as _;
    let length = (size_of::<libc::sa_family_t>() + 2) as libc::socklen_t;
    let pointer = (&raw const address).cast();
    // SAFETY: `pointer` is valid for reading `length` bytes.
    cvt(unsafe { libc::bind(listener, pointer, length) })?;
    // SAFETY: No memory is involved.
    cvt(unsafe { libc::listen(listener, 16) })?;

    let connect = || -> io::Result<(RawFd, RawFd)> {
        let client = socket()?;
        // SAFETY: `pointer` is valid for reading `length` bytes.
        cvt(unsafe { libc::connect(client, pointer, length) })?;
        // SAFETY: No address is asked for.
        let accepted =
            cvt(unsafe { libc::accept(listener, std::ptr::null_mut(), std::ptr::null_mut()) })?;
        Ok((accepted, client))
    };
    let mut pairs = Vec::new();
    for _ in 0..count {
        pairs.push(connect()?);
    }
    // Let go of half of them, in any order, and accept as many again.
    rng.shuffle(&mut pairs);
    for (accepted, client) in pairs.drain(count / 2..) {
        close(accepted)?;
        close(client)?;
    }
    while pairs.len() < count {
        pairs.push(connect()?);
    }
    rng.shuffle(&mut pairs);
    close(listener)?;
    Ok(pairs.into_iter().unzip())
}

// --- What is measured ----------------------------------------------------------------------------

fn ctl_all(op: libc::c_int, fds: &[RawFd]) -> io::Result<()> {
    fds.iter()
        .try_for_each(|&fd| epoll_ctl(EPOLL, op, fd, libc::EPOLLIN, fd as u64))
}

/// Asks for the targets with these numbers, and expects them to be there, or not.
struct Asker {
    pid: Pid,
    file: RawFd,
}

impl Asker {
    fn ask(&self, tfd: RawFd, toff: u32, there: bool) -> io::Result<()> {
        let (pid, fd) = (self.pid, self.file);
        let epoll = FileOf { pid, fd: EPOLL };
        match kcmp_target(FileOf { pid, fd }, TargetOf { epoll, tfd, toff }) {
            Ok(_) if there => Ok(()),
            Err(e) if !there && e.raw_os_error() == Some(libc::ENOENT) => Ok(()),
            Ok(_) => Err(io::Error::other("found a target that is not there")),
            Err(e) => Err(e),
        }
    }
}

/// Enough calls for a sum without noise, and not so many that a set which is walked takes minutes.
fn calls_for(targets: usize) -> usize {
    (CALLS * 1000 / targets).clamp(10, CALLS)
}

fn bench_lookup(targets: usize, rng: &mut fastrand::Rng) -> io::Result<()> {
    new_set()?;
    let fds = open_eventfds(targets)?;
    ctl_all(libc::EPOLL_CTL_ADD, &fds)?;
    let pid = getpid();
    let asker = Asker { pid, file: fds[0] };
    let calls = calls_for(targets);

    let measure = |name: &str, tfds: &[RawFd], there: bool| -> io::Result<()> {
        let value = best(tfds.len(), || {
            time(|| tfds.iter().try_for_each(|&tfd| asker.ask(tfd, 0, there)))
        })?;
        report(name, targets, value)
    };
    let random: Vec<RawFd> = (0..calls).map(|_| *rng.choice(&fds).unwrap()).collect();
    measure("lookup random", &random, true)?;
    measure("lookup first", &vec![fds[0]; calls], true)?;
    measure("lookup last", &vec![fds[targets - 1]; calls], true)?;
    measure("lookup absent", &vec![RawFd::MAX; calls], false)?;

    // What any kcmp costs that compares two files.
    let files: Vec<FileOf> = random.iter().map(|&fd| FileOf { pid, fd }).collect();
    let value = best(calls, || {
        time(|| {
            files
                .iter()
                .try_for_each(|&file| kcmp_files(files[0], file).map(drop))
        })
    })?;
    report("lookup floor", targets, value)?;

    close_all(&fds)
}

/// Many targets with one number, in a set that has `targets` others.
fn bench_toff(targets: usize) -> io::Result<()> {
    const SHARING: u32 = 1000;

    new_set()?;
    let others = open_eventfds(targets)?;
    ctl_all(libc::EPOLL_CTL_ADD, &others)?;
    let number = eventfd()?;
    let mut kept = Vec::new();
    for _ in 0..SHARING {
        let fd = eventfd()?;
        dup2(fd, number)?;
        ctl_all(libc::EPOLL_CTL_ADD, &[number])?;
        kept.push(fd);
    }
    let asker = Asker {
        pid: getpid(),
        file: number,
    };
    // As many as a set that is walked allows for, evenly spread.
    let calls = calls_for(targets).min(SHARING as usize);
    let measure = |name: &str, toffs: &[u32]| -> io::Result<()> {
        let value = best(toffs.len(), || {
            time(|| {
                toffs
                    .iter()
                    .try_for_each(|&toff| asker.ask(number, toff, true))
            })
        })?;
        report(name, targets, value)
    };
    let spread: Vec<u32> = (0..calls)
        .map(|i| (i * (SHARING as usize - 1) / (calls - 1)) as u32)
        .collect();
    measure("toff 0 to 999", &spread)?;
    measure("toff 0", &vec![0; calls.min(100)])?;
    measure("toff 999", &vec![SHARING - 1; calls.min(100)])?;
    close(number)?;
    close_all(&kept)?;
    close_all(&others)
}

fn bench_ctl(pattern: Pattern, targets: usize, rng: &mut fastrand::Rng) -> io::Result<()> {
    let (fds, others) = pattern.open(targets, rng)?;
    let rounds = CALLS.div_ceil(targets);
    let ops = [
        ("ADD", libc::EPOLL_CTL_ADD),
        ("MOD", libc::EPOLL_CTL_MOD),
        ("DEL", libc::EPOLL_CTL_DEL),
    ];
    let mut least = [u64::MAX; 3];

    new_set()?;
    repeat(|| {
        let mut spent = [0; 3];
        for _ in 0..rounds {
            for (spent, (_, op)) in spent.iter_mut().zip(ops) {
                *spent += time(|| ctl_all(op, &fds))?;
            }
        }
        for (least, spent) in least.iter_mut().zip(spent) {
            *least = spent.min(*least);
        }
        Ok(spent.iter().sum())
    })?;
    for (least, (op, _)) in least.iter().zip(ops) {
        let value = *least as f64 / (rounds * targets) as f64;
        report(&format!("ctl {op} {}", pattern.name()), targets, value)?;
    }
    close_all(&fds)?;
    close_all(&others)
}

/// Nanoseconds for each target that is listed.
fn bench_fdinfo(targets: usize) -> io::Result<()> {
    new_set()?;
    let fds = open_eventfds(targets)?;
    ctl_all(libc::EPOLL_CTL_ADD, &fds)?;
    let mut buffer = vec![0; 1 << 20];
    let rounds = CALLS.div_ceil(targets).min(100);
    let value = best(rounds * targets, || {
        time(|| {
            for _ in 0..rounds {
                let mut fdinfo = File::open(format!("/proc/self/fdinfo/{EPOLL}"))?;
                while fdinfo.read(&mut buffer)? > 0 {}
            }
            Ok(())
        })
    })?;
    report("fdinfo", targets, value)?;
    close_all(&fds)
}

/// Nanoseconds for each event, in a set of which each target is ready.
fn bench_wait(targets: usize) -> io::Result<()> {
    new_set()?;
    let fds = open_eventfds(targets)?;
    for &fd in &fds {
        write_one(fd)?;
    }
    ctl_all(libc::EPOLL_CTL_ADD, &fds)?;
    let calls = 200;
    let expected = calls * targets.min(EVENTS);
    let value = best(expected, || {
        time(|| {
            let mut events = 0;
            for _ in 0..calls {
                events += epoll_wait::<EVENTS>(EPOLL, 0)?;
            }
            if events == expected {
                Ok(())
            } else {
                Err(io::Error::other(format!("{events} events, not {expected}")))
            }
        })
    })?;
    report("wait", targets, value)?;
    close_all(&fds)
}

/// The longest that epoll_wait(2) of the owner takes while another process asks for the last target
/// without pause.
///
/// The owner runs before all others when it wants to: what it waits for is the lock of the set.
fn bench_hold(targets: usize) -> io::Result<()> {
    const WAITS: usize = 300;

    new_set()?;
    let fds = open_eventfds(targets)?;
    ctl_all(libc::EPOLL_CTL_ADD, &fds)?;
    // Only then does epoll_wait() take the lock.
    write_one(fds[0])?;
    let owner = getpid();
    let asker = fork(|| {
        let asker = Asker {
            pid: owner,
            file: fds[0],
        };
        if end_with_parent().is_ok() {
            while asker.ask(RawFd::MAX, 0, false).is_ok() {}
        }
        1
    })?;

    set_real_time(true)?;
    let mut longest = 0;
    let mut rng = fastrand::Rng::with_seed(1);
    for _ in 0..WAITS {
        // Wakes up anywhere in a lookup.
        thread::sleep(Duration::from_nanos(rng.u64(2_000_000..3_000_000)));
        longest = longest.max(time(|| epoll_wait::<EVENTS>(EPOLL, 0).map(drop))?);
    }
    report("hold", targets, longest as f64)?;

    set_real_time(false)?;
    kill(asker)?;
    wait(asker)?;
    close_all(&fds)
}

fn run(Args { max, seed, wanted }: Args) -> Result<ExitCode, Failure> {
    let mut rng = fastrand::Rng::with_seed(seed);
    // The sockets have two ends, and there are a few files besides.
    raise_limits((2 * max + 2000) as RawFd)?;
    new_set()?;
    let mut targets = 1;
    while targets <= max {
        let begin = now();
        if wanted.wants("lookup") {
            bench_lookup(targets, &mut rng)?;
        }
        if wanted.wants("toff") {
            bench_toff(targets)?;
        }
        for pattern in Pattern::ALL {
            if wanted.wants("ctl") {
                bench_ctl(pattern, targets, &mut rng)?;
            }
        }
        if wanted.wants("fdinfo") {
            bench_fdinfo(targets)?;
        }
        if wanted.wants("wait") {
            bench_wait(targets)?;
        }
        if wanted.wants("hold") {
            bench_hold(targets)?;
        }
        let seconds = (now() - begin) as f64 / 1e9;
        eprintln!("{targets} targets: done in {seconds:.1} s of the clock");
        targets *= 10;
    }
    Ok(ExitCode::SUCCESS)
}

struct Args {
    max: usize,
    seed: u64,
    wanted: Wanted,
}

fn parse_args(parser: &mut lexopt::Parser) -> Result<Args, lexopt::Error> {
    let mut args = Args {
        max: 1_000_000,
        seed: 1,
        wanted: Wanted(Vec::new()),
    };
    while let Some(arg) = parser.next()? {
        match arg {
            Long("max") => args.max = parser.value()?.parse()?,
            Long("seed") => args.seed = parser.value()?.parse()?,
            Value(name) => args.wanted.0.push(name.string()?),
            _ => return Err(arg.unexpected()),
        }
    }
    Ok(args)
}

fn main() -> ExitCode {
    start(HELP, parse_args, run)
}
