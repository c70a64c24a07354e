// SPDX-License-Identifier: GPL-2.0

//! `KCMP_EPOLL_TFD` while the kernel injects faults.
//!
//! A lookup copies the slot from user space and allocates nothing: it fails with `EFAULT` if the
//! copy fails, and allocation failures change no result. Whatever the result, it releases all
//! locks, and its references to files and epitems.
//!
//! See Documentation/fault-injection/fault-injection.rst in the kernel for the files used here.

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
Call KCMP_EPOLL_TFD while copies from user space and allocations fail, and check
that it releases all locks, files and epitems.

Usage: kcmp_epoll_faults_test

Has to be started by root. Tests that need fault injection are skipped on kernels
without it: CONFIG_FAULT_INJECTION_DEBUG_FS, CONFIG_FAULT_INJECTION_USERCOPY,
CONFIG_FAILSLAB, CONFIG_FAIL_PAGE_ALLOC. Prints TAP.
";

/// The fds of a file that is added, of one that is not, of epoll files with a few entries, with
/// many, and one that is added to others, of a socket, and an fd that is never open.
const FILE: RawFd = 100;
const OTHER: RawFd = 101;
const EPOLL: RawFd = 102;
const BIG: RawFd = 103;
const INNER: RawFd = 104;
const SOCKET: RawFd = 105;
const CLOSED: RawFd = 106;
/// An fd that many entries share, and the fds at which their files stay open.
const SHARED: RawFd = 110;
const SHARING: std::ops::Range<RawFd> = 200..250;
/// The entries of the big interest list.
const MANY: std::ops::Range<RawFd> = 1000..3000;

/// More than the number of places in any call where a fault can be injected.
const PLACES_MAX: u32 = 100;

// --- Faults --------------------------------------------------------------------------------------

const DEBUGFS: &str = "/sys/kernel/debug";

/// Sets an attribute of a kind of fault in debugfs.
fn set_attribute(kind: &str, name: &str, value: &str) -> io::Result<()> {
    let path = Path::new(DEBUGFS).join(kind).join(name);
    // Not write_all_at(): these files are not seekable.
    let mut file = OpenOptions::new().write(true).open(path)?;
    file.write_all(value.as_bytes())
}

/// Makes calls of this process fail.
struct Faults {
    /// Which call to fail, counted from now: 0 is none.
    fail_nth: File,
    /// Whether allocations of this process fail.
    make_it_fail: File,
}

