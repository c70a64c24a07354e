// SPDX-License-Identifier: GPL-2.0

//! Compares `KCMP_EPOLL_TFD` with a model, after each of many random operations.
//!
//! The operations are those of programs that share and reuse fds: open, dup2, close, epoll_ctl,
//! files sent over unix sockets, tasks that begin with a copy of another one's fds, and end. The
//! tasks are threads with fd tables of their own. The model has the files as plain numbers, which
//! the entries of interest lists carry as their data. Epoll files are neither nested nor sent.
//!
//! Usage: kcmp_epoll_model_test [STEPS [SEED]]

use std::{
    collections::{
        BTreeMap,
        BTreeSet,
        VecDeque, //
    },
    env,
    fs,
    io,
    mem::{
        size_of,
        size_of_val,
        zeroed, //
    },
    ops::Range,
    os::raw::{
        c_int,
        c_long, //
    },
    path::Path,
    process::ExitCode,
    sync::mpsc::{
        channel,
        Receiver,
        Sender, //
    },
    thread,
    time::SystemTime, //
};

#[allow(
    clippy::all,
    clippy::undocumented_unsafe_blocks,
    dead_code,
    improper_ctypes,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    unsafe_op_in_unsafe_fn
)]
mod c {
    include!(env!("BINDINGS"));
}

/// The fds of each task: those that are reused all the time, and under which most entries are
/// added, those where files stay longer, and those of epoll files.
const BUSY: Range<c_int> = 100..102;
const QUIET: Range<c_int> = 102..114;
const EPOLL: Range<c_int> = 114..116;
const TASKS_MAX: usize = 4;
/// The most files that are in flight.
const MAIL_MAX: usize = 3;

/// Returns what a system call returned, or the negative errno.
fn ret(ret: c_int) -> c_int {
    if ret < 0 {
        -io::Error::last_os_error().raw_os_error().unwrap_or(c::EIO)
    } else {
        ret
    }
}

fn close(fd: c_int) -> c_int {
    // SAFETY: No memory is involved, and no type owns a file that is closed this way.
    ret(unsafe { c::close(fd) })
}

fn dup2(from: c_int, to: c_int) -> c_int {
    // SAFETY: No memory is involved, and no type owns a file that is replaced this way.
    ret(unsafe { c::dup2(from, to) })
}

/// Moves a file to another fd. Returns 0 or an error, that of `fd` if it is one.
fn place(fd: c_int, at: c_int) -> c_int {
    match fd {
        0.. => dup2(fd, at).min(close(fd)),
        error => error,
    }
}

fn eventfd() -> c_int {
    // SAFETY: No memory is involved.
    ret(unsafe { c::eventfd(0, 0) })
}

fn epoll_create() -> c_int {
    // SAFETY: No memory is involved.
    ret(unsafe { c::epoll_create1(0) })
}

fn epoll_ctl(efd: c_int, op: c_int, fd: c_int, file: File) -> c_int {
    let data = c::epoll_data { u64_: file };
    let mut event = c::epoll_event {
        events: c::EPOLLIN,
        data,
    };
    // SAFETY: `event` is valid for the duration of the call.
    ret(unsafe { c::epoll_ctl(efd, op, fd, &mut event) })
}

/// A control message with one fd.
#[repr(C)]
struct Control {
    header: c::cmsghdr,
    fd: c_int,
}

/// Calls sendmsg(2) or recvmsg(2) for a byte and a control message.
fn transfer(socket: c_int, control: &mut Control, receive: bool) -> c_int {
    let mut byte = 0u8;
    let mut iov = c::iovec {
        iov_base: (&mut byte as *mut u8).cast(),
        iov_len: 1,
    };
    // SAFETY: All zeros are a valid message.
    let mut msg: c::msghdr = unsafe { zeroed() };
    msg.msg_iov = &mut iov;
    msg.msg_iovlen = 1;
    msg.msg_control = (control as *mut Control).cast();
    msg.msg_controllen = size_of::<Control>() as _;
    // SAFETY: The message and what it points at are valid for the duration of the call.
    ret(unsafe {
        match receive {
            false => c::sendmsg(socket, &msg, 0) as c_int,
            true => c::recvmsg(socket, &mut msg, 0) as c_int,
        }
    })
}

