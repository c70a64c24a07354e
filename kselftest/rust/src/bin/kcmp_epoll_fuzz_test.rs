// SPDX-License-Identifier: GPL-2.0

//! A fuzzer of kcmp(2).
//!
//! A scene is set up in which every process, file, target and address is known, and which stays as
//! it is. Then kcmp() is called with random and hostile arguments, and each answer is compared with
//! the one that `kernel/kcmp.c` owes: the verdict, or the error that is checked first.

use kcmp_epoll::*;
use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read, Write};
use std::ops::Range;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::ptr;
use std::time::Instant;

const HELP: &str = "\
Call kcmp(2) with random and hostile arguments, as root and as an ordinary user
in its own user and pid namespace.

Usage: kcmp_epoll_fuzz_test [--calls N] [--seed N]

  --calls N   how often to call it, at least 20000 (default 400000)
  --seed N    repeat a run: the seed is printed (default: a new one)

Has to be started by root. Prints TAP.
";
const CALLS_MIN: u64 = 20_000;

/// The number of each file, by which it is called here. The last of them are epoll files.
const FILES: Range<RawFd> = 100..120;
const EPOLLS: Range<RawFd> = 116..120;
/// Numbers under which many files are added, one after the other.
const SHARED: Range<RawFd> = 120..124;
const NUMBERS: Range<RawFd> = FILES.start..SHARED.end;
/// The files of stdin, stdout and stderr: none of ours.
const STANDARD: RawFd = 0;

/// No process has a number as high: `PID_MAX_LIMIT` of the kernel.
const PID_LIMIT: Pid = 4 * 1024 * 1024;
const USER: u32 = 1000;
const OTHER_USER: u32 = 1001;

// --- Answers -------------------------------------------------------------------------------------

/// A set of answers: a bit for each of [`ANSWERS`], in its order.
type Answers = u16;
const EQUAL: Answers = 1 << 0;
const LESS: Answers = 1 << 1;
const GREATER: Answers = 1 << 2;
const EPERM: Answers = 1 << 3;
const ESRCH: Answers = 1 << 4;
const EFAULT: Answers = 1 << 5;
const EBADF: Answers = 1 << 6;
const EINVAL: Answers = 1 << 7;
const ENOENT: Answers = 1 << 8;
const EOPNOTSUPP: Answers = 1 << 9;
const UNEQUAL: Answers = LESS | GREATER;
const VERDICT: Answers = EQUAL | UNEQUAL;

fn names(answers: Answers) -> String {
    let named = |&(i, _): &(usize, &(i32, &str))| answers & (1 << i) != 0;
    let all = ANSWERS.iter().enumerate().filter(named);
    all.map(|(_, (_, name))| *name)
        .collect::<Vec<_>>()
        .join(" or ")
}

/// How often each answer was given, to the questions of each kind and to those of no kind.
#[derive(Default)]
struct Counts([[u64; ANSWERS.len()]; 9]);

impl Counts {
    fn count(&mut self, kind: u64, answer: usize) {
        self.0[kind.min(8) as usize][answer] += 1;
    }

    fn seen(&self, kind: u64) -> Answers {
        let seen = self.0[kind as usize].iter().enumerate();
        seen.filter(|(_, &n)| n > 0)
            .fold(0, |all, (i, _)| all | 1 << i)
    }

    fn print(&self) {
        const KINDS: [&str; 9] = [
            "FILE",
            "VM",
            "FILES",
            "FS",
            "SIGHAND",
            "IO",
            "SYSVSEM",
            "EPOLL_TFD",
            "others",
        ];
        for (kind, counts) in KINDS.iter().zip(&self.0) {
            print!("#   {kind:<10}");
            for ((_, name), n) in ANSWERS.iter().zip(counts).filter(|(_, &n)| n > 0) {
                print!(" {name} {n}");
            }
            println!();
        }
    }
}

// --- Processes -----------------------------------------------------------------------------------

/// Which file a process has at each number.
#[derive(Clone, Copy)]
struct Table([Option<RawFd>; NUMBERS.end as usize]);

impl Table {
    const EMPTY: Table = Table([None; NUMBERS.end as usize]);

    /// Like the kernel, looks at the low 32 bits only.
    fn get(&self, idx: u64) -> Option<RawFd> {
        self.0.get(idx as u32 as usize).copied().flatten()
    }

    fn set(&mut self, fd: RawFd, file: Option<RawFd>) {
        self.0[fd as usize] = file;
    }

