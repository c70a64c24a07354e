// SPDX-License-Identifier: GPL-2.0

//! A model-based test of `KCMP_EPOLL_TFD`.
//!
//! Runs a random stream of operations in a few worker processes: open, dup2, close, fork, exit,
//! epoll_ctl, files sent over unix sockets. A model tracks them in plain collections. After each
//! operation, looks up all entries of every interest list that a process has open, and compares the
//! results with the model.
//!
//! A second stream is about an interest list in which many entries share an fd.

use kcmp_epoll::*;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::ops::Range;
use std::os::fd::RawFd;
use std::process::ExitCode;

const HELP: &str = "\
Compare KCMP_EPOLL_TFD with a model, after each of many random operations.

Usage: kcmp_epoll_model_test [--steps N] [--seed N]

  --steps N   operations in each of the two streams (default 20000)
  --seed N    repeat a run with the seed that it printed (default: a new seed)

Prints TAP.
";

/// The fds of the workers: few, so that they are reused all the time.
const FDS: Range<RawFd> = 100..112;
/// Where each worker has its end of the socket to the controller, and the mailboxes: pairs of
/// sockets in which files are in flight.
const CONTROL: RawFd = 50;
const MAILBOXES: [[RawFd; 2]; 2] = [[60, 61], [62, 63]];
const MAIL_MAX: usize = 3;
const WORKERS_MAX: usize = 5;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Code {
    /// Open a file at `fd`.
    Eventfd,
    Socket,
    Epoll,
    /// Copy `from` to `fd`.
    Dup2,
    Close,
    /// Change the interest list of `from`.
    Add,
    Mod,
    Del,
    /// Send `fd` to mailbox `from`, or receive it from there.
    Send,
    Receive,
    Fork,
    Exit,
}

impl Code {
    const ALL: [Code; 12] = {
        use Code::*;
        [
            Eventfd, Socket, Epoll, Dup2, Close, Add, Mod, Del, Send, Receive, Fork, Exit,
        ]
    };
}

/// An operation, as a worker is told to do it: its code, `fd`, `from`, and data.
#[derive(Clone, Copy, Debug)]
struct Op(Code, RawFd, RawFd, u64);

impl Op {
    fn encode(self) -> [u64; 4] {
        let Op(code, fd, from, data) = self;
        [code as u64, fd as u64, from as u64, data]
    }

    fn decode([code, fd, from, data]: [u64; 4]) -> Op {
        Op(Code::ALL[code as usize], fd as RawFd, from as RawFd, data)
    }
}

// --- Workers -------------------------------------------------------------------------------------

fn perform(op: Op) -> io::Result<()> {
    let Op(code, fd, from, data) = op;
    match code {
        Code::Eventfd => place(eventfd()?, fd),
        Code::Socket => place(lone_socket()?, fd),
        Code::Epoll => place(epoll_create()?, fd),
        Code::Dup2 => dup2(from, fd),
        Code::Close => close(fd),
        Code::Add => epoll_ctl(from, c::EPOLL_CTL_ADD, fd, c::EPOLLIN, data),
        Code::Mod => epoll_ctl(from, c::EPOLL_CTL_MOD, fd, c::EPOLLOUT, data),
        Code::Del => epoll_ctl(from, c::EPOLL_CTL_DEL, fd, 0, 0),
        Code::Send => send_file(MAILBOXES[from as usize][0], fd),
        Code::Receive => place(receive_file(MAILBOXES[from as usize][1])?, fd),
        Code::Fork | Code::Exit => unreachable!(),
    }
}

/// The life of a worker: does what it is told, and replies with the errno.
fn work() -> io::Result<()> {
    loop {
        let op = Op::decode(receive_words(CONTROL)?);
        let reply = match op.0 {
            Code::Exit => return Ok(()),
            Code::Fork => {
                // The controller sends the new worker's end of a socket first.
                let control = receive_file(CONTROL)?;
                let pid = fork_worker(control, None)?;
                close(control)?;
                pid
            }
            _ => perform(op).map_or_else(|e| errno(&e), |()| 0),
        };
        send_words(CONTROL, &[reply as u64])?;
    }
}

