// SPDX-License-Identifier: GPL-2.0

//! CRIU dumps a process with an epoll file, and restores it: what `KCMP_EPOLL_TFD` is for.
//!
//! At that point, half of the target files (with --same-fd: all) are open under other fds than the
//! recorded ones. CRIU has to find them by `KCMP_EPOLL_TFD`: the restored process checks that it
//! did, and the time of the dump shows the cost of the lookups.

use kcmp_epoll::*;
use lexopt::prelude::*;
use std::env;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::fd::{IntoRawFd, RawFd};
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

const HELP: &str = "\
Let CRIU dump and restore a process with an epoll file, and check what came back.

Usage: kcmp_epoll_criu_test [--entries N] [--same-fd]

  --entries N  number of entries, at most 1000000 (default 1000)
  --same-fd    let all entries share one fd, as if the files had arrived over a
               socket; by default, each pair of entries shares one

Has to be started by root. Skipped without criu(8), or if `criu check` fails.
Prints TAP.
";

/// The fds of the process that is dumped: of its epoll file, and the first of all others.
const EPOLL: RawFd = 10;
const FIRST: RawFd = 100;
/// The maximum number of entries: no fd overflows.
const MAX: RawFd = 1_000_000;

// --- The process that is dumped ------------------------------------------------------------------

/// The entries, and the fds of their files.
#[derive(Clone, Copy)]
struct Layout {
    entries: RawFd,
    same_fd: bool,
}

impl Layout {
    /// The fd under which an entry is added.
    fn tfd(self, i: RawFd) -> RawFd {
        match self.same_fd {
            true => FIRST,
            false => FIRST + i - i % 2,
        }
    }

    /// The fd of its target file after all have been added.
    fn fd(self, i: RawFd) -> RawFd {
        match self.same_fd {
            true => FIRST + 1 + i,
            false if i % 2 == 0 => FIRST + self.entries + i,
            false => self.tfd(i),
        }
    }
}

/// Adds eventfds, each with its index in the layout as data, and closes all other files.
fn set_up(layout: Layout) -> io::Result<()> {
    // SAFETY: No memory is involved.
    cvt(unsafe { c::setsid() })?;
    let null = File::options().read(true).write(true).open("/dev/null")?;
    let null = null.into_raw_fd();
    for fd in 0..3 {
        dup2(null, fd)?;
    }
    close_range(3..RawFd::MAX)?;

    place(epoll_create()?, EPOLL)?;
    for i in 0..layout.entries {
        let (tfd, fd) = (layout.tfd(i), layout.fd(i));
        let events = c::EPOLLIN | c::EPOLLET;
        place(eventfd()?, tfd)?;
        epoll_ctl(EPOLL, c::EPOLL_CTL_ADD, tfd, events, i as u64)?;
        if fd != tfd {
            place(tfd, fd)?;
        }
    }
    Ok(())
}

/// Writes to each file in turn: its entry has to become ready, and no other.
fn check(layout: Layout) -> io::Result<bool> {
    for i in 0..layout.entries {
        write_one(layout.fd(i))?;
        if epoll_next(EPOLL)? != Some(i as u64) || epoll_next(EPOLL)?.is_some() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The process that is dumped: stops after setup, and checks the entries once it is continued.
fn live(layout: Layout) -> io::Result<bool> {
    set_up(layout)?;
    stop_self()?;
    check(layout)
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

    /// Runs a command of criu(8). On failure, returns the last lines of its stderr.
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
        // Best effort: drop() cannot return an error.
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

/// Dumps process `pid`, which kills it, and restores it.
fn dump_and_restore(pid: Pid, layout: Layout) -> Result<(), Failure> {
    let images = Images::new()?;

    let begin = Instant::now();
    images.criu("dump", &["--tree", &pid.to_string()])?;
    let dump = begin.elapsed().as_secs_f64();
    // Reap it: its pid has to be free for the restored process.
    wait(pid)?;
    let begin = Instant::now();
    images.criu("restore", &["--restore-detached"])?;
    let restore = begin.elapsed().as_secs_f64();

    let Layout { entries, same_fd } = layout;
    let sharing = if same_fd { " that share an fd" } else { "" };
    println!(
        "# CRIU dumped {entries} entries{sharing} in {dump:.2} s, and restored them in {restore:.2} s"
    );
    let listed = list_entries(&format!("/proc/{pid}/fdinfo/{EPOLL}"))?.len();
    ensure!(listed == entries as usize, "{listed} entries came back");
    Ok(())
}

fn test(layout: Layout) -> Result<Done, Failure> {
    raise_limits(2 * layout.entries + FIRST + 100)?;
    // CRIU is the parent of the restored process, and this process is after CRIU has ended.
    adopt_orphans()?;

    let pid = fork(|| match live(layout) {
        Ok(true) => 0,
        Ok(false) => 1,
        Err(e) => errno(&e),
    })?;
    wait_for_stop(pid)?;
    if let Err(failure) = dump_and_restore(pid, layout) {
        // It may have ended, and nothing else has its pid.
        let _ = kill(pid);
        return Err(failure);
    }
    go_on(pid)?;
    match wait(pid)? {
        0 => Ok(Done::Passed),
        1 => Err("a file is not behind its entry".into()),
        status => Err(format!("the restored process ended with {status}").into()),
    }
}

fn run(layout: Layout) -> Result<ExitCode, Failure> {
    let valid = (1..=MAX).contains(&layout.entries);
    ensure!(valid, "--entries has to be from 1 to {MAX}");
    as_root(|| match unusable()? {
        Some(why) => Ok(skip_all(&why)),
        None => Ok(run_tests(&[(
            "each file is behind its entry again",
            &|| test(layout),
        )])),
    })
}

fn parse_args(parser: &mut lexopt::Parser) -> Result<Layout, lexopt::Error> {
    let (mut entries, mut same_fd) = (1000, false);
    while let Some(arg) = parser.next()? {
        match arg {
            Long("entries") => entries = parser.value()?.parse()?,
            Long("same-fd") => same_fd = true,
            _ => return Err(arg.unexpected()),
        }
    }
    Ok(Layout { entries, same_fd })
}

fn main() -> ExitCode {
    start_parsed(HELP, parse_args, run)
}