    /// Closes and copies some files, and does so in this process if `really`.
    fn shuffle(&mut self, seed: u64, really: bool) -> io::Result<()> {
        let mut rng = fastrand::Rng::with_seed(seed);
        for _ in 0..30 {
            let (from, to) = (rng.i32(NUMBERS), rng.i32(NUMBERS));
            let file = self.get(from as u64);
            if file.is_none() || from == to {
                continue;
            }
            if rng.u32(..3) == 0 {
                self.set(from, None);
                if really {
                    close(from)?;
                }
            } else {
                self.set(to, file);
                if really {
                    dup2(from, to)?;
                }
            }
        }
        Ok(())
    }
}

/// What the caller has to know of a process to tell what it is told about it.
enum Process {
    /// No process of the caller's pid namespace has the number.
    Absent,
    /// The caller may not ptrace it.
    Forbidden,
    /// It is none of ours, if it exists.
    Unknown,
    Known(Box<Table>),
}

fn become_user(uid: u32, gid: u32) -> io::Result<()> {
    // SAFETY: No memory is involved: the list of groups is empty.
    unsafe {
        cvt(libc::setgroups(0, ptr::null()))?;
        cvt(libc::setresgid(gid, gid, gid))?;
        cvt(libc::setresuid(uid, uid, uid))?;
    }
    // To change the user made the process one that nobody may ptrace.
    set_dumpable(true)
}

fn set_dumpable(dumpable: bool) -> io::Result<()> {
    // SAFETY: No memory is involved.
    cvt(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, libc::c_ulong::from(dumpable)) }).map(drop)
}

fn unshare(flags: libc::c_int) -> io::Result<()> {
    // SAFETY: No memory is involved.
    cvt(unsafe { libc::unshare(flags) }).map(drop)
}

fn send_pid(mut stream: &UnixStream, pid: Pid) -> io::Result<()> {
    stream.write_all(&pid.to_ne_bytes())
}

fn receive_pid(mut stream: &UnixStream) -> io::Result<Pid> {
    let mut bytes = [0; 4];
    stream.read_exact(&mut bytes)?;
    match Pid::from_ne_bytes(bytes) {
        pid if pid > 0 => Ok(pid),
        error => Err(io::Error::from_raw_os_error(-error)),
    }
}

/// The life of a process that does nothing: it prepares, tells its pid in its own namespace, and
/// keeps the files of known numbers.
fn stay(ready: &UnixStream, prepare: impl FnOnce() -> io::Result<()>) -> i32 {
    let pid_or_error = match prepare() {
        Ok(()) => getpid(),
        Err(e) => -errno(&e),
    };
    let sleep = || {
        send_pid(ready, pid_or_error)?;
        close_range(3..NUMBERS.start)?;
        sleep_until_killed()
    };
    sleep().unwrap_or(1)
}

/// Forks a process that does nothing. Gives its pid when it is ready.
fn fork_sleeper(prepare: impl FnOnce() -> io::Result<()>) -> io::Result<Pid> {
    let (ours, theirs) = UnixStream::pair()?;
    let pid = fork(|| stay(&theirs, prepare))?;
    receive_pid(&ours)?;
    Ok(pid)
}

/// Forks a launcher that enters new namespaces, and forks a child that runs `body` in them. Gives
/// the pids of both. The launcher ends when the child does, with its exit status.
fn launch(
    enter: impl FnOnce() -> io::Result<()>,
    body: impl FnOnce() -> i32,
) -> io::Result<(Pid, Pid)> {
    let (ours, theirs) = UnixStream::pair()?;
    let launcher = fork(|| {
        let launch = || {
            enter()?;
            let child = fork(body)?;
            send_pid(&theirs, child)?;
            wait(child)
        };
        launch().unwrap_or_else(|e| {
            let _ = send_pid(&theirs, -errno(&e));
            1
        })
    })?;
    Ok((launcher, receive_pid(&ours)?))
}

/// Forks a process that does nothing, as the first one of a pid namespace.
fn fork_sleeper_in_namespace() -> io::Result<Pid> {
    let (ours, theirs) = UnixStream::pair()?;
    let enter = || {
        end_with_parent()?;
        unshare(libc::CLONE_NEWPID)
    };
    let (_, pid) = launch(enter, || stay(&theirs, || Ok(())))?;
    receive_pid(&ours)?;
    Ok(pid)
}

/// Runs a part of a test in this process, and gives its exit status.
fn report(part: impl FnOnce() -> Result<(), Failure>) -> i32 {
    match part() {
        Ok(()) => 0,
        Err(failure) => {
            println!("# {failure}");
            1
        }
    }
}

fn outcome(status: i32) -> Result<Done, Failure> {
    ensure!(status == 0, "ended with status {status}");
    Ok(Done::Passed)
}

// --- Addresses -----------------------------------------------------------------------------------

const SLOT: usize = size_of::<Slot>();

