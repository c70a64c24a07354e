// SPDX-License-Identifier: GPL-2.0

//! `KCMP_EPOLL_TFD` while the kernel injects faults, and what is left behind.
//!
//! A lookup copies the slot from user space and allocates nothing: it fails with `EFAULT` where the
//! copy does, and allocations that fail change no answer. Whatever the answer, no lock stays held,
//! and no file and no epitem stays referenced.
//!
//! Documentation/fault-injection/fault-injection.rst in the kernel tells about the files used here.

use kcmp_epoll::*;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::fd::RawFd;
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::ptr;
use std::thread;
use std::time::{Duration, Instant};

const HELP: &str = "\
Ask KCMP_EPOLL_TFD while copies from user space and allocations fail, and check
that nothing is left behind: no lock, no reference to a file or an epitem.

Usage: kcmp_epoll_faults_test

Has to be started by root. What needs a kernel that injects faults is skipped on
others: CONFIG_FAULT_INJECTION_DEBUG_FS, CONFIG_FAULT_INJECTION_USERCOPY,
CONFIG_FAILSLAB, CONFIG_FAIL_PAGE_ALLOC. Prints TAP.
";

/// Numbers of files: one that is a target and one that is not, an epoll set, one with many targets,
/// one that is a target of another, a socket, and a number that is never open.
const FILE: RawFd = 100;
const OTHER: RawFd = 101;
const SET: RawFd = 102;
const BIG: RawFd = 103;
const INNER: RawFd = 104;
const SOCKET: RawFd = 105;
const CLOSED: RawFd = 106;
/// A number with many targets, and where their files live on.
const SHARED: RawFd = 110;
const SHARING: std::ops::Range<RawFd> = 200..250;
/// The targets of the big set.
const MANY: std::ops::Range<RawFd> = 1000..3000;

/// No call has as many places where a fault can be injected.
const PLACES_MAX: u32 = 100;

// --- Faults --------------------------------------------------------------------------------------

const DEBUGFS: &str = "/sys/kernel/debug";

/// Sets what debugfs has of a kind of fault.
fn set_attribute(kind: &str, name: &str, value: &str) -> io::Result<()> {
    let path = Path::new(DEBUGFS).join(kind).join(name);
    // Not by write_all_at(): these files have no position.
    let mut file = OpenOptions::new().write(true).open(path)?;
    file.write_all(value.as_bytes())
}

fn mount_debugfs() -> io::Result<()> {
    let (what, place) = (c"debugfs".as_ptr(), c"/sys/kernel/debug".as_ptr());
    // SAFETY: All strings are valid, and there are no options.
    cvt(unsafe { libc::mount(what, place, what, 0, ptr::null()) }).map(drop)
}

/// What makes calls of this process fail.
struct Faults {
    /// The call to fail, as counted from now: 0 is none.
    fail_nth: File,
    /// Whether this process is one whose allocations fail.
    make_it_fail: File,
}

impl Faults {
    /// Prepares what all tests need. Fails with why there is none.
    fn new() -> Result<Faults, String> {
        let open = |name: &str| {
            let path = Path::new("/proc/thread-self").join(name);
            let file = OpenOptions::new().read(true).write(true).open(path);
            file.map_err(|e| match e.kind() {
                ErrorKind::NotFound => "the kernel injects no faults".to_string(),
                _ => format!("{name}: {e}"),
            })
        };
        let (fail_nth, make_it_fail) = (open("fail-nth")?, open("make-it-fail")?);
        let kinds = ["fail_usercopy", "failslab", "fail_page_alloc"];
        let missing = || {
            kinds
                .iter()
                .find(|kind| !Path::new(DEBUGFS).join(kind).exists())
        };
        if missing().is_some() {
            // Where it is mounted already, this fails, and what is missing stays so.
            let _ = mount_debugfs();
        }
        if let Some(kind) = missing() {
            return Err(format!("the kernel has no {kind} in debugfs"));
        }
        let set = |kind: &str, name, value| {
            let result = set_attribute(kind, name, value);
            result.map_err(|e| format!("{kind}/{name}: {e}"))
        };
        // Each fault that fail-nth injects would print a call trace, whatever its kind.
        let all = fs::read_dir(DEBUGFS).map_err(|e| format!("{DEBUGFS}: {e}"))?;
        for kind in all.filter_map(|entry| entry.ok()?.file_name().into_string().ok()) {
            if Path::new(DEBUGFS).join(&kind).join("verbose").exists() {
                set(&kind, "verbose", "0")?;
            }
        }
        for kind in ["failslab", "fail_page_alloc"] {
            // Nearly all allocations may wait.
            set(kind, "ignore-gfp-wait", "N")?;
        }
        set("fail_page_alloc", "min-order", "0")?;
        Ok(Faults {
            fail_nth,
            make_it_fail,
        })
    }

