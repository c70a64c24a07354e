// SPDX-License-Identifier: GPL-2.0

//! What `KCMP_EPOLL_TFD` is for: CRIU dumps a process with an epoll set, and restores it.
//!
//! Each number stands for two targets, and only the file of one of them is still there. CRIU has to
//! find the other one by `KCMP_EPOLL_TFD`: what it restores tells whether it did, and the time that
//! the dump takes, what the lookups cost.

use kcmp_epoll::*;
use lexopt::prelude::*;
use std::env;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

const HELP: &str = "\
Let CRIU dump and restore a process with an epoll set, and check what came back.

Usage: kcmp_epoll_criu_test [--targets N]

  --targets N  of the epoll set, 1000000 at most (default 1000)

Has to be started by root. Is skipped where there is no criu(8), or where it says
that the kernel lacks what it needs. Prints TAP.
";

/// Numbers of the process that is dumped: its epoll set, and its targets from the first one on.
const EPOLL: RawFd = 10;
const FIRST: RawFd = 100;
/// No set needs to be larger, and no number overflows.
const MAX: RawFd = 1_000_000;

// --- The process that is dumped ------------------------------------------------------------------

/// The number under which a target is added: that of the one before it again, for every second one.
fn number_of(i: RawFd) -> RawFd {
    FIRST + i - i % 2
}

/// Where the file of a target is when all have been added.
fn place_of(i: RawFd, targets: RawFd) -> RawFd {
    match i % 2 {
        0 => FIRST + targets + i,
        _ => number_of(i),
    }
}

/// Makes a set of eventfds, each of which has its place as data, and lets go of all other files.
fn set_up(targets: RawFd) -> io::Result<()> {
    // SAFETY: No memory is involved.
    cvt(unsafe { libc::setsid() })?;
    // SAFETY: The path is a valid string.
    let null = cvt(unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDWR) })?;
    for fd in 0..=libc::STDERR_FILENO {
        dup2(null, fd)?;
    }
    close_range(libc::STDERR_FILENO + 1..RawFd::MAX)?;

    place(epoll_create()?, EPOLL)?;
    for i in 0..targets {
        let (number, now) = (number_of(i), place_of(i, targets));
        let events = libc::EPOLLIN | libc::EPOLLET;
        place(eventfd()?, number)?;
        epoll_ctl(EPOLL, libc::EPOLL_CTL_ADD, number, events, i as u64)?;
        if now != number {
            place(number, now)?;
        }
    }
    Ok(())
}

/// Writes to each file in turn: the set has to tell its target, and no other.
fn check_set(targets: RawFd) -> io::Result<bool> {
    for i in 0..targets {
        write_one(place_of(i, targets))?;
        if epoll_next(EPOLL)? != Some(i as u64) || epoll_next(EPOLL)?.is_some() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The life of this process: it stops once it is set up, and when it goes on, checks its set.
fn live(targets: RawFd) -> io::Result<bool> {
    set_up(targets)?;
    stop_self()?;
    check_set(targets)
}

// --- CRIU ----------------------------------------------------------------------------------------

/// A directory for what CRIU writes. Removed when dropped.
struct Images(PathBuf);

impl Images {
    fn new() -> io::Result<Images> {
        let path = env::temp_dir().join(format!("kcmp_epoll_criu.{}", getpid()));
        fs::create_dir(&path)?;
        Ok(Images(path))
    }

    /// Runs a command of criu(8). Fails with the last of what it has to say.
    fn criu(&self, command: &str, options: &[&str]) -> Result<(), Failure> {
        let output = Command::new("criu")
            .arg(command)
            .args(options)
            .arg("--images-dir")
            .arg(&self.0)
            .stdin(Stdio::null())
            .output()?;
        let text = String::from_utf8_lossy(&output.stderr);
        let end: Vec<&str> = text.lines().rev().take(10).collect();
        let end: String = end.iter().rev().map(|line| format!("\n# {line}")).collect();
        ensure!(
            output.status.success(),
            "criu {command}: {}{end}",
            output.status
        );
        Ok(())
    }
}

impl Drop for Images {
    fn drop(&mut self) {
        // If it stays, somebody has removed it, or its file system is broken.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Why CRIU cannot be used here, if it cannot.
fn unusable() -> io::Result<Option<String>> {
    match Command::new("criu").arg("check").output() {
        Ok(output) if output.status.success() => Ok(None),
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stderr);
            let last = text.lines().last().unwrap_or_default();
            Ok(Some(format!("criu check: {last}")))
        }
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(Some("there is no criu(8)".to_string())),
        Err(e) => Err(e),
    }
}

/// Dumps process `pid`, which ends it, and restores it from that, with as many targets.
fn dump_and_restore(pid: Pid, targets: RawFd) -> Result<(), Failure> {
    let images = Images::new()?;

    let begin = Instant::now();
    images.criu("dump", &["--tree", &pid.to_string()])?;
    let dump = begin.elapsed().as_secs_f64();
    // Its number has to be free.
    wait(pid)?;
    let begin = Instant::now();
    images.criu("restore", &["--restore-detached"])?;
    let restore = begin.elapsed().as_secs_f64();

    println!("# CRIU dumped {targets} targets in {dump:.1} s, and restored them in {restore:.1} s");
    let listed = list_targets(FileOf { pid, fd: EPOLL })?.len();
    ensure!(listed == targets as usize, "{listed} targets came back");
    Ok(())
}

fn test(targets: RawFd) -> Result<Done, Failure> {
    raise_limits(2 * targets + FIRST + 100)?;
    // What CRIU restores is its child, and that of this process when CRIU has ended.
    adopt_orphans()?;

    let pid = fork(|| match live(targets) {
        Ok(true) => 0,
        Ok(false) => 1,
        Err(e) => errno(&e),
    })?;
    wait_for_stop(pid)?;
    if let Err(failure) = dump_and_restore(pid, targets) {
        // It may have ended, and nothing else has its number.
        let _ = kill(pid);
        return Err(failure);
    }
    go_on(pid)?;
    match wait(pid)? {
        0 => Ok(Done::Passed),
        1 => Err(Failure("a file is not behind its target".to_string())),
        status => Err(Failure(format!("the restored process ended with {status}"))),
    }
}

fn run(targets: RawFd) -> Result<ExitCode, Failure> {
    ensure!(
        (1..=MAX).contains(&targets),
        "--targets has to be from 1 to {MAX}"
    );
    if let Some(why) = unusable()? {
        return Ok(skip_all(&why));
    }
    Ok(run_tests(&[(
        "each file is behind its target again",
        &|| test(targets),
    )]))
}

fn parse_args(parser: &mut lexopt::Parser) -> Result<RawFd, lexopt::Error> {
    let mut targets = 1000;
    while let Some(arg) = parser.next()? {
        match arg {
            Long("targets") => targets = parser.value()?.parse()?,
            _ => return Err(arg.unexpected()),
        }
    }
    Ok(targets)
}

fn main() -> ExitCode {
    start_as_root(HELP, parse_args, run)
}
