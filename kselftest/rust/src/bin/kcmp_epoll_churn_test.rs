// SPDX-License-Identifier: GPL-2.0

//! `KCMP_EPOLL_TFD` in the midst of everything that can happen to processes, files and epoll sets.
//!
//! Workers, of several threads each, do random operations on epoll sets and other files that they
//! share: open, dup3, close, epoll_ctl, epoll_wait, fdinfo, files sent over unix sockets, fork,
//! exec, exit. Askers call kcmp() about them without pause. The main process kills any of them at
//! any time, and starts another one in its place.
//!
//! What is right cannot be known here. Only answers that kcmp() can give are allowed, all processes
//! have to end, and nothing may be left over. It is for the kernel's own checks (KASAN, KCSAN,
//! lockdep) to find what is wrong otherwise.

use kcmp_epoll::*;
use std::cell::OnceCell;
use std::ffi::CStr;
use std::io::{self, Write};
use std::ops::Range;
use std::os::fd::RawFd;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

const HELP: &str = "\
Ask KCMP_EPOLL_TFD while processes, files and epoll sets come and go.

Usage: kcmp_epoll_churn_test [--seconds N] [--seed N]

  --seconds N  for how long (default 20)
  --seed N     what is done; its timing is left to chance. The seed is printed
               (default: a new one)

Has to be started by root. Prints TAP.
";
/// What the program is executed with, to do nothing for a moment.
const IDLE: &CStr = c"--idle";

/// The numbers that the operations play with. Sets are mostly at the first of them, and shared by
/// all processes when they start; other files are mostly at the rest.
const SETS: Range<RawFd> = 100..104;
const OTHERS: Range<RawFd> = 104..116;
/// Pairs of sockets in which files are in flight.
const MAILBOXES: [[RawFd; 2]; 2] = [[60, 61], [62, 63]];

const WORKERS: usize = 4;
const THREADS: usize = 3;
const ASKERS: usize = 3;
const PROCESSES: usize = WORKERS + ASKERS;

/// How many operations a thread of a worker does at most, and a process that it has forked.
const LIFE: u32 = 20_000;
const LIFE_OF_CHILD: u32 = 500;

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

