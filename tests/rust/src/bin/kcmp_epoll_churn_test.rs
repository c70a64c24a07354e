// SPDX-License-Identifier: GPL-2.0

//! `KCMP_EPOLL_TFD` while processes, files and interest lists come and go.
//!
//! Workers, of several threads each, do random operations on epoll files and others that they
//! share: open, dup3, close, epoll_ctl, epoll_wait, fdinfo, files sent over unix sockets, fork,
//! exec, exit. Callers call kcmp() on them in a loop. A closer has entries that share an fd, and
//! closes and replaces their files and the epoll file, while walkers look them up in ascending
//! order of toff. The main process kills any of them at any time, and starts another one in its
//! place.
//!
//! The expected results are not known here. The test checks that kcmp() returns only results that
//! it may return, that all processes end, and that nothing leaks. Other bugs are for the kernel's
//! own checks (KASAN, KCSAN, lockdep) to find.

use kcmp_epoll::*;
use std::cell::OnceCell;
use std::ffi::CStr;
use std::io::{self, Write};
use std::ops::Range;
use std::os::fd::RawFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitCode, ExitStatus};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

const HELP: &str = "\
Call KCMP_EPOLL_TFD while processes, files and interest lists come and go.

Usage: kcmp_epoll_churn_test [--seconds N] [--seed N]

  --seconds N  duration (default 20)
  --seed N     seed of the operations, which is printed (default: a new one); it
               does not determine their timing

Has to be started by root. Prints TAP.
";
/// With this argument, the program only sleeps for a moment.
const IDLE: &CStr = c"--idle";

/// The fds of the operations. Epoll files are mostly in the first range, and shared by all
/// processes when they start. Other files are mostly in the second.
const EPOLLS: Range<RawFd> = 100..104;
const OTHERS: Range<RawFd> = 104..116;
/// Pairs of sockets in which files are in flight.
const MAILBOXES: [[RawFd; 2]; 2] = [[60, 61], [62, 63]];

/// The epoll file of the closer, the fd that its entries share, and the fds at which their files
/// stay open.
const CLOSERS_EPOLL: RawFd = 120;
const SHARED: RawFd = 121;
const SPARE: Range<RawFd> = 122..154;

const WORKERS: usize = 4;
const THREADS: usize = 3;
const CALLERS: usize = 3;
const WALKERS: usize = 2;

/// Processes by index: workers come first, then the closer, callers and walkers.
const CLOSER: usize = WORKERS;
const PROCESSES: usize = WORKERS + 1 + CALLERS + WALKERS;

/// The maximum number of operations of a thread of a worker, and of a process that it has forked.
const LIFE: usize = 20_000;
const LIFE_OF_CHILD: usize = 500;

/// How long it may take for all processes to end, and for the kernel to free what they had.
const PATIENCE: Duration = Duration::from_secs(60);

// --- What all processes share --------------------------------------------------------------------

#[derive(Clone, Copy, Debug)]
enum Op {
    Open,
    Dup,
    Close,
    Add,
    Mod,
    Del,
    Wait,
    Write,
    Fdinfo,
    Send,
    Receive,
    Fork,
    Exec,
    Exit,
    Leave,
    Kill,
}

/// The weight of each operation. Those that end a thread come last in its life, and only the main
/// process kills.
const OPS: [(Op, usize); 16] = [
    (Op::Open, 160),
    (Op::Dup, 60),
    (Op::Close, 60),
    (Op::Add, 300),
    (Op::Mod, 80),
    (Op::Del, 60),
    (Op::Wait, 60),
    (Op::Write, 60),
    (Op::Fdinfo, 30),
    (Op::Send, 40),
    (Op::Receive, 40),
    (Op::Fork, 1),
    (Op::Exec, 0),
    (Op::Exit, 0),
    (Op::Leave, 0),
    (Op::Kill, 0),
];

/// Success, and all errors that the operations may return.
const RESULTS: [(i32, &str); 10] = [
    (0, "done"),
    (c::EBADF, "EBADF"),
    (c::EEXIST, "EEXIST"),
    (c::ENOENT, "ENOENT"),
    (c::EINVAL, "EINVAL"),
    (c::ELOOP, "ELOOP"),
    (c::EAGAIN, "EAGAIN"),
    (c::EPIPE, "EPIPE"),
    (c::ECONNRESET, "ECONNRESET"),
    (c::ESRCH, "ESRCH"),
];