fn send(socket: c_int, fd: c_int) -> c_int {
    // SAFETY: All zeros are a valid header.
    let mut header: c::cmsghdr = unsafe { zeroed() };
    header.cmsg_len = (size_of::<c::cmsghdr>() + size_of_val(&fd)) as _;
    header.cmsg_level = c::SOL_SOCKET as c_int;
    header.cmsg_type = c::SCM_RIGHTS as c_int;
    transfer(socket, &mut Control { header, fd }, false).min(0)
}

fn receive(socket: c_int) -> c_int {
    // SAFETY: All zeros are a valid header.
    let mut control = Control {
        header: unsafe { zeroed() },
        fd: -1,
    };
    match transfer(socket, &mut control, true) {
        0.. => control.fd,
        error => error,
    }
}

/// A file of a task: its thread ID, and the fd.
type FileOf = (c_int, c_int);

/// kcmp(2) of two tasks. Returns the result, or the negative errno.
fn kcmp(file: FileOf, task2: c_int, kind: c::kcmp_type, idx2: usize) -> c_int {
    let words = [file.0, task2, kind as c_int, file.1].map(|word| word as c_long);
    // SAFETY: kcmp() writes no memory, and fails if it cannot read what `idx2` points at.
    let result = unsafe {
        c::syscall(
            c::SYS_kcmp as c_long,
            words[0],
            words[1],
            words[2],
            words[3],
            idx2,
        )
    };
    ret(result as c_int)
}

fn kcmp_files(a: FileOf, b: FileOf) -> c_int {
    kcmp(a, b.0, c::KCMP_FILE, b.1 as usize)
}

fn kcmp_entry(file: FileOf, epoll: FileOf, (tfd, toff): (c_int, u32)) -> c_int {
    let slot = c::kcmp_epoll_slot {
        efd: epoll.1 as u32,
        tfd: tfd as u32,
        toff,
    };
    kcmp(file, epoll.0, c::KCMP_EPOLL_TFD, &slot as *const _ as usize)
}

type Op = Box<dyn FnOnce() -> c_int + Send>;

/// A thread with an fd table of its own. It ends when this is dropped.
struct Task {
    tid: c_int,
    ops: Sender<Op>,
    results: Receiver<c_int>,
    fds: BTreeMap<c_int, File>,
}

/// Starts a task from the thread that calls this, with a copy of its fds. Returns its thread ID.
fn start(ops: Receiver<Op>, results: Sender<c_int>) -> c_int {
    let (ready, tid) = channel();
    thread::spawn(move || {
        // SAFETY: No memory is involved.
        let tid = unsafe {
            match ret(c::unshare(c::CLONE_FILES as c_int)) {
                0 => c::gettid(),
                errno => errno,
            }
        };
        let _ = ready.send(tid);
        while let Ok(op) = ops.recv() {
            let _ = results.send(op());
        }
    });
    tid.recv().unwrap_or(-c::ESRCH)
}

impl Task {
    /// Calls a function in the task, and returns its result.
    fn call(&self, op: Op) -> c_int {
        let _ = self.ops.send(op);
        self.results.recv().unwrap_or(-c::ESRCH)
    }

    /// Starts a task from another one, or from this thread.
    fn from(parent: Option<&Task>) -> Result<Task, String> {
        let (ops, todo) = channel();
        let (done, results) = channel();
        let tid = match parent {
            Some(parent) => parent.call(Box::new(|| start(todo, done))),
            None => start(todo, done),
        };
        let fds = parent.map(|parent| parent.fds.clone()).unwrap_or_default();
        match tid {
            0.. => Ok(Task {
                tid,
                ops,
                results,
                fds,
            }),
            _ => Err(format!("no task is started: {tid}")),
        }
    }

    /// Ends the task, and waits until its files are closed.
    fn end(self) {
        let path = format!("/proc/self/task/{}", self.tid);
        drop(self.ops);
        // join() would return before the kernel closes the files.
        while Path::new(&path).exists() {
            thread::yield_now();
        }
    }
}

type File = u64;

/// The fd and the target file of an entry.
type Entry = (c_int, File);

