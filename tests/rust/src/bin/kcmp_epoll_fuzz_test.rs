// SPDX-License-Identifier: GPL-2.0

//! A fuzzer for kcmp(2).
//!
//! Sets up a scene in which every process, file, entry and address is known, and which does not
//! change. Then calls kcmp() with random and hostile arguments, and compares each result with the
//! one that `kernel/kcmp.c` must return: the order, or the error that is checked first.

use kcmp_epoll::*;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read, Write};
use std::ops::Range;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::ptr;

const HELP: &str = "\
Call kcmp(2) with random and hostile arguments, as root and as an ordinary user
in its own user and PID namespaces.

Usage: kcmp_epoll_fuzz_test [--calls N] [--seed N]

  --calls N   number of calls, at least 20000 (default 400000)
  --seed N    repeat a run with the seed that it printed (default: a new seed)

Must be run as root. Prints TAP.
";
/// Enough calls to see each result.
const CALLS_MIN: u64 = 20_000;

/// The fd at which each file is opened, and which identifies it here. The last are epoll files.
const FILES: Range<RawFd> = 100..120;
const EPOLLS: Range<RawFd> = 116..120;
/// The fds under which many files are added, one after the other.
const SHARED: Range<RawFd> = 120..124;
const FDS: Range<RawFd> = FILES.start..SHARED.end;
/// Stands for the files of stdin, stdout and stderr, which may be the same or not.
const STANDARD: RawFd = 0;

/// The kernel's `PID_MAX_LIMIT`: all pids are below.
const PID_LIMIT: Pid = 4 * 1024 * 1024;
const USER: u32 = 1000;
const OTHER_USER: u32 = 1001;

// --- Results -------------------------------------------------------------------------------------

/// Results that a call may have: a bit for each of [`ANSWERS`], in that order.
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
const ORDER: Answers = EQUAL | UNEQUAL;

fn names(answers: Answers) -> String {
    let known = (0..).zip(ANSWERS).filter(|(i, _)| answers & 1 << i != 0);
    let names: Vec<&str> = known.map(|(_, (_, name))| name).collect();
    names.join(" or ")
}

// --- Processes -----------------------------------------------------------------------------------

/// The file at each fd of a process.
#[derive(Clone, Default)]
struct Table(BTreeMap<RawFd, RawFd>);

impl Table {
    /// Like the kernel, looks at the low 32 bits only.
    fn get(&self, idx: u64) -> Option<RawFd> {
        self.0.get(&(idx as RawFd)).copied()
    }

    fn close(&mut self, fd: RawFd) -> io::Result<()> {
        self.0.remove(&fd);
        close(fd)
    }

    fn dup2(&mut self, from: RawFd, to: RawFd) -> io::Result<()> {
        self.0.insert(to, self.0[&from]);
        dup2(from, to)
    }

    /// Closes and copies some files of this process.
    fn shuffle(&mut self, rng: &mut Rng) -> io::Result<()> {
        for _ in 0..8 {
            let (from, to) = (rng.fd(FDS), rng.fd(FDS));
            if self.0.contains_key(&from) {
                match rng.below(3) {
                    0 => self.close(from)?,
                    _ => self.dup2(from, to)?,
                }
            }
        }
        Ok(())
    }
}

/// A process, as the caller may see it.
enum Process {
    /// The PID namespace of the caller has no such pid.
    Absent,
    /// The caller may not ptrace it.
    Forbidden,
    /// Not started by this test; may not exist.
    Unknown,
    Known(Table),
}

fn become_user(uid: u32, gid: u32) -> io::Result<()> {
    // SAFETY: No memory is involved: the list of groups is empty.
    unsafe {
        cvt(c::setgroups(0, ptr::null()))?;
        cvt(c::setresgid(gid, gid, gid))?;
        cvt(c::setresuid(uid, uid, uid))?;
    }
    // The change of credentials has cleared the dumpable flag, and others could not ptrace us.
    set_dumpable(true)
}

fn set_dumpable(dumpable: bool) -> io::Result<()> {
    // SAFETY: No memory is involved.
    cvt(unsafe { c::prctl(c::PR_SET_DUMPABLE, u64::from(dumpable)) }).map(drop)
}

fn unshare(flags: i32) -> io::Result<()> {
    // SAFETY: No memory is involved.
    cvt(unsafe { c::unshare(flags) }).map(drop)
}