/// The tasks whose pids callers pass: the threads of each worker, the last process that it has
/// forked, all other processes, and the main process.
const TASKS_OF_WORKER: usize = THREADS + 1;
const TASKS: usize = WORKERS * TASKS_OF_WORKER + (PROCESSES - WORKERS) + 1;

/// The layout of the shared words: a count for each result of each operation, for each result of
/// kcmp(), and for each result that walkers get; the pids of the tasks; a flag to stop; an
/// operation and its error, if that is not in RESULTS.
const ANSWERED: usize = OPS.len() * RESULTS.len();
const WALKED: usize = ANSWERED + ANSWERS.len();
const PIDS: usize = WALKED + ANSWERS.len();
const STOP: usize = PIDS + TASKS;
const UNKNOWN: usize = STOP + 1;
type Shared = [AtomicU64; UNKNOWN + 1];

fn stopped(shared: &Shared) -> bool {
    shared[STOP].load(Relaxed) != 0
}

/// The index of the word that counts a result of an operation.
fn place_of(op: Op, result: usize) -> usize {
    op as usize * RESULTS.len() + result
}

fn count(shared: &Shared, op: Op, result: io::Result<()>) {
    let errno = result.map_or_else(|e| errno(&e), |()| 0);
    match RESULTS.iter().position(|(known, _)| *known == errno) {
        Some(result) => shared[place_of(op, result)].fetch_add(1, Relaxed),
        None => shared[UNKNOWN].swap((op as u64) << 32 | errno as u32 as u64, Relaxed),
    };
}

/// The fd of an epoll file, mostly.
fn draw_epoll(rng: &mut Rng) -> RawFd {
    match rng.below(12) {
        0 => rng.fd(OTHERS),
        _ => rng.fd(EPOLLS),
    }
}

/// The fd of another file, mostly.
fn draw_other(rng: &mut Rng) -> RawFd {
    match rng.below(12) {
        0 => rng.fd(EPOLLS),
        _ => rng.fd(OTHERS),
    }
}

/// The pid of any task.
fn draw_pid(shared: &Shared, rng: &mut Rng) -> u64 {
    shared[PIDS + rng.below(TASKS)].load(Relaxed)
}

fn publish(shared: &Shared, task: usize) {
    // SAFETY: No memory is involved.
    let tid = unsafe { c::gettid() };
    shared[PIDS + task].store(tid as u64, Relaxed);
}

// --- Workers -------------------------------------------------------------------------------------

/// A thread of a worker, or a process that it has forked.
///
/// It allocates nothing, and takes no lock: the child of a multithreaded process must not. It opens
/// no more files than it may, and its sockets are never at end of file, so that the library never
/// has to allocate an error.
struct Worker {
    shared: &'static Shared,
    rng: Rng,
    /// The first of the tasks of this worker.
    task: usize,
}

impl Worker {
    fn epoll(&mut self) -> RawFd {
        draw_epoll(&mut self.rng)
    }

    fn other(&mut self) -> RawFd {
        draw_other(&mut self.rng)
    }

    fn open(&mut self) -> io::Result<()> {
        let at = self.other();
        match self.rng.below(8) {
            0 => place(epoll_create()?, self.epoll()),
            1 => place(epoll_create()?, at),
            2 | 3 => place_pair(c::SOCK_STREAM | c::SOCK_NONBLOCK, [at, self.other()]),
            _ => place(eventfd()?, at),
        }
    }

    fn dup(&mut self) -> io::Result<()> {
        let (from, to) = (self.other(), self.other());
        let flags = self.rng.pick(&[0, c::O_CLOEXEC]);
        // SAFETY: No memory is involved.
        cvt(unsafe { c::dup3(from, to, flags) }).map(drop)
    }

