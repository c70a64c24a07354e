// SPDX-License-Identifier: GPL-2.0

//! A model-based test of `KCMP_EPOLL_TFD`.
//!
//! A random stream of operations runs in a few worker processes: open, dup2, close, fork, exit,
//! epoll_ctl, files sent over unix sockets. A model of it is kept in plain collections. After each
//! operation, every target of every epoll set is asked for, and compared with the model.

use kcmp_epoll::*;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::os::fd::RawFd;
use std::process::ExitCode;
use std::time::Instant;

const HELP: &str = "\
Compare KCMP_EPOLL_TFD with a model, after each of many random operations.

Usage: kcmp_epoll_model_test [--steps N] [--seed N]

  --steps N   how many operations to do (default 20000)
  --seed N    repeat a run: the seed is printed (default: a new one)

Prints TAP.
";

/// The numbers that the operations play with. Few, so that they are reused all the time.
const NUMBERS: std::ops::Range<RawFd> = 100..112;
/// Where each worker has its end of the socket to the controller, and the mailboxes: pairs of
/// sockets in which files are in flight.
const CONTROL: RawFd = 50;
const MAILBOXES: [[RawFd; 2]; 2] = [[60, 61], [62, 63]];
const MAIL_MAX: usize = 3;
const WORKERS_MAX: usize = 5;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    Eventfd,
    Socket,
    Epoll,
}

/// An operation, as a worker is told to do it.
#[derive(Clone, Copy, Debug)]
enum Op {
    Open { kind: Kind, at: RawFd },
    Dup2 { from: RawFd, to: RawFd },
    Close { fd: RawFd },
    Fork,
    Exit,
    Add { efd: RawFd, fd: RawFd, data: u64 },
    Mod { efd: RawFd, fd: RawFd, data: u64 },
    Del { efd: RawFd, fd: RawFd },
    Send { mailbox: usize, fd: RawFd },
    Receive { mailbox: usize, at: RawFd },
}

/// An operation on its way to a worker: its kind, two numbers, and the data.
type Message = [u64; 4];

impl Op {
    fn encode(self) -> Message {
        let message = |code, a: RawFd, b: RawFd, data| [code, a as u64, b as u64, data];
        match self {
            Op::Open { kind, at } => message(0, at, kind as RawFd, 0),
            Op::Dup2 { from, to } => message(1, from, to, 0),
            Op::Close { fd } => message(2, fd, 0, 0),
            Op::Fork => message(3, 0, 0, 0),
            Op::Exit => message(4, 0, 0, 0),
            Op::Add { efd, fd, data } => message(5, efd, fd, data),
            Op::Mod { efd, fd, data } => message(6, efd, fd, data),
            Op::Del { efd, fd } => message(7, efd, fd, 0),
            Op::Send { mailbox, fd } => message(8, fd, 0, mailbox as u64),
            Op::Receive { mailbox, at } => message(9, at, 0, mailbox as u64),
        }
    }

    fn decode([code, a, b, data]: Message) -> Op {
        let kinds = [Kind::Eventfd, Kind::Socket, Kind::Epoll];
        let (mailbox, kind) = (data as usize, b as usize);
        let (a, b) = (a as RawFd, b as RawFd);
        match code {
            0 => Op::Open {
                kind: kinds[kind],
                at: a,
            },
            1 => Op::Dup2 { from: a, to: b },
            2 => Op::Close { fd: a },
            3 => Op::Fork,
            4 => Op::Exit,
            5 => Op::Add {
                efd: a,
                fd: b,
                data,
            },
            6 => Op::Mod {
                efd: a,
                fd: b,
                data,
            },
            7 => Op::Del { efd: a, fd: b },
            8 => Op::Send { mailbox, fd: a },
            9 => Op::Receive { mailbox, at: a },
            _ => unreachable!(),
        }
    }
}

// --- Workers -------------------------------------------------------------------------------------

