// SPDX-License-Identifier: GPL-2.0

//! Records a stream of random operations, and replays it: the same one on two kernels, of which the
//! outputs are compared.
//!
//! Targets of one number stand in the order of kernel addresses, which no two runs have in common.
//! Thus the stream asks for all targets of a number at once, and what counts is how many there are,
//! and how many of them are the file. Whether the verdicts give one order is checked on the way.

use kcmp_epoll::*;
use lexopt::prelude::*;
use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::ops::Range;
use std::os::fd::{AsRawFd, RawFd};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::ptr;

const HELP: &str = "\
Record a stream of random operations with epoll sets, most of them kcmp(2), or
replay it, and print a hash of what came out for each 1000. The outputs of two
kernels have to be the same.

Usage: kcmp_epoll_replay --record N [--seed N] FILE
       kcmp_epoll_replay --replay [--block N] FILE

  --record N  write N operations to FILE
  --seed N    of the stream: it is printed (default: a new one)
  --replay    perform the operations in FILE
  --block N   print each operation of one block, and what came out

Replaying prints TAP: the test is that the verdicts give one order.
";

/// How many operations make a block.
const BLOCK: u64 = 1000;
/// After how many blocks it is checked that there is one order.
const BLOCKS_PER_CHECK: u64 = 8;

/// The numbers that the operations play with. Those that most targets are added under are few, and
/// reused all the time. The others keep the files alive, for a while.
const EPOLLS: Range<RawFd> = 90..94;
const SHARED: Range<RawFd> = 100..104;
const SPARE: Range<RawFd> = 104..184;
/// The processes: this one, and those that it forks.
const PROCESSES: usize = 4;
/// This process' ends of the sockets to the others, and the other end in each of them.
const CONTROLS: RawFd = 50;
const CONTROL: RawFd = 60;

// --- Operations ----------------------------------------------------------------------------------

#[derive(Clone, Copy, Debug, PartialEq)]
enum Code {
    /// Opens an eventfd, a socket, an epoll file: at `fd`.
    Eventfd,
    Socket,
    Epoll,
    /// Copies `efd` to `fd`.
    Dup2,
    Close,
    Add,
    Mod,
    Del,
    /// Forks process `one`, and lets it end.
    Fork,
    Exit,
    /// Compares `fd` of `one` with all targets of number `tfd` in `efd` of `two`.
    Walk,
    /// Compares it with the target at `toff`.
    Ask,
    /// Asks without a slot that can be read: its address is bad address number `toff`.
    Unreadable,
    /// Asks a question of a kind that does not exist: `toff`.
    NoKind,
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
        Code::NoKind,
        Code::Files,
    ];
}

/// An operation. Those that change something are done by process `one`.
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

/// An operation, as it is recorded and sent.
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
            Code::Ask | Code::Unreadable | Code::NoKind => write!(
                f,
                "{code:?} {fd} of process {one}, tfd {tfd} toff {toff} in {efd} of process {two}"
            ),
        }
    }
}

// --- Recording -----------------------------------------------------------------------------------

struct Recorder {
    rng: fastrand::Rng,
    /// The number and the set that the file at each spare number was last added under.
    kept: [Option<(RawFd, RawFd)>; SPARE.end as usize],
    file: BufWriter<File>,
    left: u64,
}

impl Recorder {
    fn any_fd(&mut self) -> RawFd {
        match self.rng.u32(..16) {
            0..5 => self.rng.i32(SHARED),
            5..14 => self.rng.i32(SPARE),
            14 => self.rng.i32(EPOLLS),
            _ => [-1, SPARE.end, RawFd::MAX][self.rng.usize(..3)],
        }
    }

    fn any_efd(&mut self) -> RawFd {
        match self.rng.u32(..32) {
            0 => self.any_fd(),
            _ => self.rng.i32(EPOLLS),
        }
    }