    fn ctl(&mut self, op: i32) -> io::Result<()> {
        let mode = self.rng.pick(&[0, c::EPOLLET, c::EPOLLONESHOT]);
        let events = c::EPOLLIN | mode;
        epoll_ctl(self.epoll(), op, self.other(), events, 0)
    }

    fn wait(&mut self) -> io::Result<()> {
        let timeout = self.rng.pick(&[0, 1]);
        epoll_wait::<8>(self.epoll(), timeout).map(drop)
    }

    /// Reads the fdinfo of an epoll file of any task.
    fn fdinfo(&mut self) -> io::Result<()> {
        let mut path = [0u8; 64];
        let pid = draw_pid(self.shared, &mut self.rng);
        write!(&mut path[..63], "/proc/{pid}/fdinfo/{}", self.epoll())?;
        // SAFETY: `path` is a string that ends with a null byte.
        let fd = cvt(unsafe { c::open(path.as_ptr().cast(), c::O_RDONLY) })?;
        let mut text = [0u8; 4096];
        // SAFETY: `text` is valid for writing.
        let got = cvt(unsafe { c::read(fd, text.as_mut_ptr().cast(), text.len()) } as i32);
        close(fd)?;
        got.map(drop)
    }

    /// Forks a process that performs random operations, too.
    fn fork(&mut self) -> io::Result<()> {
        let child = Worker {
            rng: Rng::new(self.rng.word()),
            ..*self
        };
        // SAFETY: This process may have other threads. The child allocates nothing and takes no
        // lock, see `Worker`.
        match cvt(unsafe { c::fork() })? {
            0 => {
                publish(child.shared, child.task + THREADS);
                child.live(LIFE_OF_CHILD);
                exit_at_once(0)
            }
            _ => Ok(()),
        }
    }

    fn perform(&mut self, op: Op) -> io::Result<()> {
        let [to, from] = self.rng.pick(&MAILBOXES);
        match op {
            Op::Open => self.open(),
            Op::Dup => self.dup(),
            Op::Close => close(self.other()),
            Op::Add => self.ctl(c::EPOLL_CTL_ADD),
            Op::Mod => self.ctl(c::EPOLL_CTL_MOD),
            Op::Del => self.ctl(c::EPOLL_CTL_DEL),
            Op::Wait => self.wait(),
            Op::Write => write_one(self.other()),
            Op::Fdinfo => self.fdinfo(),
            Op::Send => send_file(to, self.other()),
            Op::Receive => place(receive_file(from)?, self.other()),
            Op::Fork => self.fork(),
            Op::Exec => Err(exec_again(IDLE)),
            Op::Exit => exit_at_once(0),
            Op::Leave => Ok(()),
            Op::Kill => unreachable!(),
        }
    }

    /// Draws an operation, except those that end a life.
    fn draw(&mut self) -> Op {
        let all: usize = OPS.iter().map(|(_, weight)| weight).sum();
        let mut at = self.rng.below(all);
        for (op, weight) in OPS {
            if at < weight {
                return op;
            }
            at -= weight;
        }
        unreachable!()
    }

    /// Performs random operations for a while. Returns if only the thread is to end.
    fn live(mut self, life: usize) {
        for _ in 0..self.rng.below(life) {
            if stopped(self.shared) {
                return;
            }
            let op = self.draw();
            let result = self.perform(op);
            count(self.shared, op, result);
        }
        let end = self.rng.pick(&[Op::Exec, Op::Exit, Op::Leave]);
        // The first two of them do not return, if they succeed.
        count(self.shared, end, Ok(()));
        if let Err(e) = self.perform(end) {
            count(self.shared, end, Err(e));
        }
    }
}

/// The main function of a worker. Its main thread may end before the others.
fn work(shared: &'static Shared, task: usize, mut rng: Rng) -> i32 {
    if disown_children().is_err() {
        return 1;
    }
    let mut live = |thread| {
        let rng = Rng::new(rng.word());
        move || {
            publish(shared, task + thread);
            Worker { shared, rng, task }.live(LIFE);
        }
    };
    for thread in 1..THREADS {
        thread::spawn(live(thread));
    }
    live(0)();
    // SAFETY: Ends this thread. The others have borrowed nothing from it.
    unsafe { c::syscall(c::SYS_exit.into(), 0) };
    unreachable!()
}