fn send_pid(mut stream: &UnixStream, pid: Pid) -> io::Result<()> {
    stream.write_all(&pid.to_ne_bytes())
}

/// Sends a negative errno in place of a pid.
fn send_error(stream: &UnixStream, error: io::Error) -> i32 {
    // If the other end is closed, there is nobody to tell.
    let _ = send_pid(stream, -errno(&error));
    1
}

fn receive_pid(mut stream: &UnixStream) -> io::Result<Pid> {
    let mut bytes = [0; 4];
    stream.read_exact(&mut bytes)?;
    match Pid::from_ne_bytes(bytes) {
        pid if pid > 0 => Ok(pid),
        error => Err(io::Error::from_raw_os_error(-error)),
    }
}

/// The life of a process that does nothing: it runs `prepare`, reports its pid in its own PID
/// namespace, and keeps the files at known fds open.
fn stay(ready: &UnixStream, prepare: impl FnOnce() -> io::Result<()>) -> i32 {
    let sleep = || {
        prepare()?;
        send_pid(ready, getpid())?;
        close_range(3..FDS.start)?;
        sleep_until_killed()
    };
    sleep().unwrap_or_else(|e| send_error(ready, e))
}

/// Forks a process that does nothing. Returns its pid when it is ready.
fn fork_sleeper(prepare: impl FnOnce() -> io::Result<()>) -> io::Result<Pid> {
    let (ours, theirs) = UnixStream::pair()?;
    let pid = fork(|| stay(&theirs, prepare))?;
    receive_pid(&ours)?;
    Ok(pid)
}

/// Forks a launcher that enters new namespaces, and forks a child that runs `body` in them. Returns
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
        launch().unwrap_or_else(|e| send_error(&theirs, e))
    })?;
    Ok((launcher, receive_pid(&ours)?))
}

/// Forks a process that does nothing, as the first one of a PID namespace.
fn fork_sleeper_in_namespace() -> io::Result<Pid> {
    let (ours, theirs) = UnixStream::pair()?;
    let enter = || {
        end_with_parent()?;
        unshare(c::CLONE_NEWPID)
    };
    let (_, pid) = launch(enter, || stay(&theirs, || Ok(())))?;
    receive_pid(&ours)?;
    Ok(pid)
}

fn outcome(status: i32) -> Result<Done, Failure> {
    ensure!(status == 0, "ended with status {status}");
    Ok(Done::Passed)
}

// --- Addresses -----------------------------------------------------------------------------------

type Slot = c::kcmp_epoll_slot;
const SLOT: usize = size_of::<Slot>();

/// A page that is mapped at several addresses, each between two pages that cannot be accessed.
struct Memory {
    size: usize,
    /// Where the page is mapped for reading and writing, reading, writing, and neither. The kernel
    /// can read it at the first three.
    pages: [usize; 4],
}

impl Memory {
    fn new() -> io::Result<Memory> {
        // SAFETY: The name is a valid C string, and no other memory is involved.
        let (size, fd) = unsafe {
            let size = c::sysconf(c::_SC_PAGESIZE as i32);
            let fd = cvt(c::memfd_create(c"slots".as_ptr(), 0))?;
            cvt(c::ftruncate(fd, size))?;
            (size as usize, fd)
        };
        let map = |address, pages, rights, flags, fd| {
            // SAFETY: Replaces no mappings but those made here.
            match unsafe { c::mmap(address, pages * size, rights, flags, fd, 0) } {
                failed if failed.addr() == usize::MAX => Err(io::Error::last_os_error()),
                address => Ok(address),
            }
        };
        let mut pages = [0; 4];
        let (read, write) = (c::PROT_READ, c::PROT_WRITE);
        let rights = [read | write, read, write, c::PROT_NONE];
        for (page, rights) in pages.iter_mut().zip(rights) {
            let private = c::MAP_PRIVATE | c::MAP_ANONYMOUS;
            let around = map(ptr::null_mut(), 3, c::PROT_NONE, private, -1)?;
            let (middle, flags) = (around.wrapping_byte_add(size), c::MAP_SHARED | c::MAP_FIXED);
            *page = map(middle, 1, rights, flags, fd)? as usize;
        }
        close(fd)?;
        Ok(Memory { size, pages })
    }

    fn write(&mut self, at: usize, slot: Slot) {
        assert!(at + SLOT <= self.size);
        // SAFETY: The slot lies within the page, which may be written.
        unsafe { ((self.pages[0] + at) as *mut Slot).write_unaligned(slot) };
    }
}