/// Forks a worker that has all files of this process but `not`, and `control` as its socket.
///
/// It exits when told to, or when the other end of the socket is closed.
fn fork_worker(control: RawFd, not: Option<RawFd>) -> io::Result<Pid> {
    let prepare = || {
        not.map_or(Ok(()), close)?;
        place(control, CONTROL)
    };
    fork(|| prepare().and_then(|()| work()).is_err().into())
}

// --- The model -----------------------------------------------------------------------------------

/// An open file. Also what its entries carry as data.
type FileId = u64;

/// The files of a process.
type Fds = BTreeMap<RawFd, FileId>;

/// An entry of an interest list, as fdinfo lists it: its data is the target file.
type Entry = Listed;

struct Worker {
    pid: Pid,
    /// Becomes readable when the worker has exited, and its files are closed.
    pidfd: RawFd,
    control: RawFd,
    fds: Fds,
}

#[derive(Default)]
struct Model {
    /// The number of fds and of messages that refer to each file.
    refs: BTreeMap<FileId, usize>,
    /// The interest list of each epoll file.
    lists: BTreeMap<FileId, BTreeSet<Entry>>,
    workers: Vec<Worker>,
    mail: [VecDeque<FileId>; MAILBOXES.len()],
    next: FileId,
}

impl Model {
    fn get(&mut self, file: FileId) {
        *self.refs.get_mut(&file).unwrap() += 1;
    }

    fn put(&mut self, file: FileId) {
        let refs = self.refs.get_mut(&file).unwrap();
        *refs -= 1;
        if *refs == 0 {
            self.refs.remove(&file);
            self.lists.remove(&file);
            for list in self.lists.values_mut() {
                list.retain(|entry| entry.data != file);
            }
        }
    }

    /// Installs a file in a worker. Takes over the reference.
    fn install(&mut self, worker: usize, fd: RawFd, file: FileId) {
        if let Some(old) = self.workers[worker].fds.insert(fd, file) {
            self.put(old);
        }
    }

    fn file(&self, worker: usize, fd: RawFd) -> Result<FileId, i32> {
        let file = self.workers[worker].fds.get(&fd);
        file.copied().ok_or(c::EBADF)
    }

    /// Does the checks of epoll_ctl(), in the same order. Returns the epoll file and the entry.
    fn ctl(&self, worker: usize, op: Op) -> Result<(FileId, Entry), i32> {
        let Op(_, tfd, efd, _) = op;
        let (epoll, data) = (self.file(worker, efd)?, self.file(worker, tfd)?);
        if epoll == data || !self.lists.contains_key(&epoll) {
            return Err(c::EINVAL);
        }
        Ok((epoll, Entry { tfd, data }))
    }

    /// Whether the model can predict the outcome of an operation.
    ///
    /// Epoll files are nested only once: this does not test the rules for deeper nesting.
    fn knows(&self, worker: usize, op: Op) -> bool {
        let has_epolls = |list| {
            let entries: &BTreeSet<Entry> = &self.lists[&list];
            entries.iter().any(|e| self.lists.contains_key(&e.data))
        };
        let is_entry = |file| self.lists.values().flatten().any(|e| e.data == file);
        let Op(code, fd, from, _) = op;
        match code {
            Code::Fork => self.workers.len() < WORKERS_MAX,
            Code::Exit => self.workers.len() > 1,
            Code::Send => {
                self.mail[from as usize].len() < MAIL_MAX && self.file(worker, fd).is_ok()
            }
            Code::Receive => !self.mail[from as usize].is_empty(),
            Code::Add => match self.ctl(worker, op) {
                Ok((epoll, Entry { data, .. })) if self.lists.contains_key(&data) => {
                    !is_entry(epoll) && !has_epolls(data)
                }
                _ => true,
            },
            _ => true,
        }
    }