// --- Callers -------------------------------------------------------------------------------------

/// Addresses from which no slot can be read.
const BAD: [u64; 4] = [0, 8, 1 << 63, u64::MAX - 3];

/// Counts a result of kcmp(). Fails if kcmp() may not return it.
fn count_answer(shared: &Shared, counts: usize, answer: i32) -> Result<(), Failure> {
    let known = ANSWERS.iter().position(|(known, _)| *known == answer);
    let known = known.ok_or_else(|| format!("kcmp() returns {answer}"))?;
    shared[counts + known].fetch_add(1, Relaxed);
    Ok(())
}

/// The main loop of a caller: calls kcmp() with tasks, fds and slots that are mostly valid.
fn call(shared: &'static Shared, mut rng: Rng) -> Result<(), Failure> {
    while !stopped(shared) {
        let pid2 = draw_pid(shared, &mut rng);
        let pid1 = match rng.below(4) {
            0 => pid2,
            _ => draw_pid(shared, &mut rng),
        };
        let slot = c::kcmp_epoll_slot {
            efd: draw_epoll(&mut rng) as u32,
            tfd: draw_other(&mut rng) as u32,
            toff: rng.pick(&[0, 0, 0, 1, 2, u32::MAX]),
        };
        let idx1 = match rng.below(2) {
            0 => slot.tfd as u64,
            _ => draw_other(&mut rng) as u64,
        };
        let bad = rng.below(64) == 0;
        let at = if bad {
            rng.pick(&BAD)
        } else {
            &raw const slot as u64
        };

        let answer = kcmp_raw(pid1, pid2, c::KCMP_EPOLL_TFD.into(), idx1, at);
        ensure!(
            answer == -c::ESRCH || bad == (answer == -c::EFAULT),
            "kcmp({pid1}, {pid2}, .., {idx1}, {at:#x} {slot:?}) returns {answer}"
        );
        count_answer(shared, ANSWERED, answer)?;
    }
    Ok(())
}

/// The main loop of the closer: drops the last reference to files whose entries share an fd, adds
/// others, and now and then replaces the epoll file.
fn close_and_open(shared: &'static Shared, mut rng: Rng) -> Result<(), Failure> {
    place(epoll_create()?, CLOSERS_EPOLL)?;
    while !stopped(shared) {
        if rng.below(1000) == 0 {
            place(epoll_create()?, CLOSERS_EPOLL)?;
        }
        let spare = rng.fd(SPARE);
        place(eventfd()?, spare)?;
        dup2(spare, SHARED)?;
        epoll_ctl(CLOSERS_EPOLL, c::EPOLL_CTL_ADD, SHARED, c::EPOLLIN, 0)?;
        close(SHARED)?;
    }
    Ok(())
}

/// The main loop of a walker: looks up the entries of the closer in ascending order of toff, each a
/// random number of times.
fn walk(shared: &'static Shared, mut rng: Rng) -> Result<(), Failure> {
    let mut toff = 0;
    while !stopped(shared) {
        let closer = shared[PIDS + task_of(CLOSER)].load(Relaxed);
        let slot = c::kcmp_epoll_slot {
            efd: CLOSERS_EPOLL as u32,
            tfd: SHARED as u32,
            toff,
        };
        let (idx1, slot) = (rng.fd(SPARE) as u64, &raw const slot as u64);
        let answer = kcmp_raw(closer, closer, c::KCMP_EPOLL_TFD.into(), idx1, slot);
        count_answer(shared, WALKED, answer)?;
        match answer {
            0.. => toff += u32::from(rng.below(2) == 0),
            // The file is not open, which says nothing about the entry.
            error if error == -c::EBADF => {}
            _ => toff = 0,
        }
    }
    Ok(())
}

// --- The main process ----------------------------------------------------------------------------

/// The index of the task of a process; for a worker, of its first task.
fn task_of(process: usize) -> usize {
    match process.checked_sub(WORKERS) {
        None => process * TASKS_OF_WORKER,
        Some(other) => WORKERS * TASKS_OF_WORKER + other,
    }
}