fn perform(op: Op) -> io::Result<()> {
    match op {
        Op::Open { kind, at } => match kind {
            Kind::Eventfd => place(eventfd()?, at),
            Kind::Epoll => place(epoll_create()?, at),
            Kind::Socket => place(lone_socket()?, at),
        },
        Op::Dup2 { from, to } => dup2(from, to),
        Op::Close { fd } => close(fd),
        Op::Add { efd, fd, data } => epoll_ctl(efd, libc::EPOLL_CTL_ADD, fd, libc::EPOLLIN, data),
        Op::Mod { efd, fd, data } => epoll_ctl(efd, libc::EPOLL_CTL_MOD, fd, libc::EPOLLOUT, data),
        Op::Del { efd, fd } => epoll_ctl(efd, libc::EPOLL_CTL_DEL, fd, 0, 0),
        Op::Send { mailbox, fd } => send_file(MAILBOXES[mailbox][0], fd),
        Op::Receive { mailbox, at } => place(receive_file(MAILBOXES[mailbox][1])?, at),
        Op::Fork | Op::Exit => unreachable!(),
    }
}

/// The life of a worker: does what it is told, and replies with the errno.
fn work() -> io::Result<()> {
    loop {
        let reply = |value: i32| send_words(CONTROL, &[value as u64]);
        match Op::decode(receive_words(CONTROL)?) {
            Op::Exit => return Ok(()),
            Op::Fork => {
                // The controller sends the new worker's end of a socket first.
                let control = receive_file(CONTROL)?;
                let pid = fork_worker(control, None)?;
                close(control)?;
                reply(pid)?;
            }
            op => reply(match perform(op) {
                Ok(()) => 0,
                Err(e) => errno(&e),
            })?,
        }
    }
}

/// Forks a worker that has all files of this process but `not`, and `control` as its socket.
///
/// It ends when told to, and when the other side of the socket is closed.
fn fork_worker(control: RawFd, not: Option<RawFd>) -> io::Result<Pid> {
    let prepare = || {
        not.map_or(Ok(()), close)?;
        place(control, CONTROL)
    };
    fork(|| match prepare().and_then(|()| work()) {
        Ok(()) => 0,
        Err(_) => 1,
    })
}

// --- The model -----------------------------------------------------------------------------------

/// An open file, known to the kernel by its address. Also what its targets carry as data.
type FileId = u64;

struct File {
    kind: Kind,
    /// In how many places it is: numbers of workers, and messages in flight.
    refs: usize,
}

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Target {
    tfd: RawFd,
    file: FileId,
}

struct Worker {
    pid: Pid,
    /// Becomes readable when the worker has ended, and its files are closed.
    pidfd: RawFd,
    control: RawFd,
    fds: BTreeMap<RawFd, FileId>,
}

#[derive(Default)]
struct Model {
    files: BTreeMap<FileId, File>,
    /// The interest set of each epoll file.
    sets: BTreeMap<FileId, BTreeSet<Target>>,
    workers: Vec<Worker>,
    mail: [VecDeque<FileId>; MAILBOXES.len()],
    next: FileId,
}

impl Model {
    fn get(&mut self, file: FileId) {
        self.files.get_mut(&file).unwrap().refs += 1;
    }

    fn put(&mut self, file: FileId) {
        let refs = &mut self.files.get_mut(&file).unwrap().refs;
        *refs -= 1;
        if *refs == 0 {
            self.files.remove(&file);
            self.sets.remove(&file);
            for set in self.sets.values_mut() {
                set.retain(|target| target.file != file);
            }
        }
    }

    /// Puts a file, a reference to which is handed over, at a number of a worker.
    fn install(&mut self, worker: usize, fd: RawFd, file: FileId) {
        if let Some(old) = self.workers[worker].fds.insert(fd, file) {
            self.put(old);
        }
    }

    /// What epoll_ctl() checks first, in its order. Gives the epoll file and the other one.
    fn ctl(&self, worker: usize, efd: RawFd, fd: RawFd) -> Result<(FileId, Target), i32> {
        let fds = &self.workers[worker].fds;
        let epoll = *fds.get(&efd).ok_or(libc::EBADF)?;
        let file = *fds.get(&fd).ok_or(libc::EBADF)?;
        if epoll == file || !self.sets.contains_key(&epoll) {
            return Err(libc::EINVAL);
        }
        Ok((epoll, Target { tfd: fd, file }))
    }

