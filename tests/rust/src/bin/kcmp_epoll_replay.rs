// SPDX-License-Identifier: GPL-2.0

//! Records a stream of random operations, and replays it. The outputs of several kernels for the
//! same stream can be compared.
//!
//! Entries of one fd are in the order of kernel addresses, which differ in each run. Thus the
//! stream looks up all entries of an fd at once, and the outcome is their number, and how many of
//! them compare equal. The replay also checks that the results are consistent with one order.

use kcmp_epoll::*;
use lexopt::prelude::*;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::ops::Range;
use std::os::fd::{AsRawFd, RawFd};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const HELP: &str = "\
Record a stream of random operations on epoll files, most of them kcmp(2), or
replay it, and print a hash of the outcomes of each block of 1000. The output has
to be the same on all kernels.

Usage: kcmp_epoll_replay --record N [--seed N] FILE
       kcmp_epoll_replay --replay [--block N] FILE

  --record N  write N operations to FILE
  --seed N    seed of the stream, which is printed (default: a new one)
  --replay    perform the operations in FILE
  --block N   print each operation of block N, and its outcome

The replay prints TAP: its test is that the results are consistent with one
order.
";

/// The number of operations in a block.
const BLOCK: u64 = 1000;
/// The number of blocks between checks of the order.
const BLOCKS_PER_CHECK: u64 = 8;

/// The fds of the operations. Most entries are added under the few fds in SHARED, which are reused
/// all the time. Those in SPARE hold the files open for a while.
const EPOLLS: Range<RawFd> = 90..94;
const SHARED: Range<RawFd> = 100..104;
const SPARE: Range<RawFd> = 104..184;
/// The processes: this one, and those that it forks.
const PROCESSES: usize = 4;
/// The sockets to the other processes: the first of the ends in this process, and the end in each
/// of the others.
const CONTROLS: RawFd = 50;
const CONTROL: RawFd = 60;

// --- Operations ----------------------------------------------------------------------------------

#[derive(Clone, Copy, Debug, PartialEq)]
enum Code {
    /// Opens an eventfd, a socket or an epoll file at `fd`.
    Eventfd,
    Socket,
    Epoll,
    /// Duplicates `efd` to `fd`.
    Dup2,
    Close,
    Add,
    Mod,
    Del,
    /// Forks process `one`, or ends it.
    Fork,
    Exit,
    /// Compares `fd` of `one` with all entries of `tfd` in `efd` of `two`, in ascending toff.
    /// `toff` determines how often each comparison is made, one to three times.
    Walk,
    /// Compares it with the entry at `toff`.
    Ask,
    /// The same with a slot that cannot be read: at the bad address with index `toff`.
    Unreadable,
    /// A call with a type that does not exist, in `toff`.
    NoType,
    /// Compares `fd` of `one` with `efd` of `two`.
    Files,
}

impl Code {
    const ALL: [Code; 15] = [
        Code::Eventfd,
        Code::Socket,
        Code::Epoll,
        Code::Dup2,
        Code::Close,
        Code::Add,
        Code::Mod,
        Code::Del,
        Code::Fork,
        Code::Exit,
        Code::Walk,
        Code::Ask,
        Code::Unreadable,
        Code::NoType,
        Code::Files,
    ];
}

/// An operation. Process `one` performs those that change something.
#[derive(Clone, Copy)]
struct Op {
    code: Code,
    one: usize,
    two: usize,
    fd: RawFd,
    efd: RawFd,
    tfd: RawFd,
    toff: u32,
}

/// An operation as recorded and sent.
type Words = [u64; 4];
const RECORD: usize = size_of::<Words>();

impl Op {
    fn encode(&self) -> Words {
        let pair = |a: u32, b: u32| u64::from(a) << 32 | u64::from(b);
        [
            self.code as u64,
            pair(self.one as u32, self.two as u32),
            pair(self.fd as u32, self.efd as u32),
            pair(self.tfd as u32, self.toff),
        ]
    }