/// Starts a process.
fn start_process(shared: &'static Shared, process: usize, rng: &mut Rng) -> io::Result<Pid> {
    let (task, rng) = (task_of(process), Rng::new(rng.word()));
    fork(|| {
        if end_with_parent().is_err() {
            return 1;
        }
        if process < WORKERS {
            return work(shared, task, rng);
        }
        publish(shared, task);
        report(|| match process - CLOSER {
            0 => close_and_open(shared, rng),
            1..=CALLERS => call(shared, rng),
            _ => walk(shared, rng),
        })
    })
}

/// Reaps a child, or an orphaned descendant. Returns its pid and status, or `None` if none has
/// ended.
fn reap() -> io::Result<Option<(Pid, ExitStatus)>> {
    let mut status = 0;
    // SAFETY: `status` is valid for the duration of the call.
    let pid = cvt(unsafe { c::waitpid(-1, &mut status, c::WNOHANG) })?;
    Ok((pid > 0).then(|| (pid, ExitStatus::from_raw(status))))
}

/// Checks how a process has ended.
fn check_end(pid: Pid, status: ExitStatus) -> Result<(), Failure> {
    let killed = status.signal() == Some(c::SIGKILL);
    ensure!(killed || status.success(), "process {pid}: {status}");
    Ok(())
}

/// Starts processes, kills them at random, and starts others in their place.
fn rule(
    shared: &'static Shared,
    pids: &mut Vec<Pid>,
    rng: &mut Rng,
    time: Duration,
) -> Result<(), Failure> {
    for process in 0..PROCESSES {
        pids.push(start_process(shared, process, rng)?);
    }
    let begin = Instant::now();
    while begin.elapsed() < time {
        thread::sleep(Duration::from_millis(rng.below(50) as u64));
        // Not reaped yet: the pid cannot have been reused.
        count(shared, Op::Kill, kill(pids[rng.below(PROCESSES)]));
        while let Some((pid, status)) = reap()? {
            check_end(pid, status)?;
            if let Some(process) = pids.iter().position(|p| *p == pid) {
                pids[process] = start_process(shared, process, rng)?;
            }
        }
    }
    Ok(())
}

/// Waits until all processes have ended.
fn end_all(shared: &Shared) -> Result<(), Failure> {
    shared[STOP].store(1, Relaxed);
    let begin = Instant::now();
    loop {
        match reap() {
            Ok(Some((pid, status))) => check_end(pid, status)?,
            Ok(None) => {
                ensure!(begin.elapsed() < PATIENCE, "processes do not end");
                thread::sleep(Duration::from_millis(1));
            }
            Err(e) if errno(&e) == c::ECHILD => return Ok(()),
            Err(e) => return Err(e.into()),
        }
    }
}

/// Churns for a while, and closes all files.
fn churn(shared: &'static Shared, rng: &mut Rng, time: Duration) -> Result<(), Failure> {
    for mailbox in MAILBOXES {
        place_pair(c::SOCK_DGRAM | c::SOCK_NONBLOCK, mailbox)?;
    }
    for epoll in EPOLLS {
        place(epoll_create()?, epoll)?;
    }
    publish(shared, TASKS - 1);
    shared[STOP].store(0, Relaxed);
    let mut pids = Vec::new();
    let result = rule(shared, &mut pids, rng, time);
    let ended = end_all(shared);
    close_range(3..RawFd::MAX)?;
    result.and(ended)
}