    /// Calls `call` with a fault in the `n`-th place from now, if the call has as many. Tells
    /// whether it had.
    fn with_nth<T>(&self, n: u32, call: impl FnOnce() -> T) -> io::Result<(T, bool)> {
        let n = n.to_string();
        self.fail_nth.write_all_at(n.as_bytes(), 0)?;
        let value = call();
        // To copy what is read to user space is a place of its own: it fails if it is next.
        let mut text = [0; 16];
        let fired = match self.fail_nth.read_at(&mut text, 0) {
            Ok(len) => text[..len].trim_ascii() == b"0",
            Err(e) if e.raw_os_error() == Some(libc::EFAULT) => false,
            Err(e) => return Err(e),
        };
        // So is to copy what is written.
        loop {
            match self.fail_nth.write_all_at(b"0", 0) {
                Err(e) if e.raw_os_error() == Some(libc::EFAULT) => {}
                result => return result.map(|()| (value, fired)),
            }
        }
    }

    /// Lets all allocations of a kind fail for this process while `body` runs, which must not be
    /// more than it can bear.
    fn with_failing<T>(&self, kind: &str, body: impl FnOnce() -> T) -> io::Result<T> {
        let settings = [
            ("task-filter", "Y"),
            ("interval", "1"),
            ("space", "0"),
            ("probability", "100"),
            // Were a page fault among them, it would be tried again for ever.
            ("times", "100000"),
        ];
        for (name, value) in settings {
            set_attribute(kind, name, value)?;
        }
        self.make_it_fail.write_all_at(b"1", 0)?;
        let value = body();
        self.make_it_fail.write_all_at(b"0", 0)?;
        set_attribute(kind, "probability", "0")?;
        Ok(value)
    }
}

/// [`Faults::with_nth`], or only the call where there are no faults.
fn with_nth<T>(faults: Option<&Faults>, n: u32, call: impl FnOnce() -> T) -> io::Result<(T, bool)> {
    match faults {
        Some(faults) => faults.with_nth(n, call),
        None => Ok((call(), false)),
    }
}

// --- Questions -----------------------------------------------------------------------------------

/// A question to kcmp().
#[derive(Clone, Copy, Debug)]
struct Question {
    one: Pid,
    two: Pid,
    fd: RawFd,
    slot: Slot,
}

impl Question {
    /// A question of this process about itself.
    fn new(fd: RawFd, efd: RawFd, tfd: RawFd, toff: u32) -> Question {
        let (efd, tfd) = (efd as u32, tfd as u32);
        let us = getpid();
        Question {
            one: us,
            two: us,
            fd,
            slot: Slot { efd, tfd, toff },
        }
    }

    /// Asks, and gives the answer or a negative errno.
    fn ask(&self) -> i32 {
        let slot = &raw const self.slot;
        let (one, two, fd) = (self.one as u64, self.two as u64, self.fd as u64);
        kcmp_raw(one, two, KCMP_EPOLL_TFD, fd, slot as u64)
    }
}

/// What a question is answered by.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Answer {
    Equal,
    Unequal,
    Error(i32),
}

fn answer(raw: i32) -> Answer {
    match raw {
        0 => Answer::Equal,
        1.. => Answer::Unequal,
        error => Answer::Error(-error),
    }
}

/// A question, its name, and what kcmp() returns.
struct Case {
    name: &'static str,
    question: Question,
    answer: i32,
}