struct Model {
    tasks: Vec<Task>,
    /// The interest list of each epoll file.
    lists: BTreeMap<File, BTreeSet<Entry>>,
    /// The ends of a pair of sockets, and the files that are in flight.
    sockets: [c_int; 2],
    mail: VecDeque<File>,
    files: File,
    random: u64,
}

impl Model {
    fn new(seed: u64) -> Result<Model, String> {
        let mut sockets = [0; 2];
        // SAFETY: `sockets` is valid for writing two fds.
        match ret(unsafe {
            c::socketpair(
                c::AF_UNIX as c_int,
                c::SOCK_DGRAM as _,
                0,
                sockets.as_mut_ptr(),
            )
        }) {
            0 => Ok(Model {
                tasks: vec![Task::from(None)?],
                lists: BTreeMap::new(),
                sockets,
                mail: VecDeque::new(),
                files: 0,
                random: seed,
            }),
            error => Err(format!("socketpair: {error}")),
        }
    }

    /// A number below `end`, by SplitMix64.
    fn below(&mut self, end: usize) -> usize {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % end as u64) as usize
    }

    fn any_of(&mut self, fds: Range<c_int>) -> c_int {
        fds.start + self.below(fds.len()) as c_int
    }

    /// Mostly one of `fds`, sometimes one where such a file is not expected.
    fn mostly(&mut self, fds: Range<c_int>) -> c_int {
        match self.below(16) {
            0 => self.any_of(BUSY.start..QUIET.end),
            _ => self.any_of(fds),
        }
    }

    fn new_file(&mut self, task: usize, fd: c_int) -> File {
        self.files += 1;
        self.tasks[task].fds.insert(fd, self.files);
        self.files
    }

    fn file(&self, task: usize, fd: c_int) -> Option<File> {
        self.tasks[task].fds.get(&fd).copied()
    }

    /// All files of all tasks.
    fn open_files(&self) -> Vec<(FileOf, File)> {
        let of_task = |task: &'_ Task| {
            let tid = task.tid;
            let fds = task.fds.iter();
            fds.map(move |(&fd, &file)| ((tid, fd), file))
                .collect::<Vec<_>>()
        };
        self.tasks.iter().flat_map(of_task).collect()
    }

    /// A file is released with its last reference, and its entries are removed.
    fn release_files(&mut self) {
        let open: BTreeSet<File> = self
            .open_files()
            .into_iter()
            .map(|(_, file)| file)
            .collect();
        let is_open = |file: &File| open.contains(file) || self.mail.contains(file);
        self.lists.retain(|epoll, _| is_open(epoll));
        for list in self.lists.values_mut() {
            list.retain(|(_, file)| is_open(file));
        }
    }

    /// Changes an interest list as epoll_ctl() does.
    fn change_list(
        &mut self,
        op: c_int,
        epoll: Option<File>,
        tfd: c_int,
        file: Option<File>,
    ) -> c_int {
        let (Some(epoll), Some(file)) = (epoll, file) else {
            return -c::EBADF;
        };
        let Some(list) = self.lists.get_mut(&epoll) else {
            return -c::EINVAL;
        };
        let entry = (tfd, file);
        let (done, errno) = match op as _ {
            c::EPOLL_CTL_ADD => (list.insert(entry), c::EEXIST),
            c::EPOLL_CTL_MOD => (list.contains(&entry), c::ENOENT),
            _ => (list.remove(&entry), c::ENOENT),
        };
        if done {
            0
        } else {
            -errno
        }
    }

    /// Does a random operation in a task, and in the model. Returns a description, the result, and
    /// what the model expects.
    fn step(&mut self) -> Result<(String, c_int, c_int), String> {
        let task = self.below(self.tasks.len());
        let (fd, from, efd) = (self.mostly(BUSY), self.mostly(QUIET), self.mostly(EPOLL));
        let (file, [ours, theirs]) = (self.file(task, fd), self.sockets);
        let choice = self.below(100);
        let fds = &mut self.tasks[task].fds;
        let (text, op, expected): (_, Op, _) = match choice {
            0 => {
                let fd = self.any_of(EPOLL);
                let file = self.new_file(task, fd);
                self.lists.insert(file, BTreeSet::new());
                (
                    format!("epoll_create {fd}"),
                    Box::new(move || place(epoll_create(), fd)),
                    0,
                )
            }
            1..=9 => {
                self.new_file(task, from);
                (
                    format!("eventfd {from}"),
                    Box::new(move || place(eventfd(), from)),
                    0,
                )
            }
            10..=29 => {
                let file = fds.get(&from).copied();
                fds.extend(file.map(|file| (fd, file)));
                let expected = file.map_or(-c::EBADF, |_| fd);
                (
                    format!("dup2 {from} to {fd}"),
                    Box::new(move || dup2(from, fd)),
                    expected,
                )
            }
            30..=35 => {
                let expected = fds.remove(&fd).map_or(-c::EBADF, |_| 0);
                (format!("close {fd}"), Box::new(move || close(fd)), expected)
            }
            36..=39 if file.is_some() && self.mail.len() < MAIL_MAX => {
                self.mail.extend(file);
                (format!("send {fd}"), Box::new(move || send(ours, fd)), 0)
            }
            40..=43 if !self.mail.is_empty() => {
                fds.extend(self.mail.pop_front().map(|file| (fd, file)));
                (
                    format!("receive {fd}"),
                    Box::new(move || place(receive(theirs), fd)),
                    0,
                )
            }
            44 if self.tasks.len() < TASKS_MAX => {
                let child = Task::from(Some(&self.tasks[task]))?;
                self.tasks.push(child);
                return Ok((format!("task {task} starts another"), 0, 0));
            }
            45 if self.tasks.len() > 1 => {
                self.tasks.remove(task).end();
                return Ok((format!("task {task} ends"), 0, 0));
            }
            _ => {
                let op = match choice {
                    0..=87 => c::EPOLL_CTL_ADD,
                    88..=90 => c::EPOLL_CTL_MOD,
                    _ => c::EPOLL_CTL_DEL,
                } as c_int;
                let expected = self.change_list(op, self.file(task, efd), fd, file);
                let call = move || epoll_ctl(efd, op, fd, file.unwrap_or(0));
                (
                    format!("epoll_ctl {op} of {fd} in {efd}"),
                    Box::new(call),
                    expected,
                )
            }
        };
        Ok((
            format!("task {task}: {text}"),
            self.tasks[task].call(op),
            expected,
        ))
    }

    /// Looks up an entry whose target file is `target`, and compares it with any file. `files` are
    /// all files of all tasks.
    fn check(
        &mut self,
        files: &[(FileOf, File)],
        epoll: FileOf,
        entry: (c_int, u32),
        target: Option<File>,
    ) -> Result<(), String> {
        let task = self.below(self.tasks.len());
        let (tid, fd) = (self.tasks[task].tid, self.mostly(BUSY.start..EPOLL.end));
        let place = files.iter().find(|&&(_, file)| Some(file) == target);
        for file in place
            .map(|&(place, _)| place)
            .into_iter()
            .chain([(tid, fd)])
        {
            let got = kcmp_entry(file, epoll, entry);
            let open = files.iter().find(|&&(other, _)| other == file);
            let expected = match (open, target, place) {
                (None, ..) => -c::EBADF,
                (_, None, _) => -c::ENOENT,
                (Some(&(_, id)), Some(target), _) if id == target => 0,
                // Another file: the order is that of KCMP_FILE.
                (.., Some(&(place, _))) => kcmp_files(file, place).clamp(1, 2),
                // It is in flight: there is nothing to compare with.
                _ => got.clamp(1, 2),
            };
            if got != expected {
                return Err(format!(
                    "{file:?}, {epoll:?}, {entry:?}: {got}, expected {expected}"
                ));
            }
        }
        Ok(())
    }

    /// Looks up all entries of all interest lists, and some that are not there.
    fn check_all(&mut self) -> Result<(), String> {
        let files = self.open_files();
        for &(epoll, file) in &files {
            let expected = match self.lists.get(&file) {
                Some(list) => list.clone(),
                None if kcmp_entry(epoll, epoll, (0, 0)) == -c::EINVAL => continue,
                None => return Err(format!("{epoll:?} is taken for an epoll file")),
            };
            let listed = list_entries(epoll)?;
            if listed.len() != expected.len()
                || listed.iter().copied().collect::<BTreeSet<_>>() != expected
            {
                return Err(format!("{epoll:?} lists {listed:?}, expected {expected:?}"));
            }
            let mut toffs = BTreeMap::new();
            let mut entries = Vec::new();
            for (tfd, target) in listed {
                let toff = toffs.entry(tfd).or_insert(0);
                entries.push(((tfd, *toff), target));
                *toff += 1;
            }
            // Any of them may be the first lookup after a change.
            let first = self.below(entries.len().max(1));
            entries.rotate_left(first);
            for (entry, target) in entries {
                self.check(&files, epoll, entry, Some(target))?;
            }
            for tfd in (BUSY.start..EPOLL.end).chain([-1, 0, c_int::MAX]) {
                let toff = toffs.get(&tfd).copied().unwrap_or(0);
                self.check(&files, epoll, (tfd, toff), None)?;
                self.check(&files, epoll, (tfd, u32::MAX), None)?;
            }
        }
        Ok(())
    }
}