    /// Process 0 is always there, the others come and go.
    fn process(&mut self) -> usize {
        match self.rng.u32(..4) {
            0 => self.rng.usize(1..PROCESSES),
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

    /// An operation with random numbers.
    fn random(&mut self, code: Code) -> Op {
        let tfd = match self.rng.u32(..16) {
            0 => self.any_fd(),
            _ => self.rng.i32(SHARED),
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

    fn record_question(&mut self) -> io::Result<()> {
        let code = match self.rng.u32(..16) {
            0..9 => Code::Walk,
            9..13 => Code::Ask,
            13 => Code::Files,
            14 => Code::Unreadable,
            _ => Code::NoKind,
        };
        let mut op = self.random(code);
        // Half of the questions are about a target that there has been.
        if let (Some(&Some((tfd, efd))), true) = (self.kept.get(op.fd as usize), self.rng.bool()) {
            (op.tfd, op.efd) = (tfd, efd);
        }
        op.toff = match code {
            Code::NoKind => [8, i32::MAX as u32, u32::MAX][self.rng.usize(..3)],
            Code::Files => {
                op.efd = self.any_fd();
                0
            }
            _ => match self.rng.u32(..8) {
                0 => u32::MAX - self.rng.u32(..4),
                _ => self.rng.u32(..24),
            },
        };
        self.write(op)
    }

    /// A new file at a number, that is added, and lives on at another number.
    fn record_target(&mut self) -> io::Result<()> {
        let one = self.process();
        let fd = self.rng.i32(SHARED);
        let code = match self.rng.u32(..16) {
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
        let spare = self.rng.i32(SPARE);
        for _ in 0..self.rng.u32(1..4) {
            let efd = self.rng.i32(EPOLLS);
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

    fn record_change(&mut self) -> io::Result<()> {
        let code = match self.rng.u32(..64) {
            0..32 => return self.record_target(),
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
            Code::Epoll => op.fd = self.rng.i32(EPOLLS),
            Code::Fork | Code::Exit => op.one = self.rng.usize(1..PROCESSES),
            _ => {}
        }
        self.write(op)
    }
}

fn record(operations: u64, seed: u64, path: &Path) -> io::Result<()> {
    let mut recorder = Recorder {
        rng: fastrand::Rng::with_seed(seed),
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
        match recorder.rng.u32(..10) {
            0 => recorder.record_change()?,
            _ => recorder.record_question()?,
        }
    }
    recorder.file.flush()?;
    println!("# {operations} operations with seed {seed}");
    Ok(())
}

// --- Replaying -----------------------------------------------------------------------------------

/// Does an operation that changes something, in the process that it is meant for.
fn change(op: &Op) -> io::Result<()> {
    let Op { fd, efd, .. } = *op;
    match op.code {
        Code::Eventfd => place(eventfd()?, fd),
        Code::Epoll => place(epoll_create()?, fd),
        Code::Socket => place(lone_socket()?, fd),
        Code::Dup2 => dup2(efd, fd),
        Code::Close => close(fd),
        Code::Add => epoll_ctl(efd, libc::EPOLL_CTL_ADD, fd, libc::EPOLLIN, 0),
        Code::Mod => epoll_ctl(efd, libc::EPOLL_CTL_MOD, fd, libc::EPOLLOUT, 0),
        Code::Del => epoll_ctl(efd, libc::EPOLL_CTL_DEL, fd, 0, 0),
        _ => unreachable!(),
    }
}

/// The life of another process: does what it is told, and replies with the errno.
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

/// What came out of an operation, as far as it is the same in each run.
#[derive(Clone, Copy, Debug)]
enum Outcome {
    Done,
    /// There is no such process to be ended, or already one.
    Nothing,
    Errno(i32),
    Equal,
    Unequal,
    /// One of [`Verdict`].
    Verdict,
    Walked {
        targets: u32,
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
            Outcome::Verdict => [5, 0, 0],
            Outcome::Walked { targets, equal } => [6, targets, equal],
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
    targets: u64,
    equal: u64,
    /// How many targets the fullest number had.
    most: u32,
    checks: u64,
    /// How many verdicts were compared with the order.
    compared: u64,
}

struct Replay {
    /// The processes that there are.
    pids: [Option<Pid>; PROCESSES],
    /// Addresses of which no slot can be read.
    unreadable: [u64; 4],
    counts: Counts,
    rng: fastrand::Rng,
}

impl Replay {
    fn new() -> io::Result<Replay> {
        let size = page_size();
        let (rights, flags) = (libc::PROT_READ, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: Two new pages are mapped, and one of them is unmapped.
        let page = unsafe {
            let page = libc::mmap(ptr::null_mut(), 2 * size, rights, flags, -1, 0);
            if page == libc::MAP_FAILED {
                return Err(io::Error::last_os_error());
            }
            cvt(libc::munmap(page.byte_add(size), size))?;
            page as u64
        };
        let end = page + size as u64;
        Ok(Replay {
            pids: [Some(getpid()), None, None, None],
            unreadable: [0, end - 4, end, u64::MAX - 4095],
            counts: Counts::default(),
            rng: fastrand::Rng::with_seed(0),
        })
    }

    /// The pid of a process. If it is not there, a number that none has.
    fn pid(&self, process: usize) -> Pid {
        self.pids[process].unwrap_or(Pid::MAX)
    }

    fn fork(&mut self, process: usize) -> Result<Outcome, Failure> {
        if self.pids[process].is_some() {
            return Ok(Outcome::Nothing);
        }
        let [ours, theirs] = socketpair(libc::SOCK_SEQPACKET)?;
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

    /// The file and the target of a question.
    fn question(&self, op: &Op) -> (FileOf, TargetOf) {
        let (one, two) = (self.pid(op.one), self.pid(op.two));
        let epoll = FileOf {
            pid: two,
            fd: op.efd,
        };
        let target = TargetOf {
            epoll,
            tfd: op.tfd,
            toff: op.toff,
        };
        (
            FileOf {
                pid: one,
                fd: op.fd,
            },
            target,
        )
    }

    fn walk(&mut self, op: &Op) -> Outcome {
        let (file, mut target) = self.question(op);
        let (mut targets, mut equal) = (0, 0);
        loop {
            target.toff = targets;
            match kcmp_target(file, target) {
                Ok(verdict) => {
                    targets += 1;
                    equal += u32::from(verdict == Verdict::Equal);
                }
                Err(e) if e.raw_os_error() == Some(libc::ENOENT) => break,
                Err(e) => return Outcome::Errno(errno(&e)),
            }
        }
        self.counts.walks += 1;
        self.counts.targets += u64::from(targets);
        self.counts.equal += u64::from(equal);
        self.counts.most = self.counts.most.max(targets);
        Outcome::Walked { targets, equal }
    }

    fn perform(&mut self, op: &Op) -> Result<Outcome, Failure> {
        let (file, target) = self.question(op);
        let raw = |kind, address| {
            let (one, two) = (file.pid as u64, target.epoll.pid as u64);
            match kcmp_raw(one, two, kind, file.fd as u64, address) {
                0.. => Outcome::Verdict,
                error => Outcome::Errno(-error),
            }
        };
        Ok(match op.code {
            Code::Fork => self.fork(op.one)?,
            Code::Walk => self.walk(op),
            Code::Ask => match kcmp_target(file, target) {
                Ok(_) => Outcome::Verdict,
                Err(e) => Outcome::Errno(errno(&e)),
            },
            Code::Files => match kcmp_files(file, target.epoll) {
                Ok(Verdict::Equal) => Outcome::Equal,
                Ok(_) => Outcome::Unequal,
                Err(e) => Outcome::Errno(errno(&e)),
            },
            Code::Unreadable => {
                let bad = op.toff as usize % self.unreadable.len();
                raw(KCMP_EPOLL_TFD, self.unreadable[bad])
            }
            Code::NoKind => raw(u64::from(op.toff), 0),
            _ => self.change(op)?,
        })
    }

    // --- One order -------------------------------------------------------------------------------

    /// All files of all processes, in the order of `KCMP_FILE`. Those that are the same are
    /// together.
    fn sort_files(&self) -> Result<Vec<Vec<FileOf>>, Failure> {
        let mut order: Vec<Vec<FileOf>> = Vec::new();
        for pid in self.pids.into_iter().flatten() {
            for fd in EPOLLS.chain(SHARED).chain(SPARE) {
                let file = FileOf { pid, fd };
                match kcmp_files(file, file) {
                    Ok(verdict) => ensure!(verdict == Verdict::Equal, "{file:?} is not itself"),
                    Err(e) if e.raw_os_error() == Some(libc::EBADF) => continue,
                    Err(e) => return Err(e.into()),
                }
                let (mut low, mut high) = (0, order.len());
                let mut same = None;
                while low < high && same.is_none() {
                    let middle = (low + high) / 2;
                    match kcmp_files(file, order[middle][0])? {
                        Verdict::Less => high = middle,
                        Verdict::Greater => low = middle + 1,
                        Verdict::Equal => same = Some(middle),
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

    /// Compares files with each other: three at a time, in any places.
    fn check_files(&mut self, order: &[Vec<FileOf>]) -> Result<(), Failure> {
        for _ in 0..100 {
            let three = [(); 3].map(|()| {
                let rank = self.rng.usize(..order.len());
                (rank, order[rank][self.rng.usize(..order[rank].len())])
            });
            for (i, (rank, file)) in three.into_iter().enumerate() {
                let (other_rank, other) = three[(i + 1) % 3];
                let verdict = kcmp_files(file, other)?;
                self.counts.compared += 1;
                ensure!(
                    verdict == expected(rank, other_rank),
                    "{three:?} are not in one order: {file:?} and {other:?} give {verdict:?}"
                );
            }
        }
        Ok(())
    }

    /// Compares all files with one target. Gives the place of the file that it is, if there is one.
    fn check_target(
        &mut self,
        order: &[Vec<FileOf>],
        target: TargetOf,
    ) -> Result<Option<usize>, Failure> {
        let mut verdicts = Vec::with_capacity(order.len());
        for same in order {
            let file = same[self.rng.usize(..same.len())];
            let verdict = kcmp_target(file, target);
            verdicts.push(verdict.map_err(|e| Failure(format!("{file:?}, {target:?}: {e}")))?);
        }
        self.counts.compared += order.len() as u64;
        let less = verdicts.iter().take_while(|&&v| v == Verdict::Less).count();
        let found = verdicts.get(less) == Some(&Verdict::Equal);
        let rest = less + usize::from(found);
        ensure!(
            verdicts[rest..].iter().all(|&v| v == Verdict::Greater),
            "{target:?} has no place in the order: {verdicts:?}"
        );
        Ok(found.then_some(less))
    }

    /// Checks that all files and all targets have their places in one order.
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
                let target = TargetOf { epoll, tfd, toff };
                let place = self.check_target(&order, target)?;
                ensure!(
                    place.is_none() || !found.contains(&place),
                    "{target:?} is an earlier one"
                );
                found.push(place);
            }
            for (tfd, found) in toffs {
                for (toff, place) in (0..).zip(&found) {
                    let target = TargetOf { epoll, tfd, toff };
                    if let Some(rank) = *place {
                        let verdict = kcmp_target(order[rank][0], target)?;
                        ensure!(
                            verdict == Verdict::Equal,
                            "{target:?} has become {verdict:?}"
                        );
                    }
                }
                let toff = found.len() as u32;
                let end = kcmp_target(epoll, TargetOf { epoll, tfd, toff });
                ensure!(
                    end.as_ref().is_err_and(|e| errno(e) == libc::ENOENT),
                    "{toff} targets of number {tfd} in {epoll:?}, then {end:?}"
                );
            }
        }
        self.counts.checks += 1;
        Ok(())
    }
}

fn expected(rank: usize, other: usize) -> Verdict {
    match rank.cmp(&other) {
        std::cmp::Ordering::Less => Verdict::Less,
        std::cmp::Ordering::Equal => Verdict::Equal,
        std::cmp::Ordering::Greater => Verdict::Greater,
    }
}

/// The targets of a file that is an epoll file.
fn list_of_epoll(file: FileOf) -> io::Result<Option<Vec<Listed>>> {
    let target = TargetOf {
        epoll: file,
        tfd: -1,
        toff: 0,
    };
    match kcmp_target(file, target) {
        Err(e) if errno(&e) == libc::EINVAL => Ok(None),
        _ => list_targets(file).map(Some),
    }
}

/// Keeps this process and its children on one CPU. They take turns anyway, and waking up another
/// CPU takes longer than all the rest, in a guest.
fn stay_on_one_cpu() -> io::Result<()> {
    // SAFETY: No memory is involved.
    run_on(cvt(unsafe { libc::sched_getcpu() })? as usize)
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
        let at = |failure| Failure(format!("operation {n}, {op}: {failure}"));
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
        "# {operations} operations; {} walks met {} targets, {} of them equal, at most {}",
        counts.walks, counts.targets, counts.equal, counts.most
    );
    for (error, n) in &counts.errors {
        println!("#   {n} times {}", io::Error::from_raw_os_error(*error));
    }
    println!(
        "# {} checks of the order, {} verdicts",
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
    let (mut seed, mut block) = (fastrand::u64(..), None);
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
        _ => return Err("either --record N or --replay".into()),
    };
    Ok((task, path.ok_or("FILE is missing")?))
}

fn main() -> ExitCode {
    start(HELP, parse_args, |(task, path)| match task {
        Task::Record { operations, seed } => {
            record(operations, seed, &path)?;
            Ok(ExitCode::SUCCESS)
        }
        Task::Replay { block } => Ok(run_tests(&[("one order", &|| replay(&path, block))])),
    })
}