/// A page that can be reached at several addresses, with different rights.
struct Memory {
    size: usize,
    /// Between a page that cannot be accessed, and one that is not mapped.
    page: *mut u8,
    read_only: usize,
    write_only: usize,
    inaccessible: usize,
    /// What has been written to it.
    shadow: Vec<u8>,
}

impl Memory {
    fn new() -> io::Result<Memory> {
        let size = page_size();
        let map = |address: usize, pages: usize, rights, flags| {
            // SAFETY: Nothing is mapped here yet but the pages that this function has mapped.
            let page = unsafe {
                let address = ptr::without_provenance_mut(address);
                libc::mmap(address, pages * size, rights, flags, -1, 0)
            };
            if page == libc::MAP_FAILED {
                return Err(io::Error::last_os_error());
            }
            Ok(page as usize)
        };
        let rw = libc::PROT_READ | libc::PROT_WRITE;
        let private = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let shared = libc::MAP_SHARED | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
        let around = map(0, 3, libc::PROT_NONE, private)?;
        let page = map(around + size, 1, rw, shared)?;
        let alias = |rights| {
            let start = map(0, 3, libc::PROT_NONE, private)? + size;
            let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
            let (old, new) = (page as *mut _, start as *mut libc::c_void);
            // SAFETY: A shared page is mapped once more, over a page mapped above, and the rights
            // to the new one are set: nothing uses its memory as yet.
            unsafe {
                if libc::mremap(old, 0, size, flags, new) == libc::MAP_FAILED {
                    return Err(io::Error::last_os_error());
                }
                cvt(libc::mprotect(new, size, rights))?;
            }
            Ok(start)
        };
        let memory = Memory {
            size,
            page: page as *mut u8,
            read_only: alias(libc::PROT_READ)?,
            write_only: alias(libc::PROT_WRITE)?,
            inaccessible: alias(libc::PROT_NONE)?,
            shadow: vec![0; size],
        };
        // SAFETY: The page was mapped above, and nothing uses it.
        cvt(unsafe { libc::munmap((page + size) as *mut _, size) })?;
        Ok(memory)
    }

    fn write(&mut self, at: usize, slot: Slot) {
        assert!(at + SLOT <= self.size);
        // SAFETY: The slot lies within the page, which may be read and written.
        unsafe { self.page.add(at).cast::<Slot>().write_unaligned(slot) };
        for (i, word) in [slot.efd, slot.tfd, slot.toff].into_iter().enumerate() {
            self.shadow[at + 4 * i..][..4].copy_from_slice(&word.to_ne_bytes());
        }
    }

    fn read(&self, at: usize) -> Slot {
        assert!(at + SLOT <= self.size);
        // SAFETY: The slot lies within the page, which may be read.
        unsafe { self.page.add(at).cast::<Slot>().read_unaligned() }
    }

    fn is_unchanged(&self) -> bool {
        // SAFETY: The page may be read, and nothing writes to it meanwhile.
        let page = unsafe { std::slice::from_raw_parts(self.page, self.size) };
        page == self.shadow
    }
}

// --- The scene -----------------------------------------------------------------------------------

/// Where the caller is.
enum Place {
    Root,
    /// In a pid namespace of its own, in which others have put `strangers` that it may not ptrace.
    User {
        strangers: Vec<Pid>,
    },
}

struct Scene {
    /// Where the file of each number of [`FILES`] is in the order of `KCMP_FILE`.
    rank: Vec<usize>,
    /// The targets of each number of each set, by `toff`. See [`Scene::targets`].
    targets: Vec<Vec<RawFd>>,
    /// Those that are [`Process::Known`] come first.
    processes: Vec<(Pid, Process)>,
    known: usize,
    /// What the other numbers of processes are.
    others: Process,
    memory: Memory,
}

#[derive(Debug)]
struct Call {
    pid1: u64,
    pid2: u64,
    kind: u64,
    idx1: u64,
    idx2: u64,
    /// Where in the page the slot is that `idx2` points at, if it is readable.
    at: Option<usize>,
    slot: Slot,
}

/// Which of [`Scene::targets`] are those of a number of an epoll file.
fn position(efd: RawFd, tfd: RawFd) -> usize {
    (efd - EPOLLS.start) as usize * NUMBERS.len() + (tfd - NUMBERS.start) as usize
}