/// Lists the entries of an epoll file, in the order of its fdinfo, which is that of toff.
fn list_entries((tid, efd): FileOf) -> Result<Vec<Entry>, String> {
    // tfd:        5 events:       19 data:                5  pos:0 ino:b sdev:f
    let parse = |line: &str| {
        let mut words = line.split_whitespace();
        let mut after = |key| words.find(|word| *word == key).and_then(|_| words.next());
        let tfd = after("tfd:")?.parse().ok()?;
        Some((tfd, File::from_str_radix(after("data:")?, 16).ok()?))
    };
    let path = format!("/proc/self/task/{tid}/fdinfo/{efd}");
    let text = fs::read_to_string(&path).map_err(|e| format!("{path}: {e}"))?;
    let lines = text.lines().filter(|line| line.starts_with("tfd:"));
    lines
        .map(|line| parse(line).ok_or_else(|| format!("{path}: {line}")))
        .collect()
}

/// Does random operations, and checks all lookups after each. Shows the last ones on failure.
fn run(steps: u64, seed: u64) -> Result<(), String> {
    // The model expects that nothing is open there.
    for fd in BUSY.start..EPOLL.end {
        close(fd);
    }
    let mut model = Model::new(seed)?;
    let mut log = VecDeque::new();
    for _ in 0..steps {
        let (text, got, expected) = model.step()?;
        model.release_files();
        log.push_back(text);
        log.drain(..log.len().saturating_sub(20));
        let done = match got == expected {
            true => model.check_all(),
            false => Err(format!("it returns {got}, expected {expected}")),
        };
        done.map_err(|error| {
            let ops: Vec<_> = log.iter().map(String::as_str).collect();
            format!("after these operations:\n{}\n{error}", ops.join("\n"))
        })?;
    }
    Ok(())
}