    fn decode(words: Words) -> io::Result<Op> {
        let high = |i: usize| (words[i] >> 32) as u32;
        let low = |i: usize| words[i] as u32;
        let code = Code::ALL.get(words[0] as usize);
        match (code, high(1) as usize, low(1) as usize) {
            (Some(&code), one @ ..PROCESSES, two @ ..PROCESSES) => Ok(Op {
                code,
                one,
                two,
                fd: high(2) as RawFd,
                efd: low(2) as RawFd,
                tfd: high(3) as RawFd,
                toff: low(3),
            }),
            _ => Err(io::Error::other("not a record of this program")),
        }
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Op {
            code,
            one,
            two,
            fd,
            efd,
            tfd,
            toff,
        } = self;
        match code {
            Code::Eventfd | Code::Socket | Code::Epoll | Code::Close => {
                write!(f, "process {one}: {code:?} {fd}")
            }
            Code::Dup2 => write!(f, "process {one}: Dup2 {efd} to {fd}"),
            Code::Add | Code::Mod | Code::Del => write!(f, "process {one}: {code:?} {fd} in {efd}"),
            Code::Fork | Code::Exit => write!(f, "process {one}: {code:?}"),
            Code::Files => write!(f, "Files {fd} of process {one}, {efd} of process {two}"),
            Code::Walk => write!(
                f,
                "Walk {fd} of process {one}, tfd {tfd} in {efd} of process {two}"
            ),
            Code::Ask | Code::Unreadable | Code::NoType => write!(
                f,
                "{code:?} {fd} of process {one}, tfd {tfd} toff {toff} in {efd} of process {two}"
            ),
        }
    }
}

// --- Recording -----------------------------------------------------------------------------------

struct Recorder {
    rng: Rng,
    /// For each spare fd: the fd and the epoll file of the last entry that was added for its file.
    kept: [Option<(RawFd, RawFd)>; SPARE.end as usize],
    file: BufWriter<File>,
    left: u64,
}

impl Recorder {
    fn any_fd(&mut self) -> RawFd {
        match self.rng.below(16) {
            0..5 => self.rng.fd(SHARED),
            5..14 => self.rng.fd(SPARE),
            14 => self.rng.fd(EPOLLS),
            _ => self.rng.pick(&[-1, SPARE.end, RawFd::MAX]),
        }
    }

    fn any_efd(&mut self) -> RawFd {
        match self.rng.below(32) {
            0 => self.any_fd(),
            _ => self.rng.fd(EPOLLS),
        }
    }

    /// Draws a process. Process 0 always exists, the others come and go.
    fn process(&mut self) -> usize {
        match self.rng.below(4) {
            0 => 1 + self.rng.below(PROCESSES - 1),
            _ => 0,
        }
    }

    fn write(&mut self, op: Op) -> io::Result<()> {
        if self.left > 0 {
            self.left -= 1;
            for word in op.encode() {
                self.file.write_all(&word.to_le_bytes())?;
            }
        }
        Ok(())
    }

    /// An operation with random fds.
    fn random(&mut self, code: Code) -> Op {
        let tfd = match self.rng.below(16) {
            0 => self.any_fd(),
            _ => self.rng.fd(SHARED),
        };
        Op {
            code,
            one: self.process(),
            two: self.process(),
            fd: self.any_fd(),
            efd: self.any_efd(),
            tfd,
            toff: 0,
        }
    }

    fn record_lookup(&mut self) -> io::Result<()> {
        let code = match self.rng.below(16) {
            0..9 => Code::Walk,
            9..13 => Code::Ask,
            13 => Code::Files,
            14 => Code::Unreadable,
            _ => Code::NoType,
        };
        let mut op = self.random(code);
        // If an entry was added for the file, look for that one half of the time.
        if let (Some(&Some(kept)), true) = (self.kept.get(op.fd as usize), self.rng.below(2) == 0) {
            (op.tfd, op.efd) = kept;
        }
        op.toff = match code {
            Code::NoType => self.rng.pick(&[c::KCMP_TYPES, i32::MAX as u32, u32::MAX]),
            Code::Files => {
                op.efd = self.any_fd();
                0
            }
            _ => match self.rng.below(8) {
                0 => u32::MAX - self.rng.below(4) as u32,
                _ => self.rng.below(48) as u32,
            },
        };
        self.write(op)
    }

