// SPDX-License-Identifier: GPL-2.0

//! A benchmark of kcmp(2), and of the other users of the interest list.
//!
//! The unit is a nanosecond of `CLOCK_MONOTONIC`. In a guest under QEMU's `-icount shift=0`, that
//! is one instruction.

mod files;

use files::{Pattern, close_all, open_eventfds};
use kcmp_epoll::*;
use lexopt::prelude::*;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::RawFd;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

const HELP: &str = "\
Measure kcmp(2), epoll_ctl(2), epoll_wait(2) and fdinfo, in nanoseconds per call.

Usage: kcmp_epoll_bench [--max N] [--seed N] [NAME...]

  --max N    measure with 1, 10, 100, ... entries, up to N (default 1000000)
  --seed N   seed of the random choices (default 1)
  NAME       run only the groups whose names begin with NAME: own, criu, two pids,
             lookup, toff, same fd, ctl, fdinfo, wait, hold

Prints a line for each result: name, number of entries, nanoseconds, separated by
tabs. Reports progress on stderr. Requires root, to raise the limits on open
files.
";

/// The fd of the epoll file.
const EPOLL: RawFd = 10;
/// The approximate number of calls in a measurement.
const CALLS: usize = 2000;
/// The maximum number of events for a call of epoll_wait(2).
const EVENTS: usize = 64;

/// The time now, in nanoseconds.
fn now() -> u64 {
    let mut ts = c::timespec::default();
    // SAFETY: `ts` is valid for writing.
    unsafe { c::clock_gettime(c::CLOCK_MONOTONIC, &mut ts) };
    ts.tv_sec as u64 * 1_000_000_000 + ts.tv_nsec as u64
}

/// Nanoseconds that `f` takes.
fn time(f: impl FnOnce() -> io::Result<()>) -> io::Result<u64> {
    let begin = now();
    f()?;
    Ok(now() - begin)
}

/// Repeats a run until half a second has been spent, at most 30 times. A run returns the
/// nanoseconds that it took.
///
/// The result of a measurement is its best run: one that no timer tick or other work of the kernel
/// interrupted. Runs over large interest lists are too long to escape these.
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

/// The best of several runs, in nanoseconds per call.
fn best(calls: usize, mut run: impl FnMut() -> io::Result<u64>) -> io::Result<f64> {
    let mut least = u64::MAX;
    repeat(|| {
        let spent = run()?;
        least = least.min(spent);
        Ok(spent)
    })?;
    Ok(least as f64 / calls as f64)
}

fn report(name: &str, entries: usize, value: f64) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{name}\t{entries}\t{value:.1}")?;
    out.flush()
}

/// Measures a call for each of `arguments`, one after the other.
fn measure<T: Copy>(
    name: &str,
    entries: usize,
    arguments: &[T],
    call: impl Fn(T) -> io::Result<()>,
) -> io::Result<()> {
    let value = best(arguments.len(), || {
        time(|| arguments.iter().try_for_each(|&argument| call(argument)))
    })?;
    report(name, entries, value)
}

/// The names on the command line.
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

/// Replaces the epoll file with a new one.
fn new_epoll() -> io::Result<()> {
    place(epoll_create()?, EPOLL)
}

fn ctl_all(op: i32, fds: &[RawFd]) -> io::Result<()> {
    fds.iter()
        .try_for_each(|&fd| epoll_ctl(EPOLL, op, fd, c::EPOLLIN, fd as u64))
}

/// Opens eventfds, and adds them to a new epoll file.
fn add_eventfds(entries: usize) -> io::Result<Vec<RawFd>> {
    new_epoll()?;
    let fds = open_eventfds(entries)?;
    ctl_all(c::EPOLL_CTL_ADD, &fds)?;
    Ok(fds)
}

/// Looks up entries of an epoll file of `pid2`, and compares them with `file` of `pid1`.
#[derive(Clone, Copy)]
struct Lookup {
    pid1: Pid,
    pid2: Pid,
    file: RawFd,
}

impl Lookup {
    /// Lookups of this process in itself.
    fn own(file: RawFd) -> Lookup {
        let pid = getpid();
        let (pid1, pid2) = (pid, pid);
        Lookup { pid1, pid2, file }
    }

