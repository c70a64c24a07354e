// SPDX-License-Identifier: GPL-2.0

//! A model-based test of the cursor: of the entry that the last lookup of `KCMP_EPOLL_TFD` found.
//!
//! Many entries of one interest list share an fd. A random stream of operations adds and removes
//! some, mostly next to the cursor, while two callers look them up. The results are compared with
//! plain collections.

use kcmp_epoll::*;
use std::cmp::Ordering;
use std::collections::{BTreeSet, VecDeque};
use std::ops::Range;
use std::os::fd::RawFd;
use std::process::ExitCode;

const HELP: &str = "\
Look up entries that share an fd, while the interest list changes around them.

Usage: kcmp_epoll_cursor_test [--steps N] [--seed N]

  --steps N   operations (default 20000)
  --seed N    repeat a run with the seed that it printed (default: a new seed)

Prints TAP.
";

/// An entry: its data is the fd at which its file stays open.
type Entry = Listed;

/// The operations so far, or the last of them.
type Log = VecDeque<String>;

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

// --- Lookups -------------------------------------------------------------------------------------

/// Checks the result of a lookup; none is expected of an entry that is not there.
fn check(file: FileOf, entry: EntryOf, expected: Option<Ordering>) -> Result<(), Failure> {
    let got = match kcmp_entry(file, entry) {
        Err(e) if errno(&e) == c::ENOENT => None,
        got => Some(got?),
    };
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

// --- The program ---------------------------------------------------------------------------------

/// Does random operations, each followed by lookups. Shows the last operations on failure.
fn check_sharing(steps: u64, seed: u64) -> Result<Done, Failure> {
    println!("# {steps} steps with seed {seed}");
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
    let mut log = Log::new();
    let mut most = 0;
    for n in 1..=steps {
        let done = sharing.step(&mut log).and_then(|()| match n % 64 {
            0 => sharing.check_at_once(),
            _ => sharing.check_in_turn(),
        });
        if let Err(failure) = done {
            println!("# step {n}: {failure}\n# the last operations:");
            log.iter().for_each(|op| println!("#   {op}"));
            return Err(format!("repeat with --seed {seed} --steps {n}").into());
        }
        log.drain(..log.len().saturating_sub(20));
        most = most.max(sharing.files[0].len());
    }
    println!("# at most {most} entries shared an fd");
    Ok(Done::Passed)
}

fn main() -> ExitCode {
    let options = [("--steps", 20_000), ("--seed", new_seed())];
    start(HELP, options, |[steps, seed]| {
        Ok(run_tests(&[("entries that share an fd", &|| {
            check_sharing(steps, seed)
        })]))
    })
}