    /// Opens a new file, adds it under `fd`, and duplicates it to `spare`.
    fn record_entry(&mut self, one: usize, fd: RawFd, spare: RawFd) -> io::Result<()> {
        let code = match self.rng.below(16) {
            0 => Code::Epoll,
            1..5 => Code::Socket,
            _ => Code::Eventfd,
        };
        let op = Op {
            one,
            fd,
            ..self.random(code)
        };
        self.write(op)?;
        for _ in 0..1 + self.rng.below(3) {
            let efd = self.rng.fd(EPOLLS);
            let code = Code::Add;
            self.write(Op { code, efd, ..op })?;
            self.kept[spare as usize] = Some((fd, efd));
        }
        let keep = Op {
            code: Code::Dup2,
            efd: fd,
            fd: spare,
            ..op
        };
        self.write(keep)
    }

    /// Adds many files under one fd, as if they had arrived over a socket.
    fn record_many_entries(&mut self) -> io::Result<()> {
        let (one, fd) = (self.process(), self.rng.fd(SHARED));
        let count = self.rng.fd(8..40);
        let first = self.rng.fd(SPARE.start..SPARE.end - count);
        (first..first + count).try_for_each(|spare| self.record_entry(one, fd, spare))
    }

    fn record_change(&mut self) -> io::Result<()> {
        let code = match self.rng.below(64) {
            0..30 => {
                let (one, fd, spare) = (self.process(), self.rng.fd(SHARED), self.rng.fd(SPARE));
                return self.record_entry(one, fd, spare);
            }
            30..32 => return self.record_many_entries(),
            32..40 => Code::Dup2,
            40..45 => Code::Close,
            45..51 => Code::Add,
            51..54 => Code::Mod,
            54..58 => Code::Del,
            58..61 => Code::Fork,
            61 => Code::Exit,
            _ => Code::Epoll,
        };
        let mut op = self.random(code);
        match code {
            Code::Dup2 => op.efd = self.any_fd(),
            Code::Epoll => op.fd = self.rng.fd(EPOLLS),
            Code::Fork | Code::Exit => op.one = 1 + self.rng.below(PROCESSES - 1),
            _ => {}
        }
        self.write(op)
    }
}

fn record(operations: u64, seed: u64, path: &Path) -> io::Result<()> {
    let mut recorder = Recorder {
        rng: Rng::new(seed),
        kept: [None; SPARE.end as usize],
        file: BufWriter::new(File::create(path)?),
        left: operations,
    };
    for efd in EPOLLS {
        let epoll = Op {
            one: 0,
            fd: efd,
            ..recorder.random(Code::Epoll)
        };
        recorder.write(epoll)?;
    }
    while recorder.left > 0 {
        match recorder.rng.below(10) {
            0 => recorder.record_change()?,
            _ => recorder.record_lookup()?,
        }
    }
    recorder.file.flush()?;
    println!("# {operations} operations with seed {seed}");
    Ok(())
}

// --- Replaying -----------------------------------------------------------------------------------

/// Performs an operation that changes something in this process.
fn change(op: &Op) -> io::Result<()> {
    let Op { fd, efd, .. } = *op;
    match op.code {
        Code::Eventfd => place(eventfd()?, fd),
        Code::Epoll => place(epoll_create()?, fd),
        Code::Socket => place(lone_socket()?, fd),
        Code::Dup2 => dup2(efd, fd),
        Code::Close => close(fd),
        Code::Add => epoll_ctl(efd, c::EPOLL_CTL_ADD, fd, c::EPOLLIN, 0),
        Code::Mod => epoll_ctl(efd, c::EPOLL_CTL_MOD, fd, c::EPOLLOUT, 0),
        Code::Del => epoll_ctl(efd, c::EPOLL_CTL_DEL, fd, 0, 0),
        _ => unreachable!(),
    }
}