    /// Looks up an entry, which has to exist if `there`, and to be missing otherwise.
    fn call(&self, tfd: RawFd, toff: u32, there: bool) -> io::Result<()> {
        let file = FileOf {
            pid: self.pid1,
            fd: self.file,
        };
        let epoll = FileOf {
            pid: self.pid2,
            fd: EPOLL,
        };
        match kcmp_entry(file, EntryOf { epoll, tfd, toff }) {
            Ok(_) if there => Ok(()),
            Err(e) if !there && errno(&e) == c::ENOENT => Ok(()),
            Ok(_) => Err(io::Error::other("found an entry that is not there")),
            Err(e) => Err(e),
        }
    }
}

/// Enough calls to average out noise, but few enough that walks over all entries do not take
/// minutes.
fn calls_for(entries: usize) -> usize {
    (CALLS * 1000 / entries).clamp(10, CALLS)
}

// --- Measurements --------------------------------------------------------------------------------

/// The calls of a process that compares its own files, of CRIU when it dumps one process, whose pid
/// it passes twice, and of a caller that compares two other processes.
fn bench_callers(wanted: &Wanted, rng: &mut Rng) -> Result<(), Failure> {
    const ENTRIES: usize = 500;

    let fds = add_eventfds(ENTRIES)?;
    let random: Vec<RawFd> = (0..CALLS).map(|_| rng.pick(&fds)).collect();
    let sleeper = || fork(|| sleep_until_killed().unwrap_or(1));
    let (us, one, two) = (getpid(), sleeper()?, sleeper()?);
    for (caller, pid1, pid2) in [("own", us, us), ("criu", one, one), ("two pids", one, two)] {
        if !wanted.wants(caller) {
            continue;
        }
        let file = FileOf {
            pid: pid1,
            fd: fds[0],
        };
        measure(&format!("{caller} KCMP_FILE"), ENTRIES, &random, |fd| {
            kcmp_files(file, FileOf { pid: pid2, fd }).map(drop)
        })?;
        measure(&format!("{caller} KCMP_VM"), ENTRIES, &random, |_| {
            let result = kcmp_raw(pid1 as u64, pid2 as u64, c::KCMP_VM.into(), 0, 0);
            cvt(result).map(drop)
        })?;
        let lookup = Lookup {
            pid1,
            pid2,
            file: fds[0],
        };
        measure(
            &format!("{caller} KCMP_EPOLL_TFD"),
            ENTRIES,
            &random,
            |fd| lookup.call(fd, 0, true),
        )?;
    }
    for pid in [one, two] {
        kill(pid)?;
        wait(pid)?;
    }
    Ok(close_all(&fds)?)
}

fn bench_lookup(entries: usize, rng: &mut Rng) -> io::Result<()> {
    let fds = add_eventfds(entries)?;
    let lookup = Lookup::own(fds[0]);
    let calls = calls_for(entries);

    let find = |fd| lookup.call(fd, 0, true);
    let random: Vec<RawFd> = (0..calls).map(|_| rng.pick(&fds)).collect();
    measure("lookup random", entries, &random, find)?;
    measure("lookup first", entries, &vec![fds[0]; calls], find)?;
    measure("lookup last", entries, &vec![fds[entries - 1]; calls], find)?;
    measure("lookup absent", entries, &vec![RawFd::MAX; calls], |fd| {
        lookup.call(fd, 0, false)
    })?;

    // The cost of comparing two files, without a lookup.
    let pid = getpid();
    let first = FileOf { pid, fd: fds[0] };
    measure("lookup floor", entries, &random, |fd| {
        kcmp_files(first, FileOf { pid, fd }).map(drop)
    })?;
    close_all(&fds)
}

/// Adds new files under one fd. Returns this fd, and the fds at which the files stay open.
fn add_sharing(count: usize) -> io::Result<(RawFd, Vec<RawFd>)> {
    let shared = eventfd()?;
    let spare = open_eventfds(count)?;
    for &fd in &spare {
        dup2(fd, shared)?;
        ctl_all(c::EPOLL_CTL_ADD, &[shared])?;
    }
    Ok((shared, spare))
}