    /// Performs an operation. The caller handles fork and exit of workers.
    fn perform(&mut self, worker: usize, op: Op) -> Result<(), i32> {
        let Op(code, fd, from, _) = op;
        match code {
            Code::Eventfd | Code::Socket | Code::Epoll => {
                let file = self.next;
                self.next += 1;
                self.refs.insert(file, 1);
                if code == Code::Epoll {
                    self.lists.insert(file, BTreeSet::new());
                }
                self.install(worker, fd, file);
            }
            Code::Dup2 => {
                let file = self.file(worker, from)?;
                self.get(file);
                self.install(worker, fd, file);
            }
            Code::Close => {
                let file = self.workers[worker].fds.remove(&fd).ok_or(c::EBADF)?;
                self.put(file);
            }
            Code::Add | Code::Mod | Code::Del => {
                let (epoll, entry) = self.ctl(worker, op)?;
                let list = self.lists.get_mut(&epoll).unwrap();
                let there = list.contains(&entry);
                match code {
                    Code::Add if there => return Err(c::EEXIST),
                    Code::Add => list.insert(entry),
                    _ if !there => return Err(c::ENOENT),
                    Code::Del => list.remove(&entry),
                    _ => true,
                };
            }
            Code::Send => {
                let file = self.file(worker, fd)?;
                self.get(file);
                self.mail[from as usize].push_back(file);
            }
            Code::Receive => {
                let file = self.mail[from as usize].pop_front().unwrap();
                self.install(worker, fd, file);
            }
            Code::Fork | Code::Exit => unreachable!(),
        }
        Ok(())
    }

    /// All fds of the workers, with their files.
    fn fds(&self) -> impl Iterator<Item = (FileOf, FileId)> + '_ {
        let fds_of = |worker: &'_ Worker| {
            let pid = worker.pid;
            let fds = worker.fds.iter();
            fds.map(move |(&fd, &file)| (FileOf { pid, fd }, file))
                .collect::<Vec<_>>()
        };
        self.workers.iter().flat_map(fds_of)
    }

    /// The fds that refer to a file.
    fn places(&self, file: FileId) -> Vec<FileOf> {
        let places = self.fds().filter(|&(_, id)| id == file);
        places.map(|(place, _)| place).collect()
    }
}

// --- Lookups -------------------------------------------------------------------------------------

/// Looks up an entry that may be missing.
fn look_up(file: FileOf, entry: EntryOf) -> Result<Option<Ordering>, Failure> {
    match kcmp_entry(file, entry) {
        Ok(result) => Ok(Some(result)),
        Err(e) if errno(&e) == c::ENOENT => Ok(None),
        Err(e) => Err(format!("{file:?} and {entry:?}: {e}").into()),
    }
}

/// Checks the result of a lookup.
fn check(file: FileOf, entry: EntryOf, expected: Option<Ordering>) -> Result<(), Failure> {
    let got = look_up(file, entry)?;
    ensure!(
        got == expected,
        "{file:?} and {entry:?}: {got:?}, expected {expected:?}"
    );
    Ok(())
}

/// Lists the entries of an interest list in the order of fdinfo, which is that of toff. Checks that
/// they are those of the model.
fn list_checked(epoll: FileOf, expected: &BTreeSet<Entry>) -> Result<Vec<Entry>, Failure> {
    let listed = list_entries(&format!("/proc/{}/fdinfo/{}", epoll.pid, epoll.fd))?;
    let distinct: BTreeSet<Entry> = listed.iter().copied().collect();
    ensure!(
        distinct == *expected && listed.len() == expected.len(),
        "fdinfo of {epoll:?} lists {listed:?}, expected {expected:?}"
    );
    Ok(listed)
}

// --- The controller ------------------------------------------------------------------------------

/// The operations so far, or the last of them.
type Log = VecDeque<String>;

struct Controller {
    model: Model,
    rng: Rng,
}

impl Controller {
    fn new(seed: u64) -> Result<Controller, Failure> {
        disown_children()?;
        for mailbox in MAILBOXES {
            place_pair(c::SOCK_DGRAM, mailbox)?;
        }
        let mut controller = Controller {
            model: Model::default(),
            rng: Rng::new(seed),
        };
        let [ours, theirs] = socketpair(c::SOCK_SEQPACKET)?;
        let pid = fork_worker(theirs, Some(ours))?;
        close(theirs)?;
        controller.add_worker(pid, ours, BTreeMap::new())?;
        // The workers have them; the model does not include the controller.
        for fd in MAILBOXES.concat() {
            close(fd)?;
        }
        Ok(controller)
    }