// --- The scene -----------------------------------------------------------------------------------

/// Where the caller is.
enum Place {
    Root,
    /// In a PID namespace of its own, with `strangers` that it may not ptrace. The pid `outside` is
    /// that of a process in the parent namespace.
    User {
        strangers: Vec<Pid>,
        outside: Pid,
    },
}

struct Scene {
    /// The position of each of [`FILES`] in the order of `KCMP_FILE`.
    ranks: Vec<usize>,
    /// The target files of each fd in each interest list, in the order of toff.
    entries: BTreeMap<(RawFd, RawFd), Vec<RawFd>>,
    /// Those that are [`Process::Known`] come first.
    processes: Vec<(Pid, Process)>,
    known: usize,
    /// The process of every other pid.
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
    /// The offset in the page of the slot at `idx2`, or [`None`] if that is a bad address.
    at: Option<usize>,
    slot: Slot,
}

/// Opens all files, and adds entries: their epoll files, fds and target files. Returns them, and
/// the table of this process.
fn open_files(rng: &mut Rng) -> io::Result<(Table, BTreeSet<[RawFd; 3]>)> {
    let mut table = Table::default();
    for fd in (0..3).filter(|fd| Path::new(&format!("/proc/self/fd/{fd}")).exists()) {
        table.0.insert(fd, STANDARD);
    }
    for fd in FILES {
        let file = match fd {
            _ if EPOLLS.contains(&fd) => epoll_create()?,
            _ if fd % 4 == 0 => lone_socket()?,
            _ => eventfd()?,
        };
        place(file, fd)?;
        table.0.insert(fd, fd);
    }

    let mut entries = BTreeSet::new();
    let mut add = |efd, tfd, file| match entries.insert([efd, tfd, file]) {
        true => epoll_ctl(efd, c::EPOLL_CTL_ADD, tfd, c::EPOLLIN, file as u64),
        false => Ok(()),
    };
    for _ in 0..200 {
        let (file, tfd) = (rng.fd(FILES.start..EPOLLS.start), rng.fd(SHARED));
        table.dup2(file, tfd)?;
        // The last interest list stays empty.
        add(rng.fd(EPOLLS.start..EPOLLS.end - 1), tfd, file)?;
    }
    for file in (FILES.start..EPOLLS.start).step_by(3) {
        add(EPOLLS.start, file, file)?;
    }
    add(EPOLLS.start, EPOLLS.start + 1, EPOLLS.start + 1)?;
    Ok((table, entries))
}

/// For each of [`FILES`], the number of files that are less.
fn rank_files() -> io::Result<Vec<usize>> {
    let pid = getpid();
    let rank = |fd| {
        let compare = |other| kcmp_files(FileOf { pid, fd: other }, FileOf { pid, fd });
        let results: Vec<Ordering> = FILES.map(compare).collect::<io::Result<_>>()?;
        Ok(results.into_iter().filter(|r| r.is_lt()).count())
    };
    FILES.map(rank).collect()
}

impl Scene {
    fn new(place: &Place, rng: &mut Rng) -> Result<Scene, Failure> {
        close_range(3..RawFd::MAX)?;
        let (mut table, added) = open_files(rng)?;
        let (mut entries, mut listed) = (BTreeMap::new(), BTreeSet::new());
        for fd in EPOLLS {
            for Listed { tfd, data } in list_entries(&format!("/proc/self/fdinfo/{fd}"))? {
                let files: &mut Vec<RawFd> = entries.entry((fd, tfd)).or_default();
                files.push(data as RawFd);
                listed.insert([fd, tfd, data as RawFd]);
            }
        }
        ensure!(listed == added, "{listed:?} listed, {added:?} added");
        let ranks = rank_files()?;

        let mut processes = Vec::new();
        let mut add = |pid, table: &Table| processes.push((pid, Process::Known(table.clone())));
        let hidden = fork_sleeper(|| set_dumpable(false))?;
        add(fork_sleeper(|| Ok(()))?, &table);
        if let Place::Root = place {
            add(hidden, &table);
            add(fork_sleeper_in_namespace()?, &table);
            table.shuffle(rng)?;
            let other_user = || become_user(OTHER_USER, OTHER_USER);
            add(fork_sleeper(other_user)?, &table);
        }
        for _ in 0..2 {
            table.shuffle(rng)?;
            add(fork_sleeper(|| Ok(()))?, &table);
        }
        let zombie = fork(|| 0)?;
        // SAFETY: waitid() is not asked to write anything.
        cvt(unsafe {
            let options = c::WEXITED | c::WNOWAIT;
            c::waitid(c::P_PID, zombie as u32, ptr::null_mut(), options)
        })?;
        add(zombie, &Table::default());
        // Some files live on in other processes only.
        table.shuffle(rng)?;
        add(getpid(), &table);

        let known = processes.len();
        let others = match place {
            Place::Root => Process::Unknown,
            Place::User { strangers, outside } => {
                let forbidden = strangers.iter().chain([&hidden]);
                processes.extend(forbidden.map(|&pid| (pid, Process::Forbidden)));
                processes.push((*outside, Process::Absent));
                Process::Absent
            }
        };
        let dead = fork(|| 0)?;
        wait(dead)?;
        processes.push((dead, Process::Absent));
        Ok(Scene {
            ranks,
            entries,
            processes,
            known,
            others,
            memory: Memory::new()?,
        })
    }

