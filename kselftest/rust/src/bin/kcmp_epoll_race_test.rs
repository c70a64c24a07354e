// SPDX-License-Identifier: GPL-2.0

//! No false equal: `KCMP_EPOLL_TFD` while the files in question are closed and opened.
//!
//! One process, the churner, opens a file at the number X and closes it, then opens another one at
//! Y, adds that to an epoll set, deletes it and closes it, again and again. The allocator likes to
//! give the second file the memory of the first. Another process, the asker, asks without pause
//! whether file X is target Y.
//!
//! It never is. A file that is put at X is added to no set, under no number; a file that is added
//! as Y never is at X, of no process. Thus each answer "equal" is a false one, got by comparing the
//! addresses of two files that were not open at the same time. What each variation does to keep
//! this true is said there.
//!
//! Each variation runs in two ways:
//!
//! - in parallel: each process without pause, on a CPU of its own.
//! - interrupting: the churner is in real time and on the CPU of the asker, and sleeps a while
//!   between its steps. So it interrupts the asker somewhere in a call, does a whole step while the
//!   call stands still, and lets it go on. This finds far more.
//!
//! Whenever the churner sleeps with Y in the set, X is closed. Thus a call of an interrupted asker
//! that compares the two at all has looked up X before the step, and Y after it: it was in the
//! midst of the race. Such calls are the evidence that the two processes did meet.

use kcmp_epoll::*;
use lexopt::prelude::*;
use std::ffi::CStr;
use std::io;
use std::os::fd::RawFd;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

const HELP: &str = "\
Ask KCMP_EPOLL_TFD about files that are opened and closed all the time.

Usage: kcmp_epoll_race_test [OPTION]...

  --calls N         how often to ask, in each variation (default 400000)
  --seconds N       how long to ask at most, in each variation (default 120)
  --variation NAME  close, dup2, scm_rights, exec, or epoll (default: all)
  --others N        how many other targets the set has (default 0)
  --expect WHAT     none: fail on a false \"equal\" (default)
                    some: fail if there is none; to show that the test bites
  --seed N          how to sleep: the seed is printed (default: a new one)

Needs two CPUs, and the right to run in real time. Prints TAP.
";
/// What the program is executed with, to do nothing: the exec variation needs a program.
const NOTHING: &CStr = c"--nothing";

const X: RawFd = 100;
const EPOLL: RawFd = 101;
/// A file that is no target and is never closed.
const PLAIN: RawFd = 102;
const SOCKETS: [RawFd; 2] = [103, 104];
/// Where the other targets are. Y is the number that comes by itself, the lowest free one.
const OTHERS: RawFd = 200;

/// For how long to sleep at most, in microseconds: long enough for the other process to go on, and
/// for the clock of a slow guest to keep up.
const SLEEP_MAX: u64 = 500;

/// How many calls in the midst of the race are enough to say that the two have met, and how many
/// false equals to say that there are some.
const MET: u64 = 10;

// --- What the two processes share ----------------------------------------------------------------

/// The words that follow a count for each of `ANSWERS`: an answer that is none of them, task1, and
/// that it is time to stop.
const UNKNOWN: usize = ANSWERS.len();
const TASK1: usize = UNKNOWN + 1;
const STOP: usize = UNKNOWN + 2;
type Shared = [AtomicU64; STOP + 1];

// --- The asker -----------------------------------------------------------------------------------

/// A run of a variation, in one of the two ways.
struct Race<'a> {
    variation: &'a Variation,
    interrupting: bool,
    options: &'a Options,
    shared: &'static Shared,
    y: RawFd,
}