    fn add_worker(&mut self, pid: Pid, control: RawFd, fds: Fds) -> io::Result<()> {
        // SAFETY: No memory is involved.
        let pidfd = cvt(unsafe { c::syscall(c::SYS_pidfd_open.into(), pid, 0) } as i32)?;
        self.model.workers.push(Worker {
            pid,
            pidfd,
            control,
            fds,
        });
        Ok(())
    }

    fn random_op(&mut self, worker: usize) -> Op {
        let code = match self.rng.below(100) {
            0..8 => Code::Eventfd,
            8..12 => Code::Socket,
            12..16 => Code::Epoll,
            16..30 => Code::Dup2,
            30..42 => Code::Close,
            42..44 => Code::Fork,
            44..46 => Code::Exit,
            46..78 => Code::Add,
            78..84 => Code::Mod,
            84..90 => Code::Del,
            90..95 => Code::Send,
            _ => Code::Receive,
        };
        let (fd, mut from) = (self.rng.fd(FDS), self.rng.fd(FDS));
        let fds = &self.model.workers[worker].fds;
        match code {
            Code::Send | Code::Receive => from = self.rng.below(MAILBOXES.len()) as RawFd,
            Code::Add | Code::Mod | Code::Del if self.rng.below(16) > 0 => {
                // Most random fds are not epoll files.
                let epolls = fds.iter().filter(|(_, f)| self.model.lists.contains_key(f));
                let epolls: Vec<RawFd> = epolls.map(|(&efd, _)| efd).collect();
                if !epolls.is_empty() {
                    from = self.rng.pick(&epolls);
                }
            }
            _ => {}
        }
        let data = fds.get(&fd).copied().unwrap_or(0);
        Op(code, fd, from, data)
    }

    /// Waits until a worker has exited: only then are its files closed.
    fn bury(&mut self, worker: usize) -> Result<(), Failure> {
        let dead = self.model.workers.remove(worker);
        let ended = poll(dead.pidfd, c::POLLIN, 10_000)? != 0;
        ensure!(ended, "worker {} does not end", dead.pid);
        close(dead.pidfd)?;
        close(dead.control)?;
        dead.fds.into_values().for_each(|file| self.model.put(file));
        Ok(())
    }

    /// Performs one random operation, in a worker and in the model.
    fn step(&mut self, log: &mut Log) -> Result<(), Failure> {
        let worker = self.rng.below(self.model.workers.len());
        let mut op = self.random_op(worker);
        while !self.model.knows(worker, op) {
            op = self.random_op(worker);
        }
        log.push_back(format!("worker {worker}: {op:?}"));

        let control = self.model.workers[worker].control;
        send_words(control, &op.encode())?;
        match op.0 {
            Code::Fork => {
                let [ours, theirs] = socketpair(c::SOCK_SEQPACKET)?;
                send_file(control, theirs)?;
                close(theirs)?;
                let [pid] = receive_words(control)?;
                let fds = self.model.workers[worker].fds.clone();
                fds.values().for_each(|&file| self.model.get(file));
                self.add_worker(pid as Pid, ours, fds)?;
            }
            Code::Exit => self.bury(worker)?,
            _ => {
                let expected = self.model.perform(worker, op).err().unwrap_or(0);
                let [got] = receive_words(control)?;
                ensure!(got == expected as u64, "errno {got}, expected {expected}");
            }
        }
        Ok(())
    }