/// The main loop of the other processes: performs the operations that it receives, and replies with
/// the errno of each.
fn obey() -> io::Result<()> {
    end_with_parent()?;
    loop {
        let op = Op::decode(receive_words(CONTROL)?)?;
        if op.code == Code::Exit {
            return Ok(());
        }
        let error = change(&op).map_or_else(|e| errno(&e), |()| 0);
        send_words(CONTROL, &[error as u64])?;
    }
}

/// The outcome of an operation, reduced to what is the same in each run.
#[derive(Clone, Copy, Debug)]
enum Outcome {
    Done,
    /// The process does not exist, or exists already.
    Nothing,
    Errno(i32),
    Equal,
    Unequal,
    /// Any result of a comparison.
    Ordered,
    Walked {
        entries: u32,
        equal: u32,
    },
}

impl Outcome {
    fn words(self) -> [u32; 3] {
        match self {
            Outcome::Done => [0, 0, 0],
            Outcome::Nothing => [1, 0, 0],
            Outcome::Errno(error) => [2, error as u32, 0],
            Outcome::Equal => [3, 0, 0],
            Outcome::Unequal => [4, 0, 0],
            Outcome::Ordered => [5, 0, 0],
            Outcome::Walked { entries, equal } => [6, entries, equal],
        }
    }
}

/// FNV-1a.
struct Hash(u64);

impl Hash {
    fn new() -> Hash {
        Hash(0xcbf2_9ce4_8422_2325)
    }

    fn add(&mut self, words: &[u32]) {
        for byte in words.iter().flat_map(|word| word.to_le_bytes()) {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        }
    }
}

#[derive(Default)]
struct Counts {
    errors: BTreeMap<i32, u64>,
    walks: u64,
    entries: u64,
    equal: u64,
    /// The maximum number of entries of one fd.
    most: u32,
    checks: u64,
    /// The number of results that were compared with the order.
    compared: u64,
}

struct Replay {
    /// The processes that exist.
    pids: [Option<Pid>; PROCESSES],
    /// Addresses from which no slot can be read.
    unreadable: [u64; 4],
    counts: Counts,
    rng: Rng,
}

impl Replay {
    fn new() -> io::Result<Replay> {
        let size = page_size();
        let page = map(2 * size, c::PROT_READ, c::MAP_PRIVATE)?;
        // SAFETY: Nothing uses the page.
        cvt(unsafe { c::munmap(page.byte_add(size).cast(), size) })?;
        let page = page as u64;
        let end = page + size as u64;
        Ok(Replay {
            pids: [Some(getpid()), None, None, None],
            unreadable: [0, end - 4, end, u64::MAX - 4095],
            counts: Counts::default(),
            rng: Rng::new(0),
        })
    }

    /// The pid of a process; if it does not exist, a pid that no process has.
    fn pid(&self, process: usize) -> Pid {
        self.pids[process].unwrap_or(Pid::MAX)
    }

    fn fork(&mut self, process: usize) -> Result<Outcome, Failure> {
        if self.pids[process].is_some() {
            return Ok(Outcome::Nothing);
        }
        let [ours, theirs] = socketpair(c::SOCK_SEQPACKET)?;
        let pid = fork(|| {
            let run = || {
                close(ours)?;
                close_range(CONTROLS..CONTROLS + PROCESSES as RawFd)?;
                place(theirs, CONTROL)?;
                obey()
            };
            run().is_err().into()
        })?;
        close(theirs)?;
        place(ours, CONTROLS + process as RawFd)?;
        self.pids[process] = Some(pid);
        Ok(Outcome::Done)
    }