impl Race<'_> {
    fn counts(&self) -> Vec<u64> {
        let counts = &self.shared[..ANSWERS.len()];
        counts.iter().map(|count| count.load(Relaxed)).collect()
    }

    /// What was not seen often enough: the two have not met, or there is no false equal.
    fn missing(&self) -> Option<&str> {
        let counts = self.counts();
        let (needed, what) = match self.options.expect {
            Expect::None => (&counts[..3], "calls in the midst of the race"),
            Expect::Some => (&counts[..1], "false equals"),
        };
        if self.interrupting && needed.iter().sum::<u64>() < MET {
            return Some(what);
        }
        let mut answers = ANSWERS.iter().zip(counts);
        let needed = |answer: i32| self.variation.errors.contains(&-answer);
        let missing = answers.find(|((answer, _), count)| needed(*answer) && *count == 0);
        missing.map(|((_, name), _)| *name)
    }

    /// Asks whether file X of task1 is target Y: as often as wanted, and until the two have met.
    fn ask(&self, epoll: FileOf) {
        let slot = Slot {
            efd: epoll.fd as u32,
            tfd: self.y as u32,
            toff: 0,
        };
        let slot = &raw const slot;
        for call in 0.. {
            let done = call >= self.options.calls / 2 && self.missing().is_none();
            if done || self.shared[STOP].load(Relaxed) != 0 {
                return;
            }
            let task1 = self.shared[TASK1].load(Relaxed);
            let answer = kcmp_raw(
                task1,
                epoll.pid as u64,
                KCMP_EPOLL_TFD,
                X as u64,
                slot as u64,
            );
            let Some(known) = ANSWERS.iter().position(|(known, _)| *known == answer) else {
                return self.shared[UNKNOWN].store(answer as u64, Relaxed);
            };
            self.shared[known].fetch_add(1, Relaxed);
        }
    }

    fn fork_asker(&self, cpu: usize) -> io::Result<Pid> {
        let pid = getpid();
        fork(|| {
            let get_ready = || {
                end_with_parent()?;
                // It keeps no file of the churner alive.
                close_range(3..RawFd::MAX)?;
                run_on(cpu)
            };
            let ready = get_ready();
            if ready.is_ok() {
                self.ask(FileOf { pid, fd: EPOLL });
            }
            self.shared[STOP].store(1, Relaxed);
            i32::from(ready.is_err())
        })
    }
}

// --- The churner ---------------------------------------------------------------------------------

struct Churner {
    shared: &'static Shared,
    y: RawFd,
    others: RawFd,
    /// For how long to sleep between steps; without, there is no pause.
    sleep: Option<fastrand::Rng>,
    round: u64,
}

impl Churner {
    fn sleep(&mut self) {
        if let Some(rng) = &mut self.sleep {
            std::thread::sleep(Duration::from_micros(rng.u64(1..SLEEP_MAX)));
        }
    }

    fn open_epoll(&self) -> io::Result<()> {
        place(epoll_create()?, EPOLL)?;
        (OTHERS..OTHERS + self.others).try_for_each(add)
    }

    /// Opens a file and adds it, as fast as can be.
    fn add_y(&self) -> Result<(), Failure> {
        let fd = eventfd()?;
        ensure!(fd == self.y, "the file is at {fd} in place of {}", self.y);
        Ok(add(fd)?)
    }

    fn remove_y(&self) -> io::Result<()> {
        epoll_ctl(EPOLL, libc::EPOLL_CTL_DEL, self.y, 0, 0)?;
        close(self.y)
    }

    /// The file that is put at X is never added; it goes when X is closed. It passes through the
    /// number of Y, but not while Y is a target.
    fn close(&mut self) -> Result<(), Failure> {
        place(eventfd()?, X)?;
        self.sleep();
        close(X)?;
        self.add_y()?;
        self.sleep();
        Ok(self.remove_y()?)
    }

    /// Here, X is closed by putting another file there, which is no target either, and which is
    /// closed there when Y is added.
    fn dup2(&mut self) -> Result<(), Failure> {
        place(eventfd()?, X)?;
        self.sleep();
        dup2(PLAIN, X)?;
        self.add_y()?;
        close(X)?;
        self.sleep();
        Ok(self.remove_y()?)
    }

    /// Here, the file of X goes with the message that it was sent in: that is received, and the
    /// file closed at its new number, or it is dropped with the sockets. It is not added.
    fn scm_rights(&mut self) -> Result<(), Failure> {
        let received = self.round % 2 == 0;
        place(eventfd()?, X)?;
        send_file(SOCKETS[0], X)?;
        self.sleep();
        close(X)?;
        if received {
            close(receive_file(SOCKETS[1])?)?;
        } else {
            SOCKETS.into_iter().try_for_each(close)?;
        }
        self.add_y()?;
        self.sleep();
        self.remove_y()?;
        if !received {
            open_sockets()?;
        }
        Ok(())
    }