struct Scene {
    cases: Vec<Case>,
    /// A process with the same files, and a socket that it reads from before it calls exec().
    child: Pid,
    socket: RawFd,
}

/// Waits for a word, and lets the kernel execute this program.
fn wait_and_exec(socket: RawFd) -> io::Result<i32> {
    end_with_parent()?;
    let [_] = receive_words(socket)?;
    let mut program = Command::new("/proc/self/exe");
    Err(program.arg("--help").stdout(Stdio::null()).exec())
}

impl Scene {
    fn new() -> Result<Scene, Failure> {
        allow_files(MANY.end)?;
        close_range(3..RawFd::MAX)?;
        for fd in [FILE, OTHER] {
            place(eventfd()?, fd)?;
        }
        for fd in [SET, BIG, INNER] {
            place(epoll_create()?, fd)?;
        }
        place(lone_socket()?, SOCKET)?;
        let add = |efd, fd| epoll_ctl(efd, libc::EPOLL_CTL_ADD, fd, libc::EPOLLIN, 0);
        add(SET, FILE)?;
        add(INNER, FILE)?;
        for spare in SHARING {
            place(eventfd()?, SHARED)?;
            add(SET, SHARED)?;
            dup2(SHARED, spare)?;
        }
        for fd in MANY {
            dup2(FILE, fd)?;
            add(BIG, fd)?;
            close(fd)?;
        }

        let [socket, theirs] = socketpair(libc::SOCK_SEQPACKET)?;
        let child = fork(|| wait_and_exec(theirs).unwrap_or(1))?;
        close(theirs)?;
        let asked = |fd, efd, tfd, toff| Question::new(fd, efd, tfd, toff);
        let of_child = Question {
            one: child,
            ..asked(FILE, SET, FILE, 0)
        };
        let in_child = Question {
            two: child,
            ..asked(FILE, SET, FILE, 0)
        };
        let sharing = SHARING.len() as u32;
        let cases = [
            ("equal", asked(FILE, SET, FILE, 0), Answer::Equal),
            ("not equal", asked(OTHER, SET, FILE, 0), Answer::Unequal),
            ("a file of another", of_child, Answer::Equal),
            ("a set of another", in_child, Answer::Equal),
            (
                "a big set",
                asked(FILE, BIG, MANY.end - 1, 0),
                Answer::Equal,
            ),
            (
                "the last of a number",
                asked(FILE, SET, SHARED, sharing - 1),
                Answer::Unequal,
            ),
            (
                "one more of a number",
                asked(FILE, SET, SHARED, sharing),
                Answer::Error(libc::ENOENT),
            ),
            (
                "no such target",
                asked(FILE, SET, CLOSED, 0),
                Answer::Error(libc::ENOENT),
            ),
            (
                "no such file",
                asked(CLOSED, SET, FILE, 0),
                Answer::Error(libc::EBADF),
            ),
            (
                "no such epoll file",
                asked(FILE, CLOSED, FILE, 0),
                Answer::Error(libc::EBADF),
            ),
            (
                "no epoll file",
                asked(FILE, OTHER, FILE, 0),
                Answer::Error(libc::EINVAL),
            ),
        ];
        let mut scene = Scene {
            cases: Vec::new(),
            child,
            socket,
        };
        for (name, question, expected) in cases {
            let raw = question.ask();
            ensure!(
                answer(raw) == expected,
                "{name}: {raw}, expected {expected:?}"
            );
            scene.cases.push(Case {
                name,
                question,
                answer: raw,
            });
        }
        // From here on, no page fault is needed, in which faults could be injected as well.
        // SAFETY: No memory is involved.
        cvt(unsafe { libc::mlockall(libc::MCL_CURRENT | libc::MCL_FUTURE) })?;
        Ok(scene)
    }

    /// Asks everything without faults.
    fn check(&self) -> Result<(), Failure> {
        for case in &self.cases {
            let raw = case.question.ask();
            ensure!(
                raw == case.answer,
                "{}: {raw} instead of {}",
                case.name,
                case.answer
            );
        }
        Ok(())
    }
}

// --- Tests ---------------------------------------------------------------------------------------