    fn change(&mut self, op: &Op) -> Result<Outcome, Failure> {
        let error = match (op.one, self.pids[op.one]) {
            (0, _) => change(op).map_or_else(|e| errno(&e), |()| 0),
            (_, None) => return Ok(Outcome::Nothing),
            (process, Some(pid)) => {
                let control = CONTROLS + process as RawFd;
                send_words(control, &op.encode())?;
                if op.code == Code::Exit {
                    let status = wait(pid)?;
                    ensure!(status == 0, "process {process} ended with status {status}");
                    close(control)?;
                    self.pids[process] = None;
                    return Ok(Outcome::Done);
                }
                let [error] = receive_words(control)?;
                error as i32
            }
        };
        Ok(match error {
            0 => Outcome::Done,
            error => Outcome::Errno(error),
        })
    }

    /// The file and the entry of a lookup.
    fn lookup(&self, op: &Op) -> (FileOf, EntryOf) {
        let file_of = |process, fd| FileOf {
            pid: self.pid(process),
            fd,
        };
        let entry = EntryOf {
            epoll: file_of(op.two, op.efd),
            tfd: op.tfd,
            toff: op.toff,
        };
        (file_of(op.one, op.fd), entry)
    }

    fn walk(&mut self, op: &Op) -> Result<Outcome, Failure> {
        let (file, mut entry) = self.lookup(op);
        let (mut entries, mut equal) = (0, 0);
        loop {
            entry.toff = entries;
            let result = kcmp_entry(file, entry);
            for _ in 0..op.toff % 3 {
                let again = kcmp_entry(file, entry);
                let same = format!("{again:?}") == format!("{result:?}");
                ensure!(same, "{file:?} and {entry:?}: {result:?}, then {again:?}");
            }
            match result {
                Ok(order) => {
                    entries += 1;
                    equal += u32::from(order.is_eq());
                }
                Err(e) if errno(&e) == c::ENOENT => break,
                Err(e) => return Ok(Outcome::Errno(errno(&e))),
            }
        }
        self.counts.walks += 1;
        self.counts.entries += u64::from(entries);
        self.counts.equal += u64::from(equal);
        self.counts.most = self.counts.most.max(entries);
        Ok(Outcome::Walked { entries, equal })
    }

    fn perform(&mut self, op: &Op) -> Result<Outcome, Failure> {
        let (file, entry) = self.lookup(op);
        let raw = |kind, address| {
            let (one, two) = (file.pid as u64, entry.epoll.pid as u64);
            match kcmp_raw(one, two, kind, file.fd as u64, address) {
                0.. => Outcome::Ordered,
                error => Outcome::Errno(-error),
            }
        };
        Ok(match op.code {
            Code::Fork => self.fork(op.one)?,
            Code::Walk => self.walk(op)?,
            Code::Ask => match kcmp_entry(file, entry) {
                Ok(_) => Outcome::Ordered,
                Err(e) => Outcome::Errno(errno(&e)),
            },
            Code::Files => match kcmp_files(file, entry.epoll) {
                Ok(Ordering::Equal) => Outcome::Equal,
                Ok(_) => Outcome::Unequal,
                Err(e) => Outcome::Errno(errno(&e)),
            },
            Code::Unreadable => {
                let bad = op.toff as usize % self.unreadable.len();
                raw(c::KCMP_EPOLL_TFD.into(), self.unreadable[bad])
            }
            Code::NoType => raw(op.toff.into(), 0),
            _ => self.change(op)?,
        })
    }

    // --- One order -------------------------------------------------------------------------------

    /// All files of all processes, in the order of `KCMP_FILE`, with the fds of one file grouped.
    fn sort_files(&self) -> Result<Vec<Vec<FileOf>>, Failure> {
        let mut order: Vec<Vec<FileOf>> = Vec::new();
        for pid in self.pids.into_iter().flatten() {
            for fd in EPOLLS.chain(SHARED).chain(SPARE) {
                let file = FileOf { pid, fd };
                match kcmp_files(file, file) {
                    Ok(result) => ensure!(result.is_eq(), "{file:?} is not itself"),
                    Err(e) if errno(&e) == c::EBADF => continue,
                    Err(e) => return Err(e.into()),
                }
                let (mut low, mut high) = (0, order.len());
                let mut same = None;
                while low < high && same.is_none() {
                    let middle = (low + high) / 2;
                    match kcmp_files(file, order[middle][0])? {
                        Ordering::Less => high = middle,
                        Ordering::Greater => low = middle + 1,
                        Ordering::Equal => same = Some(middle),
                    }
                }
                match same {
                    Some(i) => order[i].push(file),
                    None => order.insert(low, vec![file]),
                }
            }
        }
        Ok(order)
    }