/// Entries that share an fd, among `entries` others.
fn bench_toff(entries: usize) -> io::Result<()> {
    const SHARING: usize = 1000;

    let others = add_eventfds(entries)?;
    let (shared, spare) = add_sharing(SHARING)?;
    let lookup = Lookup::own(shared);
    let find = |toff| lookup.call(shared, toff, true);
    // Spread as many calls as are affordable evenly over the toffs.
    let calls = calls_for(entries).min(SHARING);
    let spread: Vec<u32> = (0..calls)
        .map(|i| (i * (SHARING - 1) / (calls - 1)) as u32)
        .collect();
    measure("toff 0 to 999", entries, &spread, find)?;
    measure("toff 0", entries, &vec![0; calls.min(100)], find)?;
    measure("toff 999", entries, &vec![999; calls.min(100)], find)?;
    close(shared)?;
    close_all(&spare)?;
    close_all(&others)
}

/// Looks up each toff in turn, three times each, as CRIU does. Returns nanoseconds per call.
///
/// Where a call walks `toff` entries, a full pass takes too long. Then measure some consecutive
/// toffs in the middle of each of five equal parts: the cost is linear in toff, so their average is
/// that of a full pass. The call before each part is not measured: on a kernel with a cursor, it
/// puts the cursor where the skipped calls would have left it.
fn in_order(entries: usize, find: impl Fn(usize) -> io::Result<()>) -> io::Result<f64> {
    const TIMES: usize = 3;
    const PARTS: usize = 5;
    /// The time that a pass may take, in nanoseconds.
    const AFFORDABLE: usize = 50_000_000;

    find(entries.saturating_sub(2))?;
    let last = time(|| find(entries - 1))?.max(1);
    let toffs = AFFORDABLE * 2 / (TIMES * last as usize);
    let (parts, length, rounds) = match toffs {
        toffs if toffs < entries => (PARTS, (toffs / PARTS).clamp(4, 1000).min(entries), 1),
        _ => (1, entries, CALLS.div_ceil(TIMES * entries)),
    };
    let toffs_of = |part: usize| -> Vec<usize> {
        let middle = entries * (2 * part + 1) / (2 * parts);
        let begin = middle.saturating_sub(length / 2).min(entries - length);
        let toffs = (0..rounds).flat_map(|_| begin..begin + length);
        toffs.flat_map(|toff| [toff; TIMES]).collect()
    };
    let parts: Vec<Vec<usize>> = (0..parts).map(toffs_of).collect();
    best(parts.iter().map(Vec::len).sum(), || {
        let mut spent = 0;
        for toffs in &parts {
            find(toffs[0].saturating_sub(1))?;
            spent += time(|| toffs.iter().try_for_each(|&toff| find(toff)))?;
        }
        Ok(spent)
    })
}

/// Entries that all share one fd.
fn bench_same_fd(entries: usize, rng: &mut Rng) -> io::Result<()> {
    new_epoll()?;
    let (shared, spare) = add_sharing(entries)?;
    let lookup = Lookup::own(shared);
    let find = |toff| lookup.call(shared, toff as u32, true);

    report("same fd in order", entries, in_order(entries, find)?)?;
    let random: Vec<usize> = (0..calls_for(entries))
        .map(|_| rng.below(entries))
        .collect();
    measure("same fd random", entries, &random, find)?;
    close(shared)?;
    close_all(&spare)
}

fn bench_ctl(pattern: Pattern, entries: usize, rng: &mut Rng) -> io::Result<()> {
    let (fds, others) = pattern.open(entries, rng)?;
    let rounds = CALLS.div_ceil(entries);
    let ops = [
        ("ADD", c::EPOLL_CTL_ADD),
        ("MOD", c::EPOLL_CTL_MOD),
        ("DEL", c::EPOLL_CTL_DEL),
    ];
    let mut least = [u64::MAX; 3];

    new_epoll()?;
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
        let value = *least as f64 / (rounds * entries) as f64;
        report(&format!("ctl {op} {}", pattern.name()), entries, value)?;
    }
    close_all(&fds)?;
    close_all(&others)
}