/// Opens all files, and adds targets. Gives the table of this process, and the targets.
fn open_files(rng: &mut fastrand::Rng) -> Result<(Table, Vec<BTreeSet<RawFd>>), Failure> {
    let pid = getpid();
    let mut table = Table::EMPTY;
    for fd in 0..3 {
        let file = FileOf { pid, fd };
        if kcmp_files(file, file).is_ok() {
            table.set(fd, Some(STANDARD));
        }
    }
    for fd in FILES {
        if EPOLLS.contains(&fd) {
            place(epoll_create()?, fd)?;
        } else if fd % 4 == 0 {
            place(lone_socket()?, fd)?;
        } else {
            place(eventfd()?, fd)?;
        }
        table.set(fd, Some(fd));
    }

    let mut targets = vec![BTreeSet::new(); EPOLLS.len() * NUMBERS.len()];
    let mut add = |efd, tfd, file| -> io::Result<()> {
        if targets[position(efd, tfd)].insert(file) {
            epoll_ctl(efd, libc::EPOLL_CTL_ADD, tfd, libc::EPOLLIN, 0)?;
        }
        Ok(())
    };
    for _ in 0..200 {
        let (file, tfd) = (rng.i32(FILES.start..EPOLLS.start), rng.i32(SHARED));
        dup2(file, tfd)?;
        table.set(tfd, Some(file));
        // The last set stays empty.
        add(rng.i32(EPOLLS.start..EPOLLS.end - 1), tfd, file)?;
    }
    for file in (FILES.start..EPOLLS.start).step_by(3) {
        add(EPOLLS.start, file, file)?;
    }
    add(EPOLLS.start, EPOLLS.start + 1, EPOLLS.start + 1)?;
    Ok((table, targets))
}

/// Puts the targets of one number into the order of `toff`.
fn order_targets(efd: RawFd, tfd: RawFd, targets: &BTreeSet<RawFd>) -> Result<Vec<RawFd>, Failure> {
    let pid = getpid();
    let epoll = FileOf { pid, fd: efd };
    let mut order = Vec::new();
    for toff in 0..targets.len() as u32 {
        let target = TargetOf { epoll, tfd, toff };
        let mut found = None;
        for &file in targets {
            if kcmp_target(FileOf { pid, fd: file }, target)? == Verdict::Equal {
                ensure!(found.is_none(), "{target:?} is two files");
                found = Some(file);
            }
        }
        order.extend(found);
    }
    let distinct: BTreeSet<RawFd> = order.iter().copied().collect();
    ensure!(
        distinct == *targets && order.len() == targets.len(),
        "tfd {tfd} of {efd}: {order:?} found, {targets:?} added"
    );
    Ok(order)
}

/// Where the file of each number of [`FILES`] is in the order of `KCMP_FILE`: how many others are
/// less.
fn rank_files() -> io::Result<Vec<usize>> {
    let pid = getpid();
    let rank = |fd| {
        let less = |other| kcmp_files(FileOf { pid, fd: other }, FileOf { pid, fd });
        let verdicts: Vec<Verdict> = FILES.map(less).collect::<io::Result<_>>()?;
        Ok(verdicts.iter().filter(|&&v| v == Verdict::Less).count())
    };
    FILES.map(rank).collect()
}

impl Scene {
    fn new(place: &Place, rng: &mut fastrand::Rng) -> Result<Scene, Failure> {
        close_range(3..RawFd::MAX)?;
        let (mut table, targets) = open_files(rng)?;

        let rank = rank_files()?;
        let order = |i: usize| {
            let efd = EPOLLS.start + (i / NUMBERS.len()) as RawFd;
            let tfd = NUMBERS.start + (i % NUMBERS.len()) as RawFd;
            order_targets(efd, tfd, &targets[i])
        };
        let targets = (0..targets.len()).map(order).collect::<Result<_, _>>()?;

        let all = table;
        let mut processes = Vec::new();
        let mut add_shuffled = |prepare: fn() -> io::Result<()>| -> Result<(), Failure> {
            let (seed, mut theirs) = (rng.u64(..), all);
            let pid = fork_sleeper(|| {
                theirs.shuffle(seed, true)?;
                prepare()
            })?;
            theirs.shuffle(seed, false)?;
            processes.push((pid, Process::Known(Box::new(theirs))));
            Ok(())
        };
        add_shuffled(|| Ok(()))?;
        add_shuffled(|| Ok(()))?;
        if let Place::Root = place {
            add_shuffled(|| become_user(OTHER_USER, OTHER_USER))?;
            processes.push((fork_sleeper_in_namespace()?, Process::Known(Box::new(all))));
        }
        processes.push((fork_sleeper(|| Ok(()))?, Process::Known(Box::new(all))));
        let hidden = fork_sleeper(|| set_dumpable(false))?;
        let zombie = fork(|| 0)?;
        // SAFETY: waitid() is not asked to write anything.
        cvt(unsafe {
            let options = libc::WEXITED | libc::WNOWAIT;
            libc::waitid(libc::P_PID, zombie as u32, ptr::null_mut(), options)
        })?;
        processes.push((zombie, Process::Known(Box::new(Table::EMPTY))));
        let dead = fork(|| 0)?;
        wait(dead)?;

        // Some files live on in other processes only.
        for fd in EPOLLS.start - 4..EPOLLS.start {
            close(fd)?;
            table.set(fd, None);
        }
        processes.push((getpid(), Process::Known(Box::new(table))));

        let (known, others) = match place {
            Place::Root => {
                processes.push((hidden, Process::Known(Box::new(all))));
                (processes.len(), Process::Unknown)
            }
            Place::User { strangers, .. } => {
                let known = processes.len();
                processes.push((hidden, Process::Forbidden));
                processes.extend(strangers.iter().map(|&pid| (pid, Process::Forbidden)));
                (known, Process::Absent)
            }
        };
        processes.push((dead, Process::Absent));
        Ok(Scene {
            rank,
            targets,
            processes,
            known,
            others,
            memory: Memory::new()?,
        })
    }