    /// Compares random files with each other, three at a time.
    fn check_files(&mut self, order: &[Vec<FileOf>]) -> Result<(), Failure> {
        for _ in 0..100 {
            let three = [(); 3].map(|()| {
                let rank = self.rng.below(order.len());
                (rank, self.rng.pick(&order[rank]))
            });
            for (i, (rank, file)) in three.into_iter().enumerate() {
                let (other_rank, other) = three[(i + 1) % 3];
                let result = kcmp_files(file, other)?;
                self.counts.compared += 1;
                ensure!(
                    result == rank.cmp(&other_rank),
                    "{three:?} are not in one order: {file:?} and {other:?} give {result:?}"
                );
            }
        }
        Ok(())
    }

    /// Compares all files with the target file of an entry. Returns the rank of the equal one, if
    /// any.
    fn check_entry(
        &mut self,
        order: &[Vec<FileOf>],
        entry: EntryOf,
    ) -> Result<Option<usize>, Failure> {
        let mut results = Vec::with_capacity(order.len());
        for same in order {
            let file = self.rng.pick(same);
            let failed = |e| format!("{file:?} and {entry:?}: {e}");
            results.push(kcmp_entry(file, entry).map_err(failed)?);
        }
        self.counts.compared += order.len() as u64;
        let less = results.iter().take_while(|r| r.is_lt()).count();
        let found = results.get(less) == Some(&Ordering::Equal);
        let rest = less + usize::from(found);
        ensure!(
            results[rest..].iter().all(|r| r.is_gt()),
            "{entry:?} has no place in the order: {results:?}"
        );
        Ok(found.then_some(less))
    }

    /// Checks that all files and all target files fit into one order.
    fn check_order(&mut self) -> Result<(), Failure> {
        let order = self.sort_files()?;
        self.check_files(&order)?;
        for epoll in order.iter().map(|same| same[0]) {
            let Some(listed) = list_of_epoll(epoll)? else {
                continue;
            };
            let mut toffs: BTreeMap<RawFd, Vec<Option<usize>>> = BTreeMap::new();
            for Listed { tfd, .. } in listed {
                let found = toffs.entry(tfd).or_default();
                let toff = found.len() as u32;
                let entry = EntryOf { epoll, tfd, toff };
                let place = self.check_entry(&order, entry)?;
                ensure!(
                    place.is_none() || !found.contains(&place),
                    "{entry:?} is an earlier one"
                );
                found.push(place);
            }
            for (tfd, found) in toffs {
                for (toff, place) in (0..).zip(&found) {
                    let entry = EntryOf { epoll, tfd, toff };
                    if let Some(rank) = *place {
                        let result = kcmp_entry(order[rank][0], entry)?;
                        ensure!(result.is_eq(), "{entry:?} has become {result:?}");
                    }
                }
                let toff = found.len() as u32;
                let end = kcmp_entry(epoll, EntryOf { epoll, tfd, toff });
                ensure!(
                    end.as_ref().is_err_and(|e| errno(e) == c::ENOENT),
                    "{toff} entries of fd {tfd} in {epoll:?}, then {end:?}"
                );
            }
        }
        self.counts.checks += 1;
        Ok(())
    }
}

/// The entries of an epoll file; `None` for other files.
fn list_of_epoll(epoll: FileOf) -> io::Result<Option<Vec<Listed>>> {
    let (tfd, toff) = (-1, 0);
    match kcmp_entry(epoll, EntryOf { epoll, tfd, toff }) {
        Err(e) if errno(&e) == c::EINVAL => Ok(None),
        _ => list_entries(&format!("/proc/{}/fdinfo/{}", epoll.pid, epoll.fd)).map(Some),
    }
}