/// How often each operation is drawn. Those that end a thread come when its life is over, and only
/// the main process kills.
const OPS: [(Op, u32); 16] = [
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

/// All errors that the operations may give, and success.
const RESULTS: [(i32, &str); 10] = [
    (0, "done"),
    (libc::EBADF, "EBADF"),
    (libc::EEXIST, "EEXIST"),
    (libc::ENOENT, "ENOENT"),
    (libc::EINVAL, "EINVAL"),
    (libc::ELOOP, "ELOOP"),
    (libc::EAGAIN, "EAGAIN"),
    (libc::EPIPE, "EPIPE"),
    (libc::ECONNRESET, "ECONNRESET"),
    (libc::ESRCH, "ESRCH"),
];

/// Whom the askers ask about: the threads of each worker, the process that each has forked last,
/// the askers and the main process.
const TASKS_OF_WORKER: usize = THREADS + 1;
const TASKS: usize = WORKERS * TASKS_OF_WORKER + ASKERS + 1;

/// Where the words are: a count for each result of each operation, and for each answer of kcmp();
/// the pids of the tasks; that it is time to stop; an operation and its error that is not known.
const ANSWERED: usize = OPS.len() * RESULTS.len();
const PIDS: usize = ANSWERED + ANSWERS.len();
const STOP: usize = PIDS + TASKS;
const UNKNOWN: usize = STOP + 1;
type Shared = [AtomicU64; UNKNOWN + 1];

fn stopped(shared: &Shared) -> bool {
    shared[STOP].load(Relaxed) != 0
}

/// Where the result of an operation is counted.
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

/// The number of a set, mostly.
fn draw_set(rng: &mut fastrand::Rng) -> RawFd {
    match rng.u32(..12) {
        0 => rng.i32(OTHERS),
        _ => rng.i32(SETS),
    }
}

/// The number of another file, mostly.
fn draw_other(rng: &mut fastrand::Rng) -> RawFd {
    match rng.u32(..12) {
        0 => rng.i32(SETS),
        _ => rng.i32(OTHERS),
    }
}

fn publish(shared: &Shared, task: usize) {
    // SAFETY: No memory is involved.
    let tid = unsafe { libc::syscall(libc::SYS_gettid) };
    shared[PIDS + task].store(tid as u64, Relaxed);
}

// --- Workers -------------------------------------------------------------------------------------

/// A thread of a worker, or a process that it has forked.
///
/// It allocates nothing, and takes no lock: a child of a process with threads must not. There is
/// room for all that it can open, and its sockets are never at their end: none of the functions of
/// the library has to make up an error.
struct Worker {
    shared: &'static Shared,
    rng: fastrand::Rng,
    /// The first of the tasks of this worker.
    task: usize,
}

impl Worker {
    fn set(&mut self) -> RawFd {
        draw_set(&mut self.rng)
    }

    fn other(&mut self) -> RawFd {
        draw_other(&mut self.rng)
    }

    fn open(&mut self) -> io::Result<()> {
        let at = self.other();
        match self.rng.u32(..8) {
            0 => place(epoll_create()?, self.set()),
            1 => place(epoll_create()?, at),
            2 | 3 => place_pair(libc::SOCK_STREAM | libc::SOCK_NONBLOCK, [at, self.other()]),
            _ => place(eventfd()?, at),
        }
    }

    fn dup(&mut self) -> io::Result<()> {
        let (from, to) = (self.other(), self.other());
        let flags = if self.rng.bool() { libc::O_CLOEXEC } else { 0 };
        // SAFETY: No memory is involved.
        cvt(unsafe { libc::dup3(from, to, flags) }).map(drop)
    }

    fn ctl(&mut self, op: libc::c_int) -> io::Result<()> {
        let modes = [0, libc::EPOLLET, libc::EPOLLONESHOT];
        let events = libc::EPOLLIN | modes[self.rng.usize(..modes.len())];
        epoll_ctl(self.set(), op, self.other(), events, 0)
    }

    fn wait(&mut self) -> io::Result<()> {
        let timeout = self.rng.i32(0..2);
        epoll_wait::<8>(self.set(), timeout).map(drop)
    }

    /// Reads what fdinfo tells of any task's epoll file.
    fn fdinfo(&mut self) -> io::Result<()> {
        let mut path = [0u8; 64];
        let pid = self.shared[self.rng.usize(PIDS..STOP)].load(Relaxed);
        write!(&mut path[..63], "/proc/{pid}/fdinfo/{}", self.set())?;
        // SAFETY: `path` is a string that ends with a null byte.
        let fd = cvt(unsafe { libc::open(path.as_ptr().cast(), libc::O_RDONLY) })?;
        let mut text = [0u8; 4096];
        // SAFETY: `text` is valid for writing.
        let got = cvt(unsafe { libc::read(fd, text.as_mut_ptr().cast(), text.len()) } as i32);
        close(fd)?;
        got.map(drop)
    }

    /// Forks a process that does the same for a while.
    fn fork(&mut self) -> io::Result<()> {
        let child = Worker {
            rng: self.rng.fork(),
            ..*self
        };
        // SAFETY: This process may have other threads. The child allocates nothing and takes no
        // lock, see `Worker`.
        match cvt(unsafe { libc::fork() })? {
            0 => {
                publish(child.shared, child.task + THREADS);
                child.live(LIFE_OF_CHILD);
                exit_at_once(0)
            }
            _ => Ok(()),
        }
    }

    fn perform(&mut self, op: Op) -> io::Result<()> {
        let [to, from] = MAILBOXES[self.rng.usize(..MAILBOXES.len())];
        match op {
            Op::Open => self.open(),
            Op::Dup => self.dup(),
            Op::Close => close(self.other()),
            Op::Add => self.ctl(libc::EPOLL_CTL_ADD),
            Op::Mod => self.ctl(libc::EPOLL_CTL_MOD),
            Op::Del => self.ctl(libc::EPOLL_CTL_DEL),
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
        let all: u32 = OPS.iter().map(|(_, weight)| weight).sum();
        let mut at = self.rng.u32(..all);
        for (op, weight) in OPS {
            if at < weight {
                return op;
            }
            at -= weight;
        }
        unreachable!()
    }

    /// Does random operations for a while. Returns if only the thread is to end.
    fn live(mut self, life: u32) {
        for _ in 0..self.rng.u32(..life) {
            if stopped(self.shared) {
                return;
            }
            let op = self.draw();
            let result = self.perform(op);
            count(self.shared, op, result);
        }
        let end = [Op::Exec, Op::Exit, Op::Leave][self.rng.usize(..3)];
        // The first two of them do not return, if they succeed.
        count(self.shared, end, Ok(()));
        if let Err(e) = self.perform(end) {
            count(self.shared, end, Err(e));
        }
    }
}

/// The life of a worker. Its first thread may end before the others.
fn work(shared: &'static Shared, task: usize, mut rng: fastrand::Rng) -> i32 {
    disown_children();
    let mut live = |thread| {
        let rng = rng.fork();
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
    unsafe { libc::syscall(libc::SYS_exit, 0) };
    unreachable!()
}

// --- Askers --------------------------------------------------------------------------------------

/// Addresses that no slot can be read at.
const BAD: [u64; 4] = [0, 8, 1 << 63, u64::MAX - 3];

/// The life of an asker: calls kcmp() with tasks, numbers and slots that are mostly good.
fn ask(shared: &'static Shared, task: usize, mut rng: fastrand::Rng) -> i32 {
    publish(shared, task);
    while !stopped(shared) {
        let pid2 = shared[rng.usize(PIDS..STOP)].load(Relaxed);
        let pid1 = match rng.u32(..4) {
            0 => pid2,
            _ => shared[rng.usize(PIDS..STOP)].load(Relaxed),
        };
        let slot = Slot {
            efd: draw_set(&mut rng) as u32,
            tfd: draw_other(&mut rng) as u32,
            toff: [0, 0, 0, 1, 2, u32::MAX][rng.usize(..6)],
        };
        let idx1 = match rng.u32(..2) {
            0 => slot.tfd as u64,
            _ => draw_other(&mut rng) as u64,
        };
        let bad = rng.u32(..64) == 0;
        let at = if bad {
            BAD[rng.usize(..BAD.len())]
        } else {
            &raw const slot as u64
        };

        let answer = kcmp_raw(pid1, pid2, KCMP_EPOLL_TFD, idx1, at);
        let owed = answer == -libc::ESRCH || bad == (answer == -libc::EFAULT);
        let known = ANSWERS.iter().position(|(known, _)| *known == answer);
        let Some(known) = known.filter(|_| owed) else {
            println!("# kcmp({pid1}, {pid2}, .., {idx1}, {at:#x} {slot:?}) gives {answer}");
            return 1;
        };
        shared[ANSWERED + known].fetch_add(1, Relaxed);
    }
    0
}

// --- The main process ----------------------------------------------------------------------------

/// Starts a process: the first of them are workers, the others askers.
fn start(shared: &'static Shared, process: usize, rng: &mut fastrand::Rng) -> io::Result<Pid> {
    let rng = rng.fork();
    fork(|| {
        if end_with_parent().is_err() {
            return 1;
        }
        match process.checked_sub(WORKERS) {
            None => work(shared, process * TASKS_OF_WORKER, rng),
            Some(asker) => ask(shared, WORKERS * TASKS_OF_WORKER + asker, rng),
        }
    })
}

/// A child that has ended, or the child of one, if there is any: its pid and its status. `None` if
/// none of them has ended.
fn reap() -> io::Result<Option<(Pid, libc::c_int)>> {
    let mut status = 0;
    // SAFETY: `status` is valid for the duration of the call.
    let pid = cvt(unsafe { libc::waitpid(-1, &mut status, libc::WNOHANG) })?;
    Ok((pid > 0).then_some((pid, status)))
}

/// Checks how a process has ended.
fn check_end(pid: Pid, status: libc::c_int) -> Result<(), Failure> {
    let killed = libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGKILL;
    ensure!(
        killed || status == 0,
        "process {pid} ends with status {status:#x}"
    );
    Ok(())
}

/// Lets processes live, kills them, and starts others in their place.
fn rule(
    shared: &'static Shared,
    pids: &mut Vec<Pid>,
    rng: &mut fastrand::Rng,
    time: Duration,
) -> Result<(), Failure> {
    for process in 0..PROCESSES {
        pids.push(start(shared, process, rng)?);
    }
    let begin = Instant::now();
    while begin.elapsed() < time {
        thread::sleep(Duration::from_millis(rng.u64(..50)));
        // Not waited for yet: the pid is still that of our process.
        count(shared, Op::Kill, kill(pids[rng.usize(..PROCESSES)]));
        while let Some((pid, status)) = reap()? {
            check_end(pid, status)?;
            if let Some(process) = pids.iter().position(|p| *p == pid) {
                pids[process] = start(shared, process, rng)?;
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
            Err(e) if e.raw_os_error() == Some(libc::ECHILD) => return Ok(()),
            Err(e) => return Err(e.into()),
        }
    }
}

/// Churns for a while, and gives back all that was used for it.
fn churn(shared: &'static Shared, rng: &mut fastrand::Rng, time: Duration) -> Result<(), Failure> {
    for mailbox in MAILBOXES {
        place_pair(libc::SOCK_DGRAM | libc::SOCK_NONBLOCK, mailbox)?;
    }
    for set in SETS {
        place(epoll_create()?, set)?;
    }
    publish(shared, TASKS - 1);
    shared[STOP].store(0, Relaxed);
    let mut pids = Vec::new();
    let result = rule(shared, &mut pids, rng, time);
    let ended = end_all(shared);
    close_range(3..RawFd::MAX)?;
    result.and(ended)
}

/// Prints what was done. Fails if a result is not known, or if something never happened.
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
        let never = [-libc::EPERM, -libc::EOPNOTSUPP].contains(answer);
        let count = shared[ANSWERED + i].load(Relaxed);
        ensure!(never == (count == 0), "kcmp() gives {name} {count} times");
    }
    Ok(())
}

// --- Leaks ---------------------------------------------------------------------------------------

/// What may be left over: open files, and objects of slab caches.
const FILES: &str = "open files";
const LEFT: [&str; 4] = [FILES, "filp", "eventpoll_epi", "eventpoll_pwq"];

/// How long to look for the lowest number. RCU and work queues take a moment to free what was used
/// last, and others may have some in use now.
const LOOK: Duration = Duration::from_secs(2);
const INTERVAL: Duration = Duration::from_millis(100);

fn in_use(what: &str) -> io::Result<u64> {
    match what {
        FILES => count_open_files(),
        cache => count_objects(cache),
    }
}

/// How many are in use at least, in the next moments.
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

/// Waits until as few are in use as there were between the two halves.
fn check_leak(what: &str, before: Option<u64>) -> Result<Done, Failure> {
    if let Err(e) = in_use(what) {
        return Ok(Done::Skipped(e.to_string()));
    }
    let Some(before) = before else {
        return Err(Failure("not counted before".into()));
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

fn run((seconds, seed): (u64, u64)) -> Result<ExitCode, Failure> {
    println!("# {seconds} s with seed {seed}");
    let before = OnceCell::new();
    let churn = || {
        let shared = share_words()?;
        let mut rng = fastrand::Rng::with_seed(seed);
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
    let parse = |parser: &mut _| parse_amount_and_seed(parser, "seconds", 20);
    start_as_root(HELP, parse, run)
}