/// Asks with a fault in each place. The answer has to be the right one, or that the slot cannot be
/// copied. Gives how often it was that.
fn ask_with_faults(faults: &Faults, case: &Case) -> Result<u32, Failure> {
    let mut refused = 0;
    for n in 1..=PLACES_MAX {
        let (raw, fired) = faults.with_nth(n, || case.question.ask())?;
        ensure!(
            raw == case.answer || (fired && raw == -libc::EFAULT),
            "{}, fault {n}: {raw} instead of {}",
            case.name,
            case.answer
        );
        refused += u32::from(raw == -libc::EFAULT);
        let raw = case.question.ask();
        ensure!(raw == case.answer, "{}, after fault {n}: {raw}", case.name);
        if !fired {
            return Ok(refused);
        }
    }
    Err(Failure(format!("{}: fail-nth never ends", case.name)))
}

/// A slot that cannot be copied. Afterwards the set can still be changed.
fn copy_fails(faults: &Faults, scene: &Scene) -> Result<Done, Failure> {
    let mut refused = 0;
    for case in &scene.cases {
        let times = ask_with_faults(faults, case)?;
        ensure!(times > 0, "{}: no fault changes the answer", case.name);
        refused += times;
    }
    scene.check()?;
    println!("# {} questions, {refused} times EFAULT", scene.cases.len());

    let changed = Question::new(OTHER, SET, OTHER, 0);
    epoll_ctl(SET, libc::EPOLL_CTL_ADD, OTHER, libc::EPOLLIN, 0)?;
    ensure!(changed.ask() == 0, "a new target is not found");
    epoll_ctl(SET, libc::EPOLL_CTL_DEL, OTHER, 0, 0)?;
    ensure!(changed.ask() == -libc::ENOENT, "a deleted target is found");
    Ok(Done::Passed)
}

/// A call that allocates many pages at once: writev() copies what is to be written, which is
/// nothing, from as many places as it allows.
fn allocate_pages(fd: RawFd, places: &[libc::iovec]) -> io::Result<()> {
    // SAFETY: All places are empty.
    let written = unsafe { libc::writev(fd, places.as_ptr(), places.len() as libc::c_int) };
    cvt(written as libc::c_int).map(drop)
}

/// Allocations that fail, while others that are made to show that they do.
fn allocation_fails(faults: &Faults, scene: &Scene) -> Result<Done, Failure> {
    const CALLS: u32 = 200;
    let nothing = libc::iovec {
        iov_base: ptr::null_mut(),
        iov_len: 0,
    };
    let places = vec![nothing; libc::UIO_MAXIOV as usize];
    let allocate_object = || eventfd().and_then(close);
    let allocate_pages = || allocate_pages(FILE, &places);
    let kinds: [(&str, &dyn Fn() -> io::Result<()>); 2] = [
        ("failslab", &allocate_object),
        ("fail_page_alloc", &allocate_pages),
    ];
    for (kind, allocate) in kinds {
        allocate()?;
        let (wrong, control) = faults.with_failing(kind, || {
            let ask = |_| {
                scene
                    .cases
                    .iter()
                    .find(|case| case.question.ask() != case.answer)
            };
            ((0..CALLS).find_map(ask), allocate())
        })?;
        if let Some(case) = wrong {
            return Err(Failure(format!("{kind}: {} has another answer", case.name)));
        }
        ensure!(
            control
                .as_ref()
                .is_err_and(|e| e.raw_os_error() == Some(libc::ENOMEM)),
            "{kind}: another call that allocates gives {control:?}"
        );
        allocate()?;
        scene.check()?;
        println!("# {kind}: {} lookups", CALLS as usize * scene.cases.len());
    }
    Ok(Done::Passed)
}

/// How often epoll_ctl() gave which error.
#[derive(Debug, Default)]
struct Errors {
    efault: u32,
    enomem: u32,
}