/// Measures nanoseconds per listed entry.
fn bench_fdinfo(entries: usize) -> io::Result<()> {
    let fds = add_eventfds(entries)?;
    let mut buffer = vec![0; 1 << 20];
    let rounds = CALLS.div_ceil(entries).min(100);
    let value = best(rounds * entries, || {
        time(|| {
            for _ in 0..rounds {
                let mut fdinfo = File::open(format!("/proc/self/fdinfo/{EPOLL}"))?;
                while fdinfo.read(&mut buffer)? > 0 {}
            }
            Ok(())
        })
    })?;
    report("fdinfo", entries, value)?;
    close_all(&fds)
}

/// Measures nanoseconds per event, with all entries ready.
fn bench_wait(entries: usize) -> io::Result<()> {
    let fds = add_eventfds(entries)?;
    fds.iter().try_for_each(|&fd| write_one(fd))?;
    let calls = 200;
    let expected = calls * entries.min(EVENTS);
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
    report("wait", entries, value)?;
    close_all(&fds)
}

/// Measures how long epoll_wait(2) takes at most while another process looks up a missing entry in
/// a loop. On an unpatched kernel, this walks all entries.
///
/// The owner of the interest list preempts all others when it wakes up, so it waits only for
/// ep->mtx. Other work of the kernel may happen to delay it. Thus the result is the median of five
/// maxima.
fn bench_hold(entries: usize) -> io::Result<()> {
    const MAXIMA: usize = 5;
    const WAITS: usize = 100;

    let fds = add_eventfds(entries)?;
    // epoll_wait() takes ep->mtx only if there are events.
    write_one(fds[0])?;
    let lookup = Lookup::own(fds[0]);
    let caller = fork(|| {
        if end_with_parent().is_ok() {
            while lookup.call(RawFd::MAX, 0, false).is_ok() {}
        }
        1
    })?;

    set_real_time(true)?;
    let mut maxima = [0; MAXIMA];
    let mut rng = Rng::new(1);
    for maximum in &mut maxima {
        for _ in 0..WAITS {
            // Wake up at a random point of a lookup.
            thread::sleep(Duration::from_nanos(
                2_000_000 + rng.below(1_000_000) as u64,
            ));
            let spent = time(|| epoll_wait::<EVENTS>(EPOLL, 0).map(drop))?;
            *maximum = spent.max(*maximum);
        }
    }
    maxima.sort_unstable();
    report("hold", entries, maxima[MAXIMA / 2] as f64)?;

    set_real_time(false)?;
    kill(caller)?;
    wait(caller)?;
    close_all(&fds)
}

/// Switches this process to `SCHED_FIFO`, or back to `SCHED_OTHER`.
fn set_real_time(on: bool) -> io::Result<()> {
    let (policy, sched_priority) = if on {
        (c::SCHED_FIFO, 1)
    } else {
        (c::SCHED_OTHER, 0)
    };
    let param = c::sched_param { sched_priority };
    // SAFETY: `param` is valid for the duration of the call.
    cvt(unsafe { c::sched_setscheduler(0, policy, &param) }).map(drop)
}

// --- The program ---------------------------------------------------------------------------------

fn run(Args { max, seed, wanted }: Args) -> Result<ExitCode, Failure> {
    let mut rng = Rng::new(seed);
    // A socket takes two fds, and a few other files are open.
    raise_limits((2 * max + 2000) as RawFd)?;
    bench_callers(&wanted, &mut rng)?;
    let mut entries = 1;
    while entries <= max {
        let begin = now();
        if wanted.wants("lookup") {
            bench_lookup(entries, &mut rng)?;
        }
        if wanted.wants("toff") {
            bench_toff(entries)?;
        }
        if wanted.wants("same fd") {
            bench_same_fd(entries, &mut rng)?;
        }
        if wanted.wants("ctl") {
            for pattern in Pattern::ALL {
                bench_ctl(pattern, entries, &mut rng)?;
            }
        }
        if wanted.wants("fdinfo") {
            bench_fdinfo(entries)?;
        }
        if wanted.wants("wait") {
            bench_wait(entries)?;
        }
        if wanted.wants("hold") {
            bench_hold(entries)?;
        }
        let seconds = (now() - begin) as f64 / 1e9;
        eprintln!("{entries} entries: done in {seconds:.1} s of CLOCK_MONOTONIC");
        entries *= 10;
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
    start_parsed(HELP, parse_args, run)
}