    /// Where a file is in the order of `KCMP_FILE`.
    fn rank(&self, file: RawFd) -> usize {
        self.rank[(file - FILES.start) as usize]
    }

    /// What a number stands for, of which the kernel looks at the low 32 bits.
    fn process(&self, pid: u64) -> &Process {
        let pid = pid as Pid;
        match self.processes.iter().find(|(p, _)| *p == pid) {
            Some((_, process)) => process,
            None if (1..PID_LIMIT).contains(&pid) => &self.others,
            None => &Process::Absent,
        }
    }

    /// The answers that a question may get. Nearly always, it is only one.
    fn expected(&self, call: &Call) -> Answers {
        let kind = u64::from(call.kind as u32);
        let verdict = match kind {
            KCMP_SYSVSEM => VERDICT | EOPNOTSUPP,
            KCMP_VM..KCMP_SYSVSEM => VERDICT,
            KCMP_FILE => VERDICT | EBADF,
            KCMP_EPOLL_TFD => VERDICT | EFAULT | EBADF | EINVAL | ENOENT,
            _ => EINVAL,
        };
        let (one, two) = match (self.process(call.pid1), self.process(call.pid2)) {
            (Process::Absent, _) | (_, Process::Absent) => return ESRCH,
            (Process::Forbidden, _) | (_, Process::Forbidden) => return EPERM,
            (Process::Known(one), Process::Known(two)) => (one, two),
            _ => return ESRCH | EPERM | verdict,
        };
        let same_process = call.pid1 as Pid == call.pid2 as Pid;
        match kind {
            KCMP_FILE => match (one.get(call.idx1), two.get(call.idx2)) {
                (Some(a), Some(b)) => self.compare(a, b),
                _ => EBADF,
            },
            KCMP_VM..=KCMP_SIGHAND if !same_process => UNEQUAL,
            KCMP_VM..KCMP_EPOLL_TFD if same_process => verdict & !UNEQUAL,
            KCMP_EPOLL_TFD => self.expected_of_target(call, one, two),
            _ => verdict,
        }
    }

    fn expected_of_target(&self, call: &Call, one: &Table, two: &Table) -> Answers {
        if call.at.is_none() {
            return EFAULT;
        }
        let Some(file) = one.get(call.idx1) else {
            return EBADF;
        };
        let Some(epoll) = two.get(u64::from(call.slot.efd)) else {
            return EBADF;
        };
        if !EPOLLS.contains(&epoll) {
            return EINVAL;
        }
        let tfd = call.slot.tfd as RawFd;
        if !NUMBERS.contains(&tfd) {
            return ENOENT;
        }
        match self.targets[position(epoll, tfd)].get(call.slot.toff as usize) {
            Some(&target) => self.compare(file, target),
            None => ENOENT,
        }
    }

    fn compare(&self, a: RawFd, b: RawFd) -> Answers {
        match (a, b) {
            (STANDARD, STANDARD) => VERDICT,
            (STANDARD, _) | (_, STANDARD) => UNEQUAL,
            _ => match self.rank(a).cmp(&self.rank(b)) {
                Ordering::Less => LESS,
                Ordering::Equal => EQUAL,
                Ordering::Greater => GREATER,
            },
        }
    }
}

// --- The fuzzer ----------------------------------------------------------------------------------

struct Fuzzer {
    scene: Scene,
    rng: fastrand::Rng,
}