/// Prints the counts. Fails on an unexpected result, or if an expected one never occurred.
fn check_counts(shared: &Shared) -> Result<(), Failure> {
    let counts = |base: usize, names: &[(i32, &str)]| {
        let texts = names.iter().enumerate().filter_map(|(i, (_, name))| {
            let count = shared[base + i].load(Relaxed);
            (count > 0).then(|| format!("{name} {count}"))
        });
        texts.collect::<Vec<_>>().join(", ")
    };
    for (op, _) in OPS {
        println!("# {op:?}: {}", counts(place_of(op, 0), &RESULTS));
    }
    println!("# kcmp: {}", counts(ANSWERED, &ANSWERS));
    println!("# kcmp of walkers: {}", counts(WALKED, &ANSWERS));

    let unknown = shared[UNKNOWN].load(Relaxed);
    let (op, errno) = (unknown >> 32, unknown as u32);
    ensure!(
        unknown == 0,
        "{:?} fails with errno {errno}",
        OPS[op as usize].0
    );
    for (op, _) in OPS {
        ensure!(
            shared[place_of(op, 0)].load(Relaxed) > 0,
            "{op:?} never succeeds"
        );
    }
    for (i, (answer, name)) in ANSWERS.iter().enumerate() {
        let never = [-c::EPERM, -c::EOPNOTSUPP].contains(answer);
        let count = shared[ANSWERED + i].load(Relaxed);
        ensure!(never == (count == 0), "kcmp() returns {name} {count} times");
        // Walkers find entries of other files than theirs, and the end of the entries.
        let walked = [1, 2, -c::ENOENT].contains(answer);
        let count = shared[WALKED + i].load(Relaxed);
        ensure!(!walked || count > 0, "walkers never get {name}");
    }
    Ok(())
}

// --- Leaks ---------------------------------------------------------------------------------------

/// The resources that must not leak: open files, and objects of slab caches.
const FILES: &str = "open files";
const LEFT: [&str; 4] = [FILES, "filp", "eventpoll_epi", "eventpoll_pwq"];

/// How long to look for the lowest count. RCU and workqueues free objects with a delay, and other
/// programs may use some meanwhile.
const LOOK: Duration = Duration::from_secs(2);
const INTERVAL: Duration = Duration::from_millis(100);

fn in_use(what: &str) -> io::Result<u64> {
    match what {
        FILES => count_open_files(),
        cache => count_objects(cache),
    }
}

/// The lowest count within [`LOOK`].
fn lowest(what: &str) -> Option<u64> {
    let begin = Instant::now();
    let mut lowest = None;
    while begin.elapsed() < LOOK {
        let now = in_use(what).ok()?;
        lowest = Some(lowest.map_or(now, |lowest: u64| lowest.min(now)));
        thread::sleep(INTERVAL);
    }
    lowest
}

/// Waits until no more are in use than between the two halves of the test.
fn check_leak(what: &str, before: Option<u64>) -> Result<Done, Failure> {
    if let Err(e) = in_use(what) {
        return Ok(Done::Skipped(e.to_string()));
    }
    let Some(before) = before else {
        return Err("not counted before".into());
    };
    let begin = Instant::now();
    loop {
        let after = in_use(what)?;
        if after <= before {
            let seconds = begin.elapsed().as_secs_f64();
            println!("# {before} before, {after} after, {seconds:.1} s later");
            return Ok(Done::Passed);
        }
        ensure!(begin.elapsed() < PATIENCE, "{before} before, {after} after");
        thread::sleep(INTERVAL);
    }
}

// --- The program ---------------------------------------------------------------------------------

fn run(seconds: u64, seed: u64) -> Result<ExitCode, Failure> {
    println!("# {seconds} s with seed {seed}");
    let before = OnceCell::new();
    let churn = || {
        let shared = share_words()?;
        let mut rng = Rng::new(seed);
        let half = Duration::from_secs(seconds) / 2;
        adopt_orphans()?;
        churn(shared, &mut rng, half)?;
        before.get_or_init(|| LEFT.map(lowest));
        churn(shared, &mut rng, half)?;
        check_counts(shared)?;
        Ok(Done::Passed)
    };
    let leak = |i: usize| check_leak(LEFT[i], before.get().and_then(|before| before[i]));
    Ok(run_tests(&[
        ("churn", &churn),
        (LEFT[0], &|| leak(0)),
        (LEFT[1], &|| leak(1)),
        (LEFT[2], &|| leak(2)),
        (LEFT[3], &|| leak(3)),
    ]))
}

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == IDLE.to_str().ok() {
        thread::sleep(Duration::from_millis(5));
        return ExitCode::SUCCESS;
    }
    let options = [("--seconds", 20), ("--seed", new_seed())];
    start(HELP, options, |[seconds, seed]| {
        as_root(|| run(seconds, seed))
    })
}