    /// Whether an epoll file has others as targets, or is one itself.
    fn is_nested(&self, epoll: FileId) -> (bool, bool) {
        let has = self.sets[&epoll]
            .iter()
            .any(|t| self.sets.contains_key(&t.file));
        let is = self.sets.values().flatten().any(|t| t.file == epoll);
        (has, is)
    }

    /// Whether the model can tell what an operation does.
    ///
    /// Epoll files are nested only once: the rules for deeper nesting are not what is tested here.
    fn knows(&self, worker: usize, op: Op) -> bool {
        match op {
            Op::Fork => self.workers.len() < WORKERS_MAX,
            Op::Exit => self.workers.len() > 1,
            Op::Send { mailbox, fd } => {
                self.mail[mailbox].len() < MAIL_MAX && self.workers[worker].fds.contains_key(&fd)
            }
            Op::Receive { mailbox, .. } => !self.mail[mailbox].is_empty(),
            Op::Add { efd, fd, .. } => match self.ctl(worker, efd, fd) {
                Ok((epoll, target)) if self.sets.contains_key(&target.file) => {
                    !self.is_nested(epoll).1 && !self.is_nested(target.file).0
                }
                _ => true,
            },
            _ => true,
        }
    }

    /// Does an operation. Fork and exit of workers are left to the caller.
    fn perform(&mut self, worker: usize, op: Op) -> Result<(), i32> {
        match op {
            Op::Open { kind, at } => {
                let file = self.next;
                self.next += 1;
                self.files.insert(file, File { kind, refs: 1 });
                if kind == Kind::Epoll {
                    self.sets.insert(file, BTreeSet::new());
                }
                self.install(worker, at, file);
            }
            Op::Dup2 { from, to } => {
                let file = *self.workers[worker].fds.get(&from).ok_or(libc::EBADF)?;
                if from != to {
                    self.get(file);
                    self.install(worker, to, file);
                }
            }
            Op::Close { fd } => {
                let file = self.workers[worker].fds.remove(&fd).ok_or(libc::EBADF)?;
                self.put(file);
            }
            Op::Add { efd, fd, .. } => {
                let (epoll, target) = self.ctl(worker, efd, fd)?;
                if !self.sets.get_mut(&epoll).unwrap().insert(target) {
                    return Err(libc::EEXIST);
                }
            }
            Op::Mod { efd, fd, .. } => {
                let (epoll, target) = self.ctl(worker, efd, fd)?;
                if !self.sets[&epoll].contains(&target) {
                    return Err(libc::ENOENT);
                }
            }
            Op::Del { efd, fd } => {
                let (epoll, target) = self.ctl(worker, efd, fd)?;
                if !self.sets.get_mut(&epoll).unwrap().remove(&target) {
                    return Err(libc::ENOENT);
                }
            }
            Op::Send { mailbox, fd } => {
                let file = self.workers[worker].fds[&fd];
                self.get(file);
                self.mail[mailbox].push_back(file);
            }
            Op::Receive { mailbox, at } => {
                let file = self.mail[mailbox].pop_front().unwrap();
                self.install(worker, at, file);
            }
            Op::Fork | Op::Exit => unreachable!(),
        }
        Ok(())
    }

    /// The places where a file can be asked about.
    fn places(&self, file: FileId) -> Vec<FileOf> {
        let places_of = |worker: &Worker| {
            let pid = worker.pid;
            let fds = worker.fds.iter().filter(move |(_, id)| **id == file);
            fds.map(move |(&fd, _)| FileOf { pid, fd })
                .collect::<Vec<_>>()
        };
        self.workers.iter().flat_map(places_of).collect()
    }
}

// --- The controller ------------------------------------------------------------------------------