impl Fuzzer {
    fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.rng.usize(..choices.len())]
    }

    /// Sets bits that the kernel does not look at.
    fn with_high_bits(&mut self, low: u32) -> u64 {
        match self.rng.u32(..8) {
            0 => u64::from(low) | self.rng.u64(..) << 32,
            1 => low as i32 as u64,
            _ => u64::from(low),
        }
    }

    fn pid(&mut self) -> u64 {
        let processes = &self.scene.processes;
        let pid = match self.rng.u32(..32) {
            0..26 => processes[self.rng.usize(..self.scene.known)].0,
            26..29 => processes[self.rng.usize(..processes.len())].0,
            29 => self.rng.i32(1..400),
            30 => self.one_of(&[0, -1, i32::MIN, i32::MAX, PID_LIMIT, PID_LIMIT - 1]),
            _ => self.rng.i32(..),
        };
        self.with_high_bits(pid as u32)
    }

    fn kind(&mut self) -> u64 {
        let kind = match self.rng.u32(..16) {
            0..10 => KCMP_EPOLL_TFD as u32,
            10..12 => KCMP_FILE as u32,
            12..14 => self.rng.u32(..=KCMP_EPOLL_TFD as u32),
            14 => self.one_of(&[8, 9, 0xff, i32::MAX as u32, i32::MIN as u32, u32::MAX]),
            _ => self.rng.u32(..),
        };
        self.with_high_bits(kind)
    }

    /// The number of a file, open or not.
    fn number(&mut self) -> u32 {
        match self.rng.u32(..16) {
            0..14 => self.rng.i32(NUMBERS) as u32,
            14 => {
                let (end, max) = (NUMBERS.end as u32, i32::MAX as u32);
                self.one_of(&[0, 1, 2, end, 1 << 20, max, max + 1, u32::MAX])
            }
            _ => self.rng.u32(..),
        }
    }

    fn slot(&mut self) -> Slot {
        let efd = match self.rng.u32(..16) {
            0..13 => self.rng.i32(EPOLLS) as u32,
            _ => self.number(),
        };
        let tfd = match self.rng.u32(..16) {
            0..12 => self.rng.i32(SHARED) as u32,
            _ => self.number(),
        };
        let toff = match self.rng.u32(..16) {
            0..15 => self.rng.u32(..16),
            _ => self.one_of(&[u32::MAX, i32::MAX as u32, 1 << 31, 1 << 16]),
        };
        Slot { efd, tfd, toff }
    }

    /// An address of a slot, and where that is in the page. If there is none, a bad address.
    fn address(&mut self) -> (u64, Option<usize>) {
        let memory = &self.scene.memory;
        let (page, size) = (memory.page as usize, memory.size);
        let aliases = [page, page, memory.read_only, memory.write_only];
        let inaccessible = memory.inaccessible;
        let rng = &mut self.rng;
        let mut at = rng.usize(..=size - SLOT);
        if rng.bool() {
            at &= !3;
        }
        let bad = match rng.u32(..32) {
            // Reaches into the page behind, or begins in the page before: with one byte or more.
            0 => page + size - rng.usize(1..SLOT),
            1 => page - rng.usize(1..SLOT),
            2 => inaccessible + at,
            3 => rng.usize(..page.min(4096)),
            // The upper half is the kernel's, and neither is what is next to its ends the user's.
            4 => usize::MAX - rng.usize(..1 << 40),
            5 => 1 << 63 | rng.usize(..),
            6 => (1 << 62 | rng.usize(..)) & !(1 << 63),
            _ => {
                let alias = aliases[rng.usize(..aliases.len())];
                return ((alias + at) as u64, Some(at));
            }
        };
        (bad as u64, None)
    }

    fn random_call(&mut self) -> Call {
        let (pid1, pid2, kind) = (self.pid(), self.pid(), self.kind());
        let idx1 = self.number();
        let idx1 = self.with_high_bits(idx1);
        let (mut idx2, mut at) = self.address();
        // Other kinds take a number here, and must not take it for an address.
        if kind as u32 != KCMP_EPOLL_TFD as u32 && self.rng.u32(..8) > 0 {
            let number = self.number();
            (idx2, at) = (self.with_high_bits(number), None);
        }
        Call {
            pid1,
            pid2,
            kind,
            idx1,
            idx2,
            at,
            slot: self.slot(),
        }
    }

    fn step(&mut self, counts: &mut Counts) -> Result<(), Failure> {
        let call = self.random_call();
        if let Some(at) = call.at {
            self.scene.memory.write(at, call.slot);
        }
        let answer = kcmp_raw(call.pid1, call.pid2, call.kind, call.idx1, call.idx2);
        let expected = self.scene.expected(&call);
        match ANSWERS.iter().position(|&(known, _)| known == answer) {
            Some(i) if expected & 1 << i != 0 => counts.count(u64::from(call.kind as u32), i),
            _ => {
                let expected = names(expected);
                return Err(Failure(format!("{call:?}: {answer}, expected {expected}")));
            }
        }
        if let Some(at) = call.at {
            let slot = self.scene.memory.read(at);
            ensure!(slot == call.slot, "{call:?} has changed the slot: {slot:?}");
        }
        Ok(())
    }
}