/// Adds and deletes a target, with a fault in each place. The set has to be as epoll_ctl() said.
fn change_with_faults(
    faults: Option<&Faults>,
    fd: RawFd,
    errors: &mut Errors,
) -> Result<(), Failure> {
    let question = Question::new(fd, SET, fd, 0);
    let mut change = |n, op| -> Result<(bool, bool), Failure> {
        let call = || epoll_ctl(SET, op, fd, libc::EPOLLIN, 0);
        let (result, fired) = with_nth(faults, n, call)?;
        match result.as_ref().map_err(|e| e.raw_os_error()) {
            Ok(()) => {}
            Err(Some(libc::EFAULT)) if fired => errors.efault += 1,
            Err(Some(libc::ENOMEM)) if fired => errors.enomem += 1,
            Err(_) => return Err(Failure(format!("epoll_ctl({op}), fault {n}: {result:?}"))),
        }
        Ok((result.is_ok(), fired))
    };
    for n in 1..=PLACES_MAX {
        let (added, fired) = change(n, libc::EPOLL_CTL_ADD)?;
        let expected = if added { 0 } else { -libc::ENOENT };
        let raw = question.ask();
        ensure!(
            raw == expected,
            "{fd}: {raw} after ADD, which told {added}, fault {n}"
        );
        if added {
            let (deleted, _) = change(n, libc::EPOLL_CTL_DEL)?;
            let expected = if deleted { -libc::ENOENT } else { 0 };
            let raw = question.ask();
            ensure!(
                raw == expected,
                "{fd}: {raw} after DEL, which told {deleted}, fault {n}"
            );
            if !deleted {
                epoll_ctl(SET, libc::EPOLL_CTL_DEL, fd, 0, 0)?;
            }
        }
        if !fired {
            return Ok(());
        }
    }
    Err(Failure(format!("changing {fd}: fail-nth never ends")))
}

fn ctl_fails(faults: &Faults, scene: &Scene) -> Result<Done, Failure> {
    for fd in [OTHER, SOCKET, INNER] {
        let mut errors = Errors::default();
        for _ in 0..20 {
            change_with_faults(Some(faults), fd, &mut errors)?;
        }
        println!("# {fd}: {errors:?}");
        ensure!(
            errors.efault > 0 && errors.enomem > 0,
            "{fd}: ADD has not failed"
        );
    }
    scene.check()?;
    Ok(Done::Passed)
}

fn pipe() -> io::Result<[RawFd; 2]> {
    let mut fds = [0; 2];
    // SAFETY: `fds` is valid for writing two numbers.
    cvt(unsafe { libc::pipe(fds.as_mut_ptr()) })?;
    Ok(fds)
}

/// Whether the other end of a pipe is closed.
fn is_hung_up(fd: RawFd) -> io::Result<bool> {
    Ok(poll(fd, 0, 0)? & libc::POLLHUP != 0)
}