struct Run {
    model: Model,
    rng: fastrand::Rng,
    /// How many questions were asked, and how many of the answers were "equal".
    asked: u64,
    equal: u64,
    /// How many targets had others with the same number.
    sharing: u64,
}

impl Run {
    fn new(seed: u64) -> Result<Run, Failure> {
        for mailbox in MAILBOXES {
            place_pair(libc::SOCK_DGRAM, mailbox)?;
        }
        let mut run = Run {
            model: Model {
                next: 1,
                ..Default::default()
            },
            rng: fastrand::Rng::with_seed(seed),
            asked: 0,
            equal: 0,
            sharing: 0,
        };
        let [ours, theirs] = socketpair(libc::SOCK_SEQPACKET)?;
        let pid = fork_worker(theirs, Some(ours))?;
        close(theirs)?;
        run.add_worker(pid, ours, BTreeMap::new())?;
        // The workers have them; the controller takes no part in what is modelled.
        for fd in MAILBOXES.concat() {
            close(fd)?;
        }
        Ok(run)
    }

    fn add_worker(
        &mut self,
        pid: Pid,
        control: RawFd,
        fds: BTreeMap<RawFd, FileId>,
    ) -> Result<(), Failure> {
        // SAFETY: No memory is involved.
        let pidfd = cvt(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) } as i32)?;
        self.model.workers.push(Worker {
            pid,
            pidfd,
            control,
            fds,
        });
        Ok(())
    }

    fn random_op(&mut self) -> Op {
        let model = &self.model;
        let mut fd = || self.rng.i32(NUMBERS);
        let (a, b) = (fd(), fd());
        let kinds = [Kind::Eventfd, Kind::Eventfd, Kind::Socket, Kind::Epoll];
        let mailbox = self.rng.usize(..MAILBOXES.len());
        match self.rng.u32(..100) {
            0..16 => Op::Open {
                kind: kinds[self.rng.usize(..kinds.len())],
                at: a,
            },
            16..30 => Op::Dup2 { from: a, to: b },
            30..42 => Op::Close { fd: a },
            42..44 => Op::Fork,
            44..46 => Op::Exit,
            // The data is filled in when the file is known.
            46..78 => Op::Add {
                efd: a,
                fd: b,
                data: 0,
            },
            78..84 => Op::Mod {
                efd: a,
                fd: b,
                data: 0,
            },
            84..90 => Op::Del { efd: a, fd: b },
            90..95 => Op::Send { mailbox, fd: a },
            _ if model.mail[mailbox].is_empty() => Op::Send { mailbox, fd: a },
            _ => Op::Receive { mailbox, at: a },
        }
    }

    /// Picks an epoll file of the worker for most of the epoll_ctl() calls: at random, they would
    /// mostly be errors.
    fn aim(&mut self, worker: usize, op: Op) -> Op {
        let fds = &self.model.workers[worker].fds;
        let is_epoll = |id: &FileId| self.model.files[id].kind == Kind::Epoll;
        let efds: Vec<RawFd> = fds
            .iter()
            .filter(|(_, id)| is_epoll(id))
            .map(|(&fd, _)| fd)
            .collect();
        let rng = &mut self.rng;
        let mut pick = |random| match efds.len() {
            n if n > 0 && rng.u32(..16) > 0 => efds[rng.usize(..n)],
            _ => random,
        };
        let data_of = |fd| fds.get(&fd).copied().unwrap_or(0);
        match op {
            Op::Add { efd, fd, .. } => Op::Add {
                efd: pick(efd),
                fd,
                data: data_of(fd),
            },
            Op::Mod { efd, fd, .. } => Op::Mod {
                efd: pick(efd),
                fd,
                data: data_of(fd),
            },
            Op::Del { efd, fd } => Op::Del { efd: pick(efd), fd },
            other => other,
        }
    }

    /// Does one random operation, in a worker and in the model.
    fn step(&mut self) -> Result<(usize, Op), Failure> {
        let worker = self.rng.usize(..self.model.workers.len());
        let op = loop {
            let op = self.random_op();
            let op = self.aim(worker, op);
            if self.model.knows(worker, op) {
                break op;
            }
        };

        let control = self.model.workers[worker].control;
        send_words(control, &op.encode())?;
        match op {
            Op::Fork => {
                let [ours, theirs] = socketpair(libc::SOCK_SEQPACKET)?;
                send_file(control, theirs)?;
                close(theirs)?;
                let pid = self.hear(worker)?;
                let fds = self.model.workers[worker].fds.clone();
                fds.values().for_each(|&file| self.model.get(file));
                self.add_worker(pid, ours, fds)?;
            }
            Op::Exit => self.bury(worker)?,
            _ => {
                let expected = self.model.perform(worker, op).err().unwrap_or(0);
                let got = self.hear(worker)?;
                ensure!(got == expected, "errno {got}, expected {expected}");
            }
        }
        Ok((worker, op))
    }

    fn hear(&self, worker: usize) -> Result<i32, Failure> {
        let [value] = receive_words(self.model.workers[worker].control)?;
        Ok(value as i32)
    }

    /// Waits until a worker has ended: only then are its files closed.
    fn bury(&mut self, worker: usize) -> Result<(), Failure> {
        let dead = self.model.workers.remove(worker);
        let ended = poll(dead.pidfd, libc::POLLIN, 10_000)? != 0;
        ensure!(ended, "worker {} does not end", dead.pid);
        close(dead.pidfd)?;
        close(dead.control)?;
        dead.fds.into_values().for_each(|file| self.model.put(file));
        Ok(())
    }

    fn ask(&mut self, file: FileOf, target: TargetOf) -> Result<Option<Verdict>, Failure> {
        self.asked += 1;
        match kcmp_target(file, target) {
            Ok(verdict) => {
                self.equal += u64::from(verdict == Verdict::Equal);
                Ok(Some(verdict))
            }
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            Err(e) => Err(Failure(format!("{file:?} and {target:?}: {e}"))),
        }
    }

    /// Asks for every target of every set, and compares with the model. If `in_full`, the order of
    /// fdinfo and that of KCMP_FILE as well.
    fn check(&mut self, in_full: bool) -> Result<(), Failure> {
        let sets: Vec<FileId> = self.model.sets.keys().copied().collect();
        for set in sets {
            let places = self.model.places(set);
            if places.is_empty() {
                // The epoll file is in flight: nobody can be asked.
                continue;
            }
            let epoll = places[self.rng.usize(..places.len())];
            let mut order = BTreeMap::new();
            for tfd in NUMBERS {
                order.insert(tfd, self.check_number(set, epoll, tfd, in_full)?);
            }
            for tfd in [-1, NUMBERS.start - 1, NUMBERS.end, RawFd::MAX] {
                let target = TargetOf {
                    epoll,
                    tfd,
                    toff: 0,
                };
                ensure!(self.ask(epoll, target)?.is_none(), "{target:?} is found");
            }
            if in_full {
                self.check_fdinfo(set, epoll, order)?;
            }
        }
        Ok(())
    }

    /// Checks all targets of one number. Returns their files in the order of toff, as far as they
    /// can be known: a file that is only in flight cannot be compared with anything.
    fn check_number(
        &mut self,
        set: FileId,
        epoll: FileOf,
        tfd: RawFd,
        in_full: bool,
    ) -> Result<Vec<Option<FileId>>, Failure> {
        let targets = self.model.sets[&set]
            .iter()
            .filter(|target| target.tfd == tfd);
        let mut files: BTreeMap<FileId, Vec<FileOf>> = BTreeMap::new();
        for target in targets {
            files.insert(target.file, self.model.places(target.file));
        }
        let count = files.len() as u32;
        if count > 1 {
            self.sharing += u64::from(count);
        }

        let mut order = Vec::new();
        for toff in 0..count {
            let target = TargetOf { epoll, tfd, toff };
            let mut found = None;
            for (&file, places) in files.iter().filter(|(_, places)| !places.is_empty()) {
                let place = places[self.rng.usize(..places.len())];
                match self.ask(place, target)? {
                    None => return Err(Failure(format!("{target:?} is not found"))),
                    Some(Verdict::Equal) => {
                        ensure!(found.is_none(), "{target:?} is two files");
                        ensure!(!order.contains(&Some(file)), "{target:?} is an earlier one");
                        found = Some(file);
                    }
                    Some(_) => {}
                }
            }
            order.push(found);

            // Not equal to a file that is no target, in the order of KCMP_FILE.
            if let (true, Some(file)) = (in_full, found) {
                self.check_verdicts(target, files[&file][0])?;
            }
        }
        let known = order.iter().flatten().count();
        let askable = files.values().filter(|places| !places.is_empty()).count();
        ensure!(
            known == askable,
            "tfd {tfd} of {epoll:?}: {known} of {askable} are found"
        );

        for toff in [count, count + 1, u32::MAX] {
            let target = TargetOf { epoll, tfd, toff };
            ensure!(self.ask(epoll, target)?.is_none(), "{target:?} is found");
        }
        Ok(order)
    }

    /// Compares all files with a target that is known to be `same`.
    fn check_verdicts(&mut self, target: TargetOf, same: FileOf) -> Result<(), Failure> {
        let all = |worker: &Worker| {
            let pid = worker.pid;
            worker
                .fds
                .keys()
                .map(|&fd| FileOf { pid, fd })
                .collect::<Vec<_>>()
        };
        let files: Vec<FileOf> = self.model.workers.iter().flat_map(all).collect();
        for file in files {
            let expected = kcmp_files(file, same)?;
            let got = self.ask(file, target)?;
            ensure!(
                got == Some(expected),
                "{file:?} and {target:?}: {got:?}, KCMP_FILE says {expected:?}"
            );
        }
        Ok(())
    }

    /// Compares what fdinfo lists with the model, and with the order in which targets were found.
    fn check_fdinfo(
        &self,
        set: FileId,
        epoll: FileOf,
        mut order: BTreeMap<RawFd, Vec<Option<FileId>>>,
    ) -> Result<(), Failure> {
        let listed = list_targets(epoll)?;
        let listed_set = listed.iter().map(|l| Target {
            tfd: l.tfd,
            file: l.data,
        });
        ensure!(
            listed_set.collect::<BTreeSet<_>>() == self.model.sets[&set]
                && listed.len() == self.model.sets[&set].len(),
            "fdinfo of {epoll:?} lists {listed:?}"
        );
        for entry in listed {
            let found = order.get_mut(&entry.tfd).unwrap().remove(0);
            ensure!(
                found.is_none() || found == Some(entry.data),
                "fdinfo of {epoll:?} has another order under tfd {}",
                entry.tfd
            );
        }
        Ok(())
    }
}