/// Fuzzes from where this process is. Its files are closed.
fn fuzz(place: &Place, calls: u64, seed: u64) -> Result<(), Failure> {
    println!("# {calls} calls with seed {seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    let scene = Scene::new(place, &mut rng)?;
    let mut fuzzer = Fuzzer { scene, rng };
    let mut counts = Counts::default();
    let begin = Instant::now();
    for n in 1..=calls {
        fuzzer.step(&mut counts).map_err(|failure| {
            Failure(format!("call {n} of {calls} with seed {seed}: {failure}"))
        })?;
    }
    ensure!(
        fuzzer.scene.memory.is_unchanged(),
        "the memory around slots has changed"
    );

    println!("# {:.1} s, answers:", begin.elapsed().as_secs_f32());
    counts.print();
    let mut missing = VERDICT | ESRCH | EFAULT | EBADF | EINVAL | ENOENT;
    if let Place::User { .. } = place {
        missing |= EPERM;
    }
    missing &= !counts.seen(KCMP_EPOLL_TFD);
    ensure!(missing == 0, "never seen: {}", names(missing));
    Ok(())
}

fn fuzz_as_root(calls: u64, seed: u64) -> Result<Done, Failure> {
    let fuzzer = fork(|| report(|| fuzz(&Place::Root, calls, seed)))?;
    outcome(wait(fuzzer)?)
}

fn has_namespaces(names: &[&str]) -> bool {
    let path = Path::new("/proc/self/ns");
    names.iter().all(|name| path.join(name).exists())
}

/// Puts processes into the pid namespace in which `launcher` forks, which those that live there may
/// not ptrace. Gives the pid of their parent, and their own in the namespace.
fn fork_strangers(launcher: Pid) -> io::Result<(Pid, Vec<Pid>)> {
    let namespace = File::open(format!("/proc/{launcher}/ns/pid_for_children"))?;
    let prepare: [fn() -> io::Result<()>; 4] = [
        || Ok(()),
        || become_user(OTHER_USER, OTHER_USER),
        || become_user(USER, OTHER_USER),
        || become_user(OTHER_USER, USER),
    ];
    let (ours, theirs) = UnixStream::pair()?;
    let parent = fork(|| {
        let run = || {
            // The namespace ends when they are reaped: by this process, without its doing.
            disown_children();
            // SAFETY: No memory is involved.
            cvt(unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWPID) })?;
            for prepare in prepare {
                fork(|| stay(&theirs, prepare))?;
            }
            sleep_until_killed()
        };
        run().unwrap_or_else(|e| {
            let _ = send_pid(&theirs, -errno(&e));
            1
        })
    })?;
    let pids = prepare.iter().map(|_| receive_pid(&ours)).collect();
    match pids {
        Ok(pids) => Ok((parent, pids)),
        Err(e) => {
            kill(parent)?;
            wait(parent)?;
            Err(e)
        }
    }
}

fn fuzz_as_user(calls: u64, seed: u64) -> Result<Done, Failure> {
    if !has_namespaces(&["user", "pid"]) {
        return Ok(Done::Skipped("no user or pid namespaces".into()));
    }
    let (ours, theirs) = UnixStream::pair()?;
    let enter = || {
        become_user(USER, USER)?;
        unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWPID)
    };
    let (launcher, fuzzer) = launch(enter, || {
        report(|| {
            let count = receive_pid(&theirs)?;
            let strangers = (0..count).map(|_| receive_pid(&theirs));
            let strangers = strangers.collect::<io::Result<_>>()?;
            fuzz(&Place::User { strangers }, calls, seed)
        })
    })?;
    let (parent, strangers) = match fork_strangers(launcher) {
        Ok(forked) => forked,
        Err(e) => {
            kill(fuzzer)?;
            wait(launcher)?;
            return Err(e.into());
        }
    };
    send_pid(&ours, strangers.len() as Pid)?;
    for pid in strangers {
        send_pid(&ours, pid)?;
    }
    let status = wait(launcher)?;
    kill(parent)?;
    wait(parent)?;
    outcome(status)
}

// --- Pid namespaces ------------------------------------------------------------------------------

/// The numbers of the files in the test of pid namespaces.
const FILE: RawFd = 100;
const OTHER_FILE: RawFd = 101;
const EPOLL: RawFd = 102;

fn file_of(pid: Pid, fd: RawFd) -> FileOf {
    FileOf { pid, fd }
}

/// Asks whether a file of one process is the target that the epoll file of another has.
fn ask(one: Pid, fd: RawFd, two: Pid) -> Result<Verdict, i32> {
    let epoll = file_of(two, EPOLL);
    let target = TargetOf {
        epoll,
        tfd: FILE,
        toff: 0,
    };
    kcmp_target(file_of(one, fd), target).map_err(|e| errno(&e))
}