    /// Returns the process of a pid. Like the kernel, uses the low 32 bits only.
    fn process(&self, pid: u64) -> &Process {
        let pid = pid as Pid;
        match self.processes.iter().find(|(p, _)| *p == pid) {
            Some((_, process)) => process,
            None if (1..PID_LIMIT).contains(&pid) => &self.others,
            None => &Process::Absent,
        }
    }

    /// The results that a call may have: nearly always only one.
    fn expected(&self, call: &Call) -> Answers {
        let kind = call.kind as u32;
        let any = match kind {
            c::KCMP_FILE => ORDER | EBADF,
            c::KCMP_VM..c::KCMP_SYSVSEM => ORDER,
            c::KCMP_SYSVSEM => ORDER | EOPNOTSUPP,
            c::KCMP_EPOLL_TFD => ORDER | EFAULT | EBADF | EINVAL | ENOENT,
            _ => EINVAL,
        };
        let (one, two) = match (self.process(call.pid1), self.process(call.pid2)) {
            (Process::Absent, _) | (_, Process::Absent) => return ESRCH,
            (Process::Forbidden, _) | (_, Process::Forbidden) => return EPERM,
            (Process::Known(one), Process::Known(two)) => (one, two),
            _ => return ESRCH | EPERM | any,
        };
        let same_process = call.pid1 as Pid == call.pid2 as Pid;
        match kind {
            c::KCMP_FILE => match (one.get(call.idx1), two.get(call.idx2)) {
                (Some(a), Some(b)) => self.compare(a, b),
                _ => EBADF,
            },
            c::KCMP_VM..=c::KCMP_SIGHAND if !same_process => UNEQUAL,
            c::KCMP_VM..c::KCMP_EPOLL_TFD if same_process => any & !UNEQUAL,
            c::KCMP_EPOLL_TFD => self.expected_of_entry(call, one, two),
            _ => any,
        }
    }

    fn expected_of_entry(&self, call: &Call, one: &Table, two: &Table) -> Answers {
        if call.at.is_none() {
            return EFAULT;
        }
        let Slot { efd, tfd, toff } = call.slot;
        let (Some(file), Some(epoll)) = (one.get(call.idx1), two.get(efd.into())) else {
            return EBADF;
        };
        if !EPOLLS.contains(&epoll) {
            return EINVAL;
        }
        let files = self.entries.get(&(epoll, tfd as RawFd));
        match files.and_then(|files| files.get(toff as usize)) {
            Some(&target) => self.compare(file, target),
            None => ENOENT,
        }
    }