    /// Here, X is a number of a child, and its file goes with the child, or when that runs another
    /// program. The child has no other files but those it was forked with, and Y is none of them.
    /// Nor can it be a file of an unrelated process that gets the child's pid.
    fn exec(&mut self) -> Result<(), Failure> {
        let child = fork(|| {
            let live = || -> io::Result<i32> {
                place(eventfd()?, X)?;
                // SAFETY: No memory is involved.
                cvt(unsafe { libc::fcntl(X, libc::F_SETFD, libc::FD_CLOEXEC) })?;
                send_words(SOCKETS[1], &[0])?;
                let [execs] = receive_words(SOCKETS[1])?;
                if execs == 0 {
                    return Ok(0);
                }
                Err(exec_again(NOTHING))
            };
            live().unwrap_or(1)
        })?;
        let [_] = receive_words(SOCKETS[0])?;
        self.shared[TASK1].store(child as u64, Relaxed);
        self.sleep();
        send_words(SOCKETS[0], &[u64::from(self.round % 8 == 0)])?;
        let status = wait(child)?;
        ensure!(status == 0, "the child ends with status {status}");
        self.add_y()?;
        self.sleep();
        Ok(self.remove_y()?)
    }

    /// As `close`. In addition, the epoll file is closed, with Y in its set or without, and its
    /// number used again, for a while for a file of another kind.
    fn epoll(&mut self) -> Result<(), Failure> {
        let full = self.round % 2 == 0;
        dup2(PLAIN, EPOLL)?;
        place(eventfd()?, X)?;
        self.sleep();
        self.open_epoll()?;
        self.sleep();
        close(X)?;
        close(EPOLL)?;
        self.open_epoll()?;
        self.add_y()?;
        self.sleep();
        if full {
            close(EPOLL)?;
            Ok(close(self.y)?)
        } else {
            Ok(self.remove_y()?)
        }
    }
}

fn add(fd: RawFd) -> io::Result<()> {
    epoll_ctl(EPOLL, libc::EPOLL_CTL_ADD, fd, libc::EPOLLIN, 0)
}

fn open_sockets() -> io::Result<()> {
    place_pair(libc::SOCK_SEQPACKET, SOCKETS)
}

// --- Both ----------------------------------------------------------------------------------------

/// A variation of what the churner does.
struct Variation {
    name: &'static str,
    churn: fn(&mut Churner) -> Result<(), Failure>,
    /// The errors that the asker has to see.
    errors: &'static [i32],
}

const VARIATIONS: [Variation; 5] = [
    Variation {
        name: "close",
        churn: Churner::close,
        errors: &[libc::EBADF, libc::ENOENT],
    },
    Variation {
        name: "dup2",
        churn: Churner::dup2,
        errors: &[libc::EBADF, libc::ENOENT],
    },
    Variation {
        name: "scm_rights",
        churn: Churner::scm_rights,
        errors: &[libc::EBADF, libc::ENOENT],
    },
    Variation {
        name: "exec",
        churn: Churner::exec,
        errors: &[libc::EBADF, libc::ENOENT, libc::ESRCH],
    },
    Variation {
        name: "epoll",
        churn: Churner::epoll,
        errors: &[libc::EBADF, libc::ENOENT, libc::EINVAL],
    },
];