impl Faults {
    /// Sets up fault injection for all tests. On failure, returns the reason.
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
            // Fails if debugfs is mounted already: then the kernel lacks the kind.
            let _ = Command::new("mount")
                .args(["-t", "debugfs", "debugfs", DEBUGFS])
                .output();
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
            // Fail allocations that may sleep, too: nearly all may.
            set(kind, "ignore-gfp-wait", "N")?;
        }
        set("fail_page_alloc", "min-order", "0")?;
        Ok(Faults {
            fail_nth,
            make_it_fail,
        })
    }

    /// Calls `call` with a fault in the `n`-th place from now, if the call has as many. Also
    /// returns whether the fault was injected.
    fn with_nth<T>(&self, n: u32, call: impl FnOnce() -> T) -> io::Result<(T, bool)> {
        let n = n.to_string();
        self.fail_nth.write_all_at(n.as_bytes(), 0)?;
        let value = call();
        // A fault can also be injected where this read copies to user space.
        let mut text = [0; 16];
        let fired = match self.fail_nth.read_at(&mut text, 0) {
            Ok(len) => text[..len].trim_ascii() == b"0",
            Err(e) if e.raw_os_error() == Some(c::EFAULT) => false,
            Err(e) => return Err(e),
        };
        // The same goes for a write.
        loop {
            match self.fail_nth.write_all_at(b"0", 0) {
                Err(e) if e.raw_os_error() == Some(c::EFAULT) => {}
                result => return result.map(|()| (value, fired)),
            }
        }
    }

    /// Makes all allocations of a kind fail for this process while `body` runs, which must cope
    /// with that.
    fn with_failing<T>(&self, kind: &str, body: impl FnOnce() -> T) -> io::Result<T> {
        let settings = [
            ("task-filter", "Y"),
            ("interval", "1"),
            ("space", "0"),
            ("probability", "100"),
            // A limit: if a page fault were to fail, it would be retried forever.
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

/// [`Faults::with_nth`], or only the call if the kernel injects no faults.
fn with_nth<T>(faults: Option<&Faults>, n: u32, call: impl FnOnce() -> T) -> io::Result<(T, bool)> {
    match faults {
        Some(faults) => faults.with_nth(n, call),
        None => Ok((call(), false)),
    }
}

// --- Lookups -------------------------------------------------------------------------------------

/// A call of kcmp().
#[derive(Clone, Copy, Debug)]
struct Lookup {
    pid1: Pid,
    pid2: Pid,
    fd: RawFd,
    slot: c::kcmp_epoll_slot,
}

impl Lookup {
    /// A lookup among the files of this process.
    fn new(fd: RawFd, efd: RawFd, tfd: RawFd, toff: u32) -> Lookup {
        let (efd, tfd, pid) = (efd as u32, tfd as u32, getpid());
        Lookup {
            pid1: pid,
            pid2: pid,
            fd,
            slot: c::kcmp_epoll_slot { efd, tfd, toff },
        }
    }

    /// Returns the result of kcmp(), or a negative errno.
    fn call(&self) -> i32 {
        let (pid1, pid2, fd) = (self.pid1 as u64, self.pid2 as u64, self.fd as u64);
        let slot = &raw const self.slot as u64;
        kcmp_raw(pid1, pid2, c::KCMP_EPOLL_TFD.into(), fd, slot)
    }
}

/// The result of a lookup.
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

/// A lookup, its name, and its result without faults.
struct Case {
    name: &'static str,
    lookup: Lookup,
    answer: i32,
}

struct Scene {
    cases: Vec<Case>,
    /// A process with the same files, and a socket that it reads from before it calls exec().
    child: Pid,
    socket: RawFd,
}

/// Waits for a word, and executes this program again.
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
        for fd in [EPOLL, BIG, INNER] {
            place(epoll_create()?, fd)?;
        }
        place(lone_socket()?, SOCKET)?;
        let add = |efd, fd| epoll_ctl(efd, c::EPOLL_CTL_ADD, fd, c::EPOLLIN, 0);
        add(EPOLL, FILE)?;
        add(INNER, FILE)?;
        for spare in SHARING {
            place(eventfd()?, SHARED)?;
            add(EPOLL, SHARED)?;
            dup2(SHARED, spare)?;
        }
        for fd in MANY {
            dup2(FILE, fd)?;
            add(BIG, fd)?;
            close(fd)?;
        }

        let [socket, theirs] = socketpair(c::SOCK_SEQPACKET)?;
        let child = fork(|| wait_and_exec(theirs).unwrap_or(1))?;
        close(theirs)?;
        let of_child = Lookup {
            pid1: child,
            ..Lookup::new(FILE, EPOLL, FILE, 0)
        };
        let in_child = Lookup {
            pid2: child,
            ..Lookup::new(FILE, EPOLL, FILE, 0)
        };
        let sharing = SHARING.len() as u32;
        let missing = Answer::Error(c::ENOENT);
        let cases = [
            ("equal", Lookup::new(FILE, EPOLL, FILE, 0), Answer::Equal),
            (
                "not equal",
                Lookup::new(OTHER, EPOLL, FILE, 0),
                Answer::Unequal,
            ),
            ("a file of another process", of_child, Answer::Equal),
            ("an epoll file of another process", in_child, Answer::Equal),
            (
                "a big interest list",
                Lookup::new(FILE, BIG, MANY.end - 1, 0),
                Answer::Equal,
            ),
            (
                "an entry amid those of an fd",
                Lookup::new(OTHER, EPOLL, SHARED, 10),
                Answer::Unequal,
            ),
            (
                "the next entry of the fd",
                Lookup::new(OTHER, EPOLL, SHARED, 11),
                Answer::Unequal,
            ),
            (
                "the last entry of the fd",
                Lookup::new(OTHER, EPOLL, SHARED, sharing - 1),
                Answer::Unequal,
            ),
            (
                "one entry more",
                Lookup::new(OTHER, EPOLL, SHARED, sharing),
                missing,
            ),
            (
                "no such entry",
                Lookup::new(FILE, EPOLL, CLOSED, 0),
                missing,
            ),
            (
                "no such file",
                Lookup::new(CLOSED, EPOLL, FILE, 0),
                Answer::Error(c::EBADF),
            ),
            (
                "no such epoll file",
                Lookup::new(FILE, CLOSED, FILE, 0),
                Answer::Error(c::EBADF),
            ),
            (
                "not an epoll file",
                Lookup::new(FILE, OTHER, FILE, 0),
                Answer::Error(c::EINVAL),
            ),
        ];
        let mut scene = Scene {
            cases: Vec::new(),
            child,
            socket,
        };
        for (name, lookup, expected) in cases {
            let raw = lookup.call();
            ensure!(
                answer(raw) == expected,
                "{name}: {raw}, expected {expected:?}"
            );
            scene.cases.push(Case {
                name,
                lookup,
                answer: raw,
            });
        }
        // Prevent page faults from here on: faults could be injected into these, too.
        // SAFETY: No memory is involved.
        cvt(unsafe { c::mlockall(c::MCL_CURRENT | c::MCL_FUTURE) })?;
        Ok(scene)
    }

    /// Repeats all lookups without faults.
    fn check(&self) -> Result<(), Failure> {
        for case in &self.cases {
            let raw = case.lookup.call();
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

/// Looks up with a fault in each place in turn. The result has to be that without faults, or
/// `EFAULT`. Returns the number of `EFAULT`s.
fn look_up_with_faults(faults: &Faults, case: &Case) -> Result<u32, Failure> {
    let mut refused = 0;
    for n in 1..=PLACES_MAX {
        let (raw, fired) = faults.with_nth(n, || case.lookup.call())?;
        ensure!(
            raw == case.answer || (fired && raw == -c::EFAULT),
            "{}, fault {n}: {raw} instead of {}",
            case.name,
            case.answer
        );
        refused += u32::from(raw == -c::EFAULT);
        let raw = case.lookup.call();
        ensure!(raw == case.answer, "{}, after fault {n}: {raw}", case.name);
        if !fired {
            return Ok(refused);
        }
    }
    Err(format!("{}: fail-nth never ends", case.name).into())
}

/// The slot cannot be copied. The interest list can still be changed afterwards.
fn copy_fails(faults: &Faults, scene: &Scene) -> Result<Done, Failure> {
    let mut refused = 0;
    for case in &scene.cases {
        let times = look_up_with_faults(faults, case)?;
        ensure!(times > 0, "{}: no fault changes the result", case.name);
        refused += times;
    }
    scene.check()?;
    println!("# {} lookups, {refused} times EFAULT", scene.cases.len());

    let changed = Lookup::new(OTHER, EPOLL, OTHER, 0);
    epoll_ctl(EPOLL, c::EPOLL_CTL_ADD, OTHER, c::EPOLLIN, 0)?;
    ensure!(changed.call() == 0, "a new entry is not found");
    epoll_ctl(EPOLL, c::EPOLL_CTL_DEL, OTHER, 0, 0)?;
    ensure!(changed.call() == -c::ENOENT, "a deleted entry is found");
    Ok(Done::Passed)
}

/// A call that allocates several pages at once: writev() copies the iovecs, all of which are empty.
fn allocate_pages(fd: RawFd, places: &[c::iovec]) -> io::Result<()> {
    // SAFETY: All iovecs are empty.
    let written = unsafe { c::writev(fd, places.as_ptr(), places.len() as i32) };
    cvt(written as i32).map(drop)
}

/// Allocations fail, as another call that allocates shows.
fn allocation_fails(faults: &Faults, scene: &Scene) -> Result<Done, Failure> {
    const CALLS: u32 = 200;
    let nothing = c::iovec {
        iov_base: ptr::null_mut(),
        iov_len: 0,
    };
    let places = vec![nothing; c::UIO_MAXIOV as usize];
    let allocate_object = || eventfd().and_then(close);
    let allocate_pages = || allocate_pages(FILE, &places);
    let kinds: [(&str, &dyn Fn() -> io::Result<()>); 2] = [
        ("failslab", &allocate_object),
        ("fail_page_alloc", &allocate_pages),
    ];
    for (kind, allocate) in kinds {
        allocate()?;
        let (wrong, control) = faults.with_failing(kind, || {
            let wrong = |case: &&Case| case.lookup.call() != case.answer;
            let wrong = (0..CALLS).find_map(|_| scene.cases.iter().find(wrong));
            (wrong, allocate())
        })?;
        if let Some(case) = wrong {
            return Err(format!("{kind}: {} has another result", case.name).into());
        }
        ensure!(
            control
                .as_ref()
                .is_err_and(|e| e.raw_os_error() == Some(c::ENOMEM)),
            "{kind}: another call that allocates returns {control:?}"
        );
        allocate()?;
        scene.check()?;
        println!("# {kind}: {} lookups", CALLS as usize * scene.cases.len());
    }
    Ok(Done::Passed)
}

/// The errors of epoll_ctl().
#[derive(Debug, Default)]
struct Errors {
    efault: u32,
    enomem: u32,
}

/// Adds and deletes an entry, with a fault in each place in turn. The interest list has to match
/// the results of epoll_ctl().
fn change_with_faults(
    faults: Option<&Faults>,
    fd: RawFd,
    errors: &mut Errors,
) -> Result<(), Failure> {
    let lookup = Lookup::new(fd, EPOLL, fd, 0);
    let mut change = |n, op| -> Result<(bool, bool), Failure> {
        let call = || epoll_ctl(EPOLL, op, fd, c::EPOLLIN, 0);
        let (result, fired) = with_nth(faults, n, call)?;
        match result.as_ref().map_err(|e| e.raw_os_error()) {
            Ok(()) => {}
            Err(Some(c::EFAULT)) if fired => errors.efault += 1,
            Err(Some(c::ENOMEM)) if fired => errors.enomem += 1,
            Err(_) => return Err(format!("epoll_ctl({op}), fault {n}: {result:?}").into()),
        }
        Ok((result.is_ok(), fired))
    };
    for n in 1..=PLACES_MAX {
        let (added, fired) = change(n, c::EPOLL_CTL_ADD)?;
        let expected = if added { 0 } else { -c::ENOENT };
        let raw = lookup.call();
        ensure!(
            raw == expected,
            "{fd}: {raw} after ADD, which returned {added}, fault {n}"
        );
        if added {
            let (deleted, _) = change(n, c::EPOLL_CTL_DEL)?;
            let expected = if deleted { -c::ENOENT } else { 0 };
            let raw = lookup.call();
            ensure!(
                raw == expected,
                "{fd}: {raw} after DEL, which returned {deleted}, fault {n}"
            );
            if !deleted {
                epoll_ctl(EPOLL, c::EPOLL_CTL_DEL, fd, 0, 0)?;
            }
        }
        if !fired {
            return Ok(());
        }
    }
    Err(format!("changing {fd}: fail-nth never ends").into())
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
    // SAFETY: `fds` is valid for writing two fds.
    cvt(unsafe { c::pipe(fds.as_mut_ptr()) })?;
    Ok(fds)
}

/// Whether the other end of a pipe is closed.
fn is_hung_up(fd: RawFd) -> io::Result<bool> {
    Ok(poll(fd, 0, 0)? & c::POLLHUP != 0)
}

/// A kind of lookup with the ends of a pipe and an epoll file, to which the second end is added:
/// its name, how to make it, and its result.
type Kind = (&'static str, fn(RawFd, RawFd, RawFd) -> Lookup, Answer);
const KINDS: [Kind; 5] = [
    (
        "equal",
        |_, to, epoll| Lookup::new(to, epoll, to, 0),
        Answer::Equal,
    ),
    (
        "not equal",
        |from, to, epoll| Lookup::new(from, epoll, to, 0),
        Answer::Unequal,
    ),
    (
        "no such entry",
        |_, to, epoll| Lookup::new(to, epoll, CLOSED, 0),
        Answer::Error(c::ENOENT),
    ),
    (
        "no such epoll file",
        |_, to, _| Lookup::new(to, CLOSED, to, 0),
        Answer::Error(c::EBADF),
    ),
    (
        "not an epoll file",
        |_, to, _| Lookup::new(to, to, to, 0),
        Answer::Error(c::EINVAL),
    ),
];

/// Looks up with a pipe and an epoll file, and closes them. The other end of the pipe has to hang
/// up, and the epoll file that the other one was added to has to lose the entry.
fn release_files(faults: Option<&Faults>) -> Result<(), Failure> {
    for (name, kind, expected) in KINDS {
        let [from, to] = pipe()?;
        let epoll = epoll_create()?;
        epoll_ctl(epoll, c::EPOLL_CTL_ADD, to, c::EPOLLOUT, 0)?;
        epoll_ctl(EPOLL, c::EPOLL_CTL_ADD, epoll, c::EPOLLIN, 0)?;
        let entry = Lookup::new(from, epoll, to, 0);
        let nested = Lookup::new(from, EPOLL, epoll, 0);

        let lookup = kind(from, to, epoll);
        for n in 1..=3 {
            let (raw, fired) = with_nth(faults, n, || lookup.call())?;
            ensure!(
                answer(raw) == expected || (fired && raw == -c::EFAULT),
                "{name}: {raw}, expected {expected:?}"
            );
        }
        ensure!(
            !is_hung_up(from)? && entry.call() > 0,
            "{name}: the pipe is closed too early"
        );
        close(to)?;
        ensure!(is_hung_up(from)?, "{name}: the pipe is not released");
        ensure!(
            entry.call() == -c::ENOENT,
            "{name}: the pipe still has an entry"
        );
        ensure!(
            nested.call() > 0,
            "{name}: the epoll file is closed too early"
        );
        close(epoll)?;
        ensure!(
            nested.call() == -c::ENOENT,
            "{name}: the epoll file is not released"
        );
        close(from)?;
    }
    Ok(())
}

/// Runs `body` `times` times, and counts before and after. Other processes may add up to
/// `tolerance` meanwhile. The kernel frees some objects with a delay.
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

/// The other process of the lookups calls exec(), which takes exec_update_lock for writing. kcmp()
/// takes it for reading.
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
    // A lock that is never released makes a test hang.
    // SAFETY: No handler is installed.
    unsafe { c::alarm(600) };
    Ok(run_tests(&[
        ("copies that fail", &|| injected(copy_fails)),
        ("allocations that fail", &|| injected(allocation_fails)),
        ("changes that fail", &|| injected(ctl_fails)),
        ("files are released", &|| files_are_released(faults)),
        ("epitems are released", &|| epitems_are_released(faults)),
        ("exec() is possible", &|| exec_is_possible(&scene)),
    ]))
}

fn main() -> ExitCode {
    start(HELP, [], |[]| {
        as_root(|| {
            Ok(run().unwrap_or_else(|failure| {
                println!("Bail out! {failure}");
                ExitCode::FAILURE
            }))
        })
    })
}