fn main() -> ExitCode {
    let time = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    let mut numbers = [1000, time.as_micros() as u64];
    for (arg, number) in env::args().skip(1).zip(&mut numbers) {
        match arg.parse() {
            Ok(value) => *number = value,
            Err(error) => {
                eprintln!("{arg}: {error}");
                return ExitCode::FAILURE;
            }
        }
    }
    let [steps, seed] = numbers;
    println!("TAP version 13\n1..1\n# {steps} steps with seed {seed}");
    // SAFETY: No memory is involved.
    if ret(unsafe { c::syscall(c::SYS_kcmp as c_long, 0, 0, 0, 0, 0) } as c_int) == -c::ENOSYS {
        println!("ok 1 model # SKIP the kernel has no kcmp()");
        return ExitCode::from(4); // KSFT_SKIP
    }
    // SAFETY: No memory is involved. No kernel has this flag: nothing is opened.
    if ret(unsafe { c::epoll_create1(-1) }) == -c::ENOSYS {
        println!("ok 1 model # SKIP the kernel has no epoll");
        return ExitCode::from(4);
    }
    match run(steps, seed) {
        Ok(()) => {
            println!("ok 1 model");
            ExitCode::SUCCESS
        }
        Err(error) => {
            error.lines().for_each(|line| println!("# {line}"));
            println!("not ok 1 model");
            ExitCode::FAILURE
        }
    }
}