    /// Looks up all entries of the interest lists that a process has open. Each is compared with
    /// the target files of the same fd, and if `in_full`, with all files.
    fn check(&mut self, in_full: bool) -> Result<(), Failure> {
        let Controller { model, rng } = self;
        for (&list, entries) in &model.lists {
            let places = model.places(list);
            if places.is_empty() {
                // The epoll file is in flight: no process has it open.
                continue;
            }
            let epoll = rng.pick(&places);
            let mut counts = BTreeMap::new();
            for Entry { tfd, data } in list_checked(epoll, entries)? {
                let count = counts.entry(tfd).or_insert(0);
                let toff = *count;
                *count += 1;
                let entry = EntryOf { epoll, tfd, toff };
                for other in entries.iter().filter(|other| other.tfd == tfd) {
                    // A file that is in flight cannot be compared.
                    let places = model.places(other.data);
                    if !places.is_empty() {
                        let result = look_up(rng.pick(&places), entry)?;
                        ensure!(
                            result.map(Ordering::is_eq) == Some(other.data == data),
                            "{entry:?} is file {data}, compared with file {}: {result:?}",
                            other.data
                        );
                    }
                }
                if let (true, Some(&target)) = (in_full, model.places(data).first()) {
                    for (file, _) in model.fds() {
                        check(file, entry, Some(kcmp_files(file, target)?))?;
                    }
                }
            }
            for tfd in FDS.chain([-1, FDS.start - 1, FDS.end, RawFd::MAX]) {
                let count = counts.get(&tfd).copied().unwrap_or(0);
                for toff in [count, count + 1, u32::MAX] {
                    check(epoll, EntryOf { epoll, tfd, toff }, None)?;
                }
            }
        }
        Ok(())
    }
}

fn check_model(steps: u64, seed: u64) -> Result<Done, Failure> {
    let mut controller = Controller::new(seed)?;
    run(steps, seed, |step, log| {
        controller.step(log)?;
        controller.check(step % 16 == 0)
    })
}

// --- Entries that share an fd --------------------------------------------------------------------

/// The epoll file, the fds that all entries share, and where their files stay open.
const EPOLL: RawFd = 99;
const SHARED: [RawFd; 2] = [100, 101];
const SPARE: Range<RawFd> = 200..328;

/// Two callers, each with an fd of its own, look up the entries of one interest list in ascending
/// order of toff, while it changes around the entry that they looked up last.
struct Sharing {
    rng: Rng,
    /// The entries. The data of each is the fd at which its file stays open.
    list: BTreeSet<Entry>,
    /// The target files of the entries of each fd, in the order of toff.
    files: [Vec<RawFd>; 2],
    /// The toff that each caller looks up next.
    toffs: [usize; 2],
}

impl Sharing {
    /// Like a process that receives files, uses one fd for all of them.
    fn ctl(&mut self, op: i32, tfd: RawFd, spare: RawFd) -> Result<(), Failure> {
        let data = spare as u64;
        let entry = Entry { tfd, data };
        let expected = match op {
            c::EPOLL_CTL_ADD if !self.list.insert(entry) => c::EEXIST,
            c::EPOLL_CTL_DEL if !self.list.remove(&entry) => c::ENOENT,
            _ => 0,
        };
        dup2(spare, tfd)?;
        let result = epoll_ctl(EPOLL, op, tfd, c::EPOLLIN, data);
        close(tfd)?;
        let got = result.map_or_else(|e| errno(&e), |()| 0);
        ensure!(got == expected, "errno {got}, expected {expected}");
        Ok(())
    }

    /// The file of the entry that a caller looked up last, or of one next to it.
    fn near_cursor(&mut self) -> Option<RawFd> {
        let caller = self.rng.below(2);
        let at = (self.toffs[caller] + self.rng.below(3)).checked_sub(2)?;
        self.files[caller].get(at).copied()
    }

    fn step(&mut self, log: &mut Log) -> Result<(), Failure> {
        let (tfd, any) = (self.rng.pick(&SHARED), self.rng.fd(SPARE));
        let near = self.near_cursor().unwrap_or(any);
        match self.rng.below(256) {
            0..144 => {
                log.push_back(format!("add {any} under {tfd}"));
                self.ctl(c::EPOLL_CTL_ADD, tfd, any)?;
            }
            144..200 => {
                log.push_back(format!("delete {near} under {tfd}"));
                self.ctl(c::EPOLL_CTL_DEL, tfd, near)?;
            }
            200..255 => {
                log.push_back(format!("replace {near}"));
                place(eventfd()?, near)?;
                self.list.retain(|entry| entry.data != near as u64);
            }
            _ => {
                log.push_back("replace the epoll file".to_string());
                place(epoll_create()?, EPOLL)?;
                self.list.clear();
            }
        }
        let pid = getpid();
        let listed = list_checked(FileOf { pid, fd: EPOLL }, &self.list)?;
        for (files, tfd) in self.files.iter_mut().zip(SHARED) {
            let listed = listed.iter().filter(|entry| entry.tfd == tfd);
            *files = listed.map(|entry| entry.data as RawFd).collect();
        }
        Ok(())
    }