/// What the first process of a pid namespace sees. `outside` are numbers that only mean something
/// outside.
fn look_from_inside(outside: &[Pid]) -> Result<(), Failure> {
    ensure!(getpid() == 1, "the first process has pid {}", getpid());
    // The child has no OTHER_FILE, but an epoll set with it.
    let child = fork_sleeper(|| {
        place(epoll_create()?, EPOLL)?;
        dup2(OTHER_FILE, FILE)?;
        epoll_ctl(EPOLL, libc::EPOLL_CTL_ADD, FILE, libc::EPOLLIN, 0)?;
        close(OTHER_FILE)
    })?;
    ensure!(child == 2, "its child has pid {child}");

    let equal = |answer: Result<Verdict, i32>| answer == Ok(Verdict::Equal);
    let unequal = |answer: Result<Verdict, i32>| answer.is_ok_and(|v| v != Verdict::Equal);
    ensure!(equal(ask(1, FILE, 1)), "1 has not its own target");
    ensure!(unequal(ask(1, OTHER_FILE, 1)), "1 has another target");
    ensure!(equal(ask(1, OTHER_FILE, 2)), "2 has not its own target");
    ensure!(equal(ask(2, FILE, 2)), "2 does not find its own target");
    ensure!(unequal(ask(2, FILE, 1)), "2 has the target of 1");
    ensure!(
        ask(2, OTHER_FILE, 1) == Err(libc::EBADF),
        "2 has the files of 1"
    );
    for &pid in outside.iter().chain(&[0, -1, 3, Pid::MAX]) {
        for (one, two) in [(pid, 1), (1, pid), (pid, pid)] {
            let answer = ask(one, FILE, two);
            ensure!(
                answer == Err(libc::ESRCH),
                "{one} and {two}, seen from inside: {answer:?}"
            );
        }
    }
    Ok(())
}

/// In a child pid namespace, pids are those of the namespace; from the parent, the same processes
/// have the pids that fork() gave.
fn pid_namespaces() -> Result<Done, Failure> {
    if !has_namespaces(&["pid"]) {
        return Ok(Done::Skipped("no pid namespaces".into()));
    }
    place(eventfd()?, FILE)?;
    place(eventfd()?, OTHER_FILE)?;
    place(epoll_create()?, EPOLL)?;
    epoll_ctl(EPOLL, libc::EPOLL_CTL_ADD, FILE, libc::EPOLLIN, 0)?;

    let (ours, theirs) = UnixStream::pair()?;
    let us = getpid();
    let body = move || {
        report(|| {
            let (launcher, outer) = (receive_pid(&theirs)?, receive_pid(&theirs)?);
            look_from_inside(&[us, launcher, outer])?;
            // Ends when the look from outside is done.
            send_pid(&theirs, 1)?;
            receive_pid(&theirs)?;
            Ok(())
        })
    };
    let (launcher, outer) = launch(|| unshare(libc::CLONE_NEWPID), body)?;
    let look = || -> Result<(), Failure> {
        send_pid(&ours, launcher)?;
        send_pid(&ours, outer)?;
        receive_pid(&ours)?;
        let pairs = [(outer, outer), (us, outer), (outer, us)];
        for (one, two) in pairs {
            let answer = ask(one, FILE, two);
            ensure!(answer == Ok(Verdict::Equal), "{one} and {two}: {answer:?}");
        }
        // Pid 1 is another process here.
        let vm = |one: Pid, two: Pid| kcmp_raw(one as u64, two as u64, KCMP_VM, 0, 0);
        let answers = [vm(outer, outer), vm(1, outer)];
        ensure!(
            answers[0] == 0 && answers[1] != 0,
            "pid 1 and {outer}, seen from outside: {answers:?}"
        );
        send_pid(&ours, 1)?;
        Ok(())
    };
    let result = look();
    if result.is_err() {
        kill(outer)?;
    }
    let status = wait(launcher)?;
    result?;
    close_range(FILE..EPOLL + 1)?;
    outcome(status)
}

fn parse_args(parser: &mut lexopt::Parser) -> Result<(u64, u64), lexopt::Error> {
    let (calls, seed) = parse_amount_and_seed(parser, "calls", 400_000)?;
    if calls < CALLS_MIN {
        return Err(format!("--calls: at least {CALLS_MIN}, to see each answer").into());
    }
    Ok((calls, seed))
}

fn main() -> ExitCode {
    start_as_root(HELP, parse_args, |(calls, seed)| {
        Ok(run_tests(&[
            ("root", &|| fuzz_as_root(calls / 2, seed)),
            ("user in its own user and pid namespace", &|| {
                fuzz_as_user(calls - calls / 2, seed)
            }),
            ("pid namespaces", &pid_namespaces),
        ]))
    })
}