fn run(steps: u64, seed: u64) -> Result<Done, Failure> {
    println!("# {steps} steps with seed {seed}");
    let mut run = Run::new(seed)?;
    let mut last = VecDeque::new();
    let begin = Instant::now();
    for step in 1..=steps {
        let result = run.step().and_then(|done| {
            last.push_back(done);
            if last.len() > 20 {
                last.pop_front();
            }
            run.check(step % 16 == 0)
        });
        if let Err(failure) = result {
            println!("# step {step}: {failure}");
            println!("# the last operations, each after the number of its worker:");
            for (worker, op) in &last {
                println!("#   {worker} {op:?}");
            }
            let repeat = format!("repeat with --seed {seed} --steps {step}");
            return Err(Failure(repeat));
        }
        if step % 5000 == 0 {
            println!("# {step} steps, {} s", begin.elapsed().as_secs());
        }
    }
    println!(
        "# {} questions, {} answers \"equal\", {} targets that share a number",
        run.asked, run.equal, run.sharing
    );
    Ok(Done::Passed)
}

fn main() -> ExitCode {
    let parse = |parser: &mut _| parse_amount_and_seed(parser, "steps", 20_000);
    start(HELP, parse, |(steps, seed)| {
        disown_children();
        Ok(run_tests(&[("model", &|| run(steps, seed))]))
    })
}