/// Runs a variation in one of the two ways. Returns how often the answer was "equal".
fn race(
    variation: &Variation,
    interrupting: bool,
    cpus: &[usize],
    options: &Options,
) -> Result<u64, Failure> {
    close_range(3..RawFd::MAX)?;
    allow_files(OTHERS + options.others)?;
    let y = eventfd()?;
    for fd in [PLAIN].into_iter().chain(OTHERS..OTHERS + options.others) {
        place(eventfd()?, fd)?;
    }
    open_sockets()?;
    close(y)?;

    let shared = share_words()?;
    shared[TASK1].store(getpid() as u64, Relaxed);
    let mut churner = Churner {
        shared,
        y,
        others: options.others,
        sleep: interrupting.then(|| fastrand::Rng::with_seed(options.seed)),
        round: 0,
    };
    churner.open_epoll()?;
    let race = Race {
        variation,
        interrupting,
        options,
        shared,
        y,
    };

    let begin = Instant::now();
    let asker = race.fork_asker(cpus[1])?;
    run_on(cpus[usize::from(interrupting)])?;
    set_real_time(interrupting)?;
    let mut churned = Ok(());
    while churned.is_ok() && shared[STOP].load(Relaxed) == 0 && begin.elapsed() < options.limit / 2
    {
        churned = (variation.churn)(&mut churner);
        churner.round += 1;
    }
    set_real_time(false)?;
    shared[STOP].store(1, Relaxed);
    let status = wait(asker)?;
    let seconds = begin.elapsed().as_secs_f64();
    churned?;
    ensure!(status == 0, "the asker ends with status {status}");

    let counts = race.counts();
    let seen = ANSWERS.iter().zip(&counts).filter(|(_, count)| **count > 0);
    let texts: Vec<_> = seen
        .clone()
        .map(|((_, name), n)| format!("{name} {n}"))
        .collect();
    println!(
        "# {}, {}: {} calls and {} rounds in {seconds:.1} s: {}",
        variation.name,
        if interrupting {
            "interrupting"
        } else {
            "in parallel"
        },
        counts.iter().sum::<u64>(),
        churner.round,
        texts.join(", ")
    );
    let unknown = shared[UNKNOWN].load(Relaxed) as i32;
    ensure!(unknown == 0, "kcmp() gives {unknown}");
    for ((answer, name), _) in seen {
        let allowed = *answer >= 0 || variation.errors.contains(&-answer);
        ensure!(allowed, "kcmp() fails with {name}");
    }
    if let Some(what) = race.missing() {
        return Err(Failure(format!("too few {what}: the two did not meet")));
    }
    Ok(counts[0])
}

fn test(variation: &Variation, cpus: &[usize], options: &Options) -> Result<Done, Failure> {
    let equal = race(variation, false, cpus, options)? + race(variation, true, cpus, options)?;
    ensure!(
        equal == 0 || options.expect == Expect::Some,
        "{equal} false equals"
    );
    Ok(Done::Passed)
}

// --- The program ---------------------------------------------------------------------------------

#[derive(Eq, PartialEq)]
enum Expect {
    None,
    Some,
}

struct Options {
    calls: u64,
    limit: Duration,
    variation: Option<String>,
    others: RawFd,
    expect: Expect,
    seed: u64,
}

fn parse_args(parser: &mut lexopt::Parser) -> Result<Options, lexopt::Error> {
    let mut options = Options {
        calls: 400_000,
        limit: Duration::from_secs(120),
        variation: None,
        others: 0,
        expect: Expect::None,
        seed: fastrand::u64(..),
    };
    while let Some(arg) = parser.next()? {
        match arg {
            Long("calls") => options.calls = parser.value()?.parse()?,
            Long("seconds") => options.limit = Duration::from_secs(parser.value()?.parse()?),
            Long("variation") => {
                let name = parser.value()?.string()?;
                if !VARIATIONS.iter().any(|variation| variation.name == name) {
                    return Err(format!("there is no variation {name}").into());
                }
                options.variation = Some(name);
            }
            Long("others") => options.others = parser.value()?.parse()?,
            Long("expect") => {
                options.expect = match parser.value()?.string()?.as_str() {
                    "none" => Expect::None,
                    "some" => Expect::Some,
                    other => return Err(format!("expect none or some, not {other}").into()),
                }
            }
            Long("seed") => options.seed = parser.value()?.parse()?,
            _ => return Err(arg.unexpected()),
        }
    }
    Ok(options)
}

fn run(options: Options) -> Result<ExitCode, Failure> {
    let cpus = list_cpus().unwrap_or_default();
    if cpus.len() < 2
        || set_real_time(true)
            .and_then(|()| set_real_time(false))
            .is_err()
    {
        let why = "needs two CPUs, and the right to run in real time";
        return Ok(skip_all(why));
    }
    let tests: Vec<_> = VARIATIONS
        .iter()
        .filter(|v| options.variation.as_ref().is_none_or(|name| name == v.name))
        .map(|variation| (variation.name, || test(variation, &cpus, &options)))
        .collect();
    let tests: Vec<Test<'_>> = tests
        .iter()
        .map(|(name, test)| (*name, test as _))
        .collect();
    println!("# seed {}", options.seed);
    Ok(run_tests(&tests))
}

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == NOTHING.to_str().ok() {
        return ExitCode::SUCCESS;
    }
    start(HELP, parse_args, run)
}