    /// Looks up an entry, and compares it with its own file, another one, and its own again.
    fn check_entry(&mut self, caller: usize, toff: usize) -> Result<(), Failure> {
        let file_of = |fd| FileOf { pid: getpid(), fd };
        let (epoll, tfd) = (file_of(EPOLL), SHARED[caller]);
        let target = self.files[caller].get(toff).map(|&fd| file_of(fd));
        let any = file_of(self.rng.fd(SPARE));
        let toff = toff as u32;
        for file in [target.unwrap_or(any), any, target.unwrap_or(any)] {
            let expected = target.map(|target| kcmp_files(file, target)).transpose()?;
            check(file, EntryOf { epoll, tfd, toff }, expected)?;
        }
        Ok(())
    }

    /// Does some lookups of both callers, in turn.
    fn check_in_turn(&mut self) -> Result<(), Failure> {
        let mut caller = self.rng.below(2);
        for _ in 0..self.rng.below(8) {
            if self.rng.below(4) == 0 {
                caller = 1 - caller;
            }
            let (toff, len) = (self.toffs[caller], self.files[caller].len());
            self.check_entry(caller, toff)?;
            self.toffs[caller] = match self.rng.below(16) {
                _ if toff >= len => 0,
                0 => self.rng.below(len),
                _ => toff + 1,
            };
        }
        Ok(())
    }

    /// Does all lookups of both callers, in parallel.
    fn check_at_once(&mut self) -> Result<(), Failure> {
        let mut check_all = |caller: usize| {
            let mut toffs = 0..=self.files[caller].len();
            toffs.try_for_each(|toff| self.check_entry(caller, toff))
        };
        let child = fork(|| report(|| check_all(0)))?;
        let result = check_all(1);
        let status = wait(child)?;
        result?;
        ensure!(status == 0, "the other caller failed");
        Ok(())
    }
}

fn check_sharing(steps: u64, seed: u64) -> Result<Done, Failure> {
    place(epoll_create()?, EPOLL)?;
    for spare in SPARE {
        place(eventfd()?, spare)?;
    }
    let mut sharing = Sharing {
        rng: Rng::new(seed),
        list: BTreeSet::new(),
        files: Default::default(),
        toffs: [0; 2],
    };
    let mut most = 0;
    let done = run(steps, seed, |step, log| {
        sharing.step(log)?;
        most = most.max(sharing.files[0].len());
        match step % 64 {
            0 => sharing.check_at_once(),
            _ => sharing.check_in_turn(),
        }
    })?;
    println!("# at most {most} entries shared an fd");
    close_range(EPOLL..SPARE.end)?;
    Ok(done)
}

// --- The program ---------------------------------------------------------------------------------

/// Calls `step` for each of `steps`. Shows the last operations if it fails.
fn run(
    steps: u64,
    seed: u64,
    mut step: impl FnMut(u64, &mut Log) -> Result<(), Failure>,
) -> Result<Done, Failure> {
    println!("# {steps} steps with seed {seed}");
    let mut log = Log::new();
    for n in 1..=steps {
        if let Err(failure) = step(n, &mut log) {
            println!("# step {n}: {failure}\n# the last operations:");
            log.iter().for_each(|op| println!("#   {op}"));
            return Err(format!("repeat with --seed {seed} --steps {n}").into());
        }
        while log.len() > 20 {
            log.pop_front();
        }
    }
    Ok(Done::Passed)
}

fn main() -> ExitCode {
    let options = [("--steps", 20_000), ("--seed", new_seed())];
    start(HELP, options, |[steps, seed]| {
        Ok(run_tests(&[
            ("entries that share an fd", &|| check_sharing(steps, seed)),
            ("model", &|| check_model(steps, seed)),
        ]))
    })
}