    fn compare(&self, a: RawFd, b: RawFd) -> Answers {
        let rank = |file| self.ranks[(file - FILES.start) as usize];
        match (a, b) {
            (STANDARD, STANDARD) => ORDER,
            (STANDARD, _) | (_, STANDARD) => UNEQUAL,
            _ => match rank(a).cmp(&rank(b)) {
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
    rng: Rng,
    /// The results of `KCMP_EPOLL_TFD`.
    counts: [u64; ANSWERS.len()],
}

impl Fuzzer {
    /// At times, sets bits that the kernel ignores.
    fn with_high_bits(&mut self, low: u32) -> u64 {
        match self.rng.below(8) {
            0 => u64::from(low) | self.rng.word() << 32,
            1 => low as i32 as u64,
            _ => u64::from(low),
        }
    }

    fn pid(&mut self) -> u64 {
        let processes = &self.scene.processes;
        let pid = match self.rng.below(32) {
            0..26 => processes[self.rng.below(self.scene.known)].0,
            26..29 => processes[self.rng.below(processes.len())].0,
            29 => self.rng.fd(1..400),
            30 => {
                let (min, max) = (Pid::MIN, Pid::MAX);
                self.rng.pick(&[0, -1, min, max, PID_LIMIT, PID_LIMIT - 1])
            }
            _ => self.rng.word() as Pid,
        };
        self.with_high_bits(pid as u32)
    }

    fn kind(&mut self) -> u64 {
        let kind = match self.rng.below(16) {
            0..10 => c::KCMP_EPOLL_TFD,
            10..12 => c::KCMP_FILE,
            12..14 => self.rng.below(c::KCMP_TYPES as usize) as u32,
            14 => self.rng.pick(&[8, 9, 0xff, 1 << 31, u32::MAX]),
            _ => self.rng.word() as u32,
        };
        self.with_high_bits(kind)
    }

    /// An fd, open or not.
    fn fd(&mut self) -> u32 {
        match self.rng.below(16) {
            0..14 => self.rng.fd(FDS) as u32,
            14 => {
                let (end, max) = (FDS.end as u32, i32::MAX as u32);
                self.rng.pick(&[0, 1, 2, end, max, max + 1, u32::MAX])
            }
            _ => self.rng.word() as u32,
        }
    }

    fn slot(&mut self) -> Slot {
        let efd = match self.rng.below(16) {
            0..13 => self.rng.fd(EPOLLS) as u32,
            _ => self.fd(),
        };
        let tfd = match self.rng.below(16) {
            0..12 => self.rng.fd(SHARED) as u32,
            _ => self.fd(),
        };
        let toff = match self.rng.below(16) {
            0..15 => self.rng.below(16) as u32,
            _ => self.rng.pick(&[u32::MAX, 1 << 31, 1 << 16]),
        };
        Slot { efd, tfd, toff }
    }

    /// An address of a slot, and its offset in the page; or a bad address, and [`None`].
    fn address(&mut self) -> (u64, Option<usize>) {
        let Memory { size, pages, .. } = self.scene.memory;
        let rng = &mut self.rng;
        let mut at = rng.below(size - SLOT + 1);
        if rng.below(2) == 0 {
            at &= !3;
        }
        let bad = match rng.below(32) {
            // Reaches into the page behind, or begins in the page before.
            0 => pages[0] + size - 1 - rng.below(SLOT - 1),
            1 => pages[0] - 1 - rng.below(SLOT - 1),
            2 => pages[3] + at,
            3 => rng.below(4096),
            // The upper half is the kernel's. In the lower half, nothing is mapped this high.
            4 => usize::MAX - rng.below(1 << 40),
            5 => 1 << 63 | rng.word() as usize,
            6 => (1 << 62 | rng.word() as usize) & !(1 << 63),
            _ => return ((rng.pick(&pages[..3]) + at) as u64, Some(at)),
        };
        (bad as u64, None)
    }

    fn random_call(&mut self) -> Call {
        let (pid1, pid2, kind) = (self.pid(), self.pid(), self.kind());
        let (idx1, slot) = (self.fd(), self.slot());
        let idx1 = self.with_high_bits(idx1);
        let (mut idx2, mut at) = self.address();
        // Other types take an fd here, or ignore it, and must not read a slot.
        if kind as u32 != c::KCMP_EPOLL_TFD && self.rng.below(8) > 0 {
            let fd = self.fd();
            (idx2, at) = (self.with_high_bits(fd), None);
        }
        Call {
            pid1,
            pid2,
            kind,
            idx1,
            idx2,
            at,
            slot,
        }
    }

    fn step(&mut self) -> Result<(), Failure> {
        let call = self.random_call();
        if let Some(at) = call.at {
            self.scene.memory.write(at, call.slot);
        }
        let answer = kcmp_raw(call.pid1, call.pid2, call.kind, call.idx1, call.idx2);
        let expected = self.scene.expected(&call);
        let found = ANSWERS.iter().position(|&(known, _)| known == answer);
        let Some(i) = found.filter(|i| expected & 1 << i != 0) else {
            let expected = names(expected);
            return Err(format!("{call:?}: {answer}, expected {expected}").into());
        };
        self.counts[i] += u64::from(call.kind as u32 == c::KCMP_EPOLL_TFD);
        Ok(())
    }
}

/// Fuzzes from this process, which is at `place`. Closes its files.
fn fuzz(place: &Place, calls: u64, seed: u64) -> Result<(), Failure> {
    println!("# {calls} calls with seed {seed}");
    let mut rng = Rng::new(seed);
    let scene = Scene::new(place, &mut rng)?;
    let counts = [0; ANSWERS.len()];
    let mut fuzzer = Fuzzer { scene, rng, counts };
    for n in 1..=calls {
        let failed = |failure| format!("call {n} of {calls} with seed {seed}: {failure}");
        fuzzer.step().map_err(failed)?;
    }
    let mut missing = ORDER | ESRCH | EFAULT | EBADF | EINVAL | ENOENT;
    if let Place::User { .. } = place {
        missing |= EPERM;
    }
    print!("# KCMP_EPOLL_TFD:");
    for (i, (_, name)) in ANSWERS.iter().enumerate() {
        if fuzzer.counts[i] > 0 {
            print!(" {name} {}", fuzzer.counts[i]);
            missing &= !(1 << i);
        }
    }
    println!();
    ensure!(missing == 0, "never seen: {}", names(missing));
    Ok(())
}

fn fuzz_as_root(calls: u64, seed: u64) -> Result<Done, Failure> {
    let fuzzer = fork(|| report(|| fuzz(&Place::Root, calls, seed)))?;
    outcome(wait(fuzzer)?)
}

fn fuzz_as_user(calls: u64, seed: u64) -> Result<Done, Failure> {
    for namespace in ["/proc/self/ns/user", "/proc/self/ns/pid"] {
        if !Path::new(namespace).exists() {
            return Ok(Done::Skipped(format!("no {namespace}")));
        }
    }
    let strangers: [fn() -> io::Result<()>; 4] = [
        || Ok(()),
        || become_user(OTHER_USER, OTHER_USER),
        || become_user(USER, OTHER_USER),
        || become_user(OTHER_USER, USER),
    ];
    let outside = getpid();
    let (ours, theirs) = UnixStream::pair()?;
    let enter = || {
        become_user(USER, USER)?;
        unshare(c::CLONE_NEWUSER | c::CLONE_NEWPID)
    };
    let launched = launch(enter, || {
        report(|| {
            ensure!(getpid() == 1, "the first process has pid {}", getpid());
            let strangers = strangers.iter().map(|_| receive_pid(&theirs));
            let strangers = strangers.collect::<Result<_, _>>()?;
            fuzz(&Place::User { strangers, outside }, calls, seed)
        })
    });
    let launcher = match launched {
        Ok((launcher, _)) => launcher,
        Err(e) if matches!(e.raw_os_error(), Some(c::EPERM | c::EACCES | c::ENOSPC)) => {
            return Ok(Done::Skipped(format!("no user and PID namespace: {e}")));
        }
        Err(e) => return Err(e.into()),
    };
    // Puts the strangers into the PID namespace in which the launcher forks.
    let parent = fork(|| {
        let run = || {
            let namespace = File::open(format!("/proc/{launcher}/ns/pid_for_children"))?;
            // SAFETY: No memory is involved.
            cvt(unsafe { c::setns(namespace.as_raw_fd(), c::CLONE_NEWPID) })?;
            // The namespace only ends when they have been reaped, which the kernel does for us.
            disown_children()?;
            for prepare in strangers {
                fork(|| stay(&ours, prepare))?;
            }
            sleep_until_killed()
        };
        run().unwrap_or_else(|e| send_error(&ours, e))
    })?;
    let status = wait(launcher)?;
    kill(parent)?;
    wait(parent)?;
    outcome(status)
}

fn main() -> ExitCode {
    let options = [("--calls", 400_000), ("--seed", new_seed())];
    start(HELP, options, |[calls, seed]| {
        ensure!(calls >= CALLS_MIN, "--calls: at least {CALLS_MIN}");
        let root = || fuzz_as_root(calls / 2, seed);
        let user = || fuzz_as_user(calls - calls / 2, seed);
        as_root(|| {
            Ok(run_tests(&[
                ("root", &root),
                ("user in its own user and pid namespace", &user),
            ]))
        })
    })
}