/// A kind of question about the ends of a pipe and an epoll file, of which the second end is a
/// target: its name, how to make it, and what is answered.
type Kind = (&'static str, fn(RawFd, RawFd, RawFd) -> Question, Answer);
const KINDS: [Kind; 5] = [
    (
        "equal",
        |_, to, set| Question::new(to, set, to, 0),
        Answer::Equal,
    ),
    (
        "not equal",
        |from, to, set| Question::new(from, set, to, 0),
        Answer::Unequal,
    ),
    (
        "no such target",
        |_, to, set| Question::new(to, set, CLOSED, 0),
        Answer::Error(libc::ENOENT),
    ),
    (
        "no such epoll file",
        |_, to, _| Question::new(to, CLOSED, to, 0),
        Answer::Error(libc::EBADF),
    ),
    (
        "no epoll file",
        |_, to, _| Question::new(to, to, to, 0),
        Answer::Error(libc::EINVAL),
    ),
];

/// Asks about a pipe and an epoll file and closes them: the other end of the pipe, and the set that
/// the epoll file is in, have to see that they are gone.
fn release_files(faults: Option<&Faults>) -> Result<(), Failure> {
    for (name, ask, expected) in KINDS {
        let [from, to] = pipe()?;
        let set = epoll_create()?;
        epoll_ctl(set, libc::EPOLL_CTL_ADD, to, libc::EPOLLOUT, 0)?;
        epoll_ctl(SET, libc::EPOLL_CTL_ADD, set, libc::EPOLLIN, 0)?;
        let (target, nested) = (
            Question::new(from, set, to, 0),
            Question::new(from, SET, set, 0),
        );

        let question = ask(from, to, set);
        for n in 1..=3 {
            let (raw, fired) = with_nth(faults, n, || question.ask())?;
            ensure!(
                answer(raw) == expected || (fired && raw == -libc::EFAULT),
                "{name}: {raw}, expected {expected:?}"
            );
        }
        ensure!(
            !is_hung_up(from)? && target.ask() > 0,
            "{name}: the pipe is closed too early"
        );
        close(to)?;
        ensure!(is_hung_up(from)?, "{name}: the pipe is not released");
        ensure!(
            target.ask() == -libc::ENOENT,
            "{name}: the pipe is still a target"
        );
        ensure!(
            nested.ask() > 0,
            "{name}: the epoll file is closed too early"
        );
        close(set)?;
        ensure!(
            nested.ask() == -libc::ENOENT,
            "{name}: the epoll file is not released"
        );
        close(from)?;
    }
    Ok(())
}

/// Does something `times` times, and counts before and after. Others may have become `tolerance`
/// more meanwhile. Some are released a little later.
fn balance(
    count: fn() -> io::Result<u64>,
    times: u32,
    tolerance: u64,
    body: &dyn Fn() -> Result<(), Failure>,
) -> Result<Done, Failure> {
    for _ in 0..times / 10 {
        body()?;
    }
    let before = match count() {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Done::Skipped(e.to_string())),
        result => result?,
    };
    for _ in 0..times {
        body()?;
    }
    let begin = Instant::now();
    loop {
        let more = count()?.saturating_sub(before);
        if more <= tolerance {
            println!("# {before} before, {} after {times} rounds", before + more);
            return Ok(Done::Passed);
        }
        let waited = begin.elapsed();
        ensure!(
            waited < Duration::from_secs(60),
            "{more} are left of {times} rounds"
        );
        thread::sleep(Duration::from_millis(200));
    }
}

fn files_are_released(faults: Option<&Faults>) -> Result<Done, Failure> {
    balance(count_open_files, 1000, 200, &|| release_files(faults))
}

fn epitems_are_released(faults: Option<&Faults>) -> Result<Done, Failure> {
    balance(|| count_objects("eventpoll_epi"), 4000, 100, &|| {
        for fd in [OTHER, INNER] {
            change_with_faults(faults, fd, &mut Errors::default())?;
        }
        Ok(())
    })
}

/// The process that was asked about calls exec(), which waits for a lock that kcmp() takes.
fn exec_is_possible(scene: &Scene) -> Result<Done, Failure> {
    scene.check()?;
    send_words(scene.socket, &[0])?;
    let status = wait(scene.child)?;
    ensure!(status == 0, "the process ended with status {status}");
    Ok(Done::Passed)
}

fn run() -> Result<ExitCode, Failure> {
    let scene = Scene::new()?;
    let faults = Faults::new();
    let injected = |test: fn(&Faults, &Scene) -> Result<Done, Failure>| match &faults {
        Ok(faults) => test(faults, &scene),
        Err(why) => Ok(Done::Skipped(why.clone())),
    };
    let faults = faults.as_ref().ok();
    // A lock that is still held makes one of the tests hang.
    // SAFETY: No handler is installed.
    unsafe { libc::alarm(600) };
    Ok(run_tests(&[
        ("copies that fail", &|| injected(copy_fails)),
        ("allocations that fail", &|| injected(allocation_fails)),
        ("changes that fail", &|| injected(ctl_fails)),
        ("files are released", &|| files_are_released(faults)),
        ("epitems are released", &|| epitems_are_released(faults)),
        ("exec() is possible", &|| exec_is_possible(&scene)),
    ]))
}

fn parse_args(parser: &mut lexopt::Parser) -> Result<(), lexopt::Error> {
    parser.next()?.map_or(Ok(()), |arg| Err(arg.unexpected()))
}

fn main() -> ExitCode {
    start_as_root(HELP, parse_args, |()| {
        Ok(run().unwrap_or_else(|failure| {
            println!("Bail out! {failure}");
            ExitCode::FAILURE
        }))
    })
}