/// Pins this process and its children to one CPU. They take turns anyway, and in a guest, waking up
/// another CPU takes longer than all the rest.
fn stay_on_one_cpu() -> io::Result<()> {
    // SAFETY: No memory is involved.
    let cpu = cvt(unsafe { c::sched_getcpu() })? as usize;
    let mut mask = [0u64; 16];
    mask[cpu / 64] = 1 << (cpu % 64);
    let (call, len) = (c::SYS_sched_setaffinity.into(), size_of_val(&mask));
    // SAFETY: `mask` is valid for reading.
    cvt(unsafe { c::syscall(call, 0, len, mask.as_ptr()) } as i32).map(drop)
}

fn replay(path: &Path, shown: Option<u64>) -> Result<Done, Failure> {
    stay_on_one_cpu()?;
    let file = File::open(path)?;
    let operations = file.metadata()?.len() / RECORD as u64;
    close_range(file.as_raw_fd() + 1..RawFd::MAX)?;
    let mut file = BufReader::new(file);
    let mut replay = Replay::new()?;
    let mut hash = Hash::new();
    for n in 0..operations {
        let mut bytes = [[0; 8]; RECORD / 8];
        file.read_exact(bytes.as_flattened_mut())?;
        let op = Op::decode(bytes.map(u64::from_le_bytes))?;
        let at = |failure| format!("operation {n}, {op}: {failure}");
        let outcome = replay.perform(&op).map_err(at)?;
        let block = n / BLOCK;
        if shown == Some(block) {
            println!("# {n} {op}: {outcome:?}");
        }
        hash.add(&outcome.words());
        if let Outcome::Errno(error) = outcome {
            *replay.counts.errors.entry(error).or_default() += 1;
        }
        if (n + 1) % BLOCK == 0 || n + 1 == operations {
            println!("# block {block} {:016x}", hash.0);
            hash = Hash::new();
            if (block + 1) % BLOCKS_PER_CHECK == 0 || n + 1 == operations {
                replay.check_order().map_err(at)?;
            }
        }
    }
    let counts = &replay.counts;
    println!(
        "# {operations} operations; {} walks met {} entries, {} of them equal, at most {} of one fd",
        counts.walks, counts.entries, counts.equal, counts.most
    );
    for (error, n) in &counts.errors {
        println!("#   {n} times {}", io::Error::from_raw_os_error(*error));
    }
    println!(
        "# {} checks of the order, {} results",
        counts.checks, counts.compared
    );
    ensure!(counts.compared > 0, "nothing was compared");
    Ok(Done::Passed)
}

enum Task {
    Record { operations: u64, seed: u64 },
    Replay { block: Option<u64> },
}

fn parse_args(parser: &mut lexopt::Parser) -> Result<(Task, PathBuf), lexopt::Error> {
    let (mut operations, mut replay, mut path) = (None, false, None);
    let (mut seed, mut block) = (new_seed(), None);
    while let Some(arg) = parser.next()? {
        match arg {
            Long("record") => operations = Some(parser.value()?.parse()?),
            Long("replay") => replay = true,
            Long("seed") => seed = parser.value()?.parse()?,
            Long("block") => block = Some(parser.value()?.parse()?),
            Value(value) if path.is_none() => path = Some(value.into()),
            _ => return Err(arg.unexpected()),
        }
    }
    let task = match (operations, replay) {
        (Some(operations), false) => Task::Record { operations, seed },
        (None, true) => Task::Replay { block },
        _ => return Err("specify either --record N or --replay".into()),
    };
    Ok((task, path.ok_or("FILE is missing")?))
}

fn main() -> ExitCode {
    start_parsed(HELP, parse_args, |(task, path)| match task {
        Task::Record { operations, seed } => {
            record(operations, seed, &path)?;
            Ok(ExitCode::SUCCESS)
        }
        Task::Replay { block } => Ok(run_tests(&[("one order", &|| replay(&path, block))])),
    })
}
