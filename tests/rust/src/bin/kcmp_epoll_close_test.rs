// SPDX-License-Identifier: GPL-2.0

//! Files and epoll files that are closed while something else happens to them.
//!
//! Each round sets up one race: two threads leave a barrier and perform one operation each, or one
//! of them drops the last reference to a file. Beside them, a caller in another process looks up
//! entries of the same epoll file with `KCMP_EPOLL_TFD`, so that its cursor is always set.
//!
//! A round counts if the two operations overlapped in time, and a lookup was in progress during one
//! of them. The test checks what the operations and lookups return, and the interest list
//! afterwards. Other bugs are for the kernel's own checks (KASAN, KCSAN, lockdep) to find.

use kcmp_epoll::*;
use std::cell::RefCell;
use std::cmp::Ordering::Equal;
use std::hint::spin_loop;
use std::io;
use std::ops::Range;
use std::os::fd::RawFd;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

const HELP: &str = "\
Close files and epoll files while something else happens to them, beside a caller of
KCMP_EPOLL_TFD.

Usage: kcmp_epoll_close_test [--rounds N] [--seed N]

  --rounds N  rounds of each test whose operations overlap (default 1000)
  --seed N    seed of the operations, which is printed (default: a new one); it
              does not determine their timing

Prints TAP.
";

/// A chain of epoll files, each an entry of the one before it, and one that may become the first.
const OUTER: RawFd = 100;
const MIDDLE: RawFd = 101;
const INNER: RawFd = 102;
const TOP: RawFd = 103;
/// The file that the caller compares: it is in no interest list.
const OTHER: RawFd = 104;
/// The file of EPOLL_CTL_ADD.
const NEW: RawFd = 105;
/// A socket, and the one that receives its messages.
const SOCKETS: [RawFd; 2] = [106, 107];
/// The fd that entries share, and the fds at which their files stay open.
const SHARED: RawFd = 110;
const FILES: Range<RawFd> = 120..126;

/// Each operation starts at random within this time: longer than the operations take, and short
/// enough that they often overlap.
const JITTER: Duration = Duration::from_micros(10);
/// How long a test may go on without a round that counts.
const PATIENCE: Duration = Duration::from_secs(120);

// --- What the processes share --------------------------------------------------------------------

/// The epoll file that the caller looks at, and the range of toff; how many of its calls have begun
/// or ended; a wrong answer; how often threads have come to the barrier; the state of the process
/// that holds a file.
const EFD: usize = 0;
const FIRST: usize = 1;
const LAST: usize = 2;
const CALLS: usize = 3;
const WRONG: usize = 4;
const MET: usize = 5;
const HOLDER: usize = 6;
type Words = [AtomicU64; 7];

/// The states of the holder.
const STARTING: u64 = 0;
const HOLDING: u64 = 1;
const LEAVING: u64 = 2;

fn wait_until(condition: impl Fn() -> bool) {
    let mut tries = 0u32;
    while !condition() {
        tries = tries.wrapping_add(1);
        if tries % 256 == 0 {
            thread::yield_now();
        }
        spin_loop();
    }
}

/// The caller: looks up entries, in ascending order of toff, until it is killed.
fn call(words: &Words, main: Pid) -> i32 {
    if end_with_parent().is_err() {
        return 1;
    }
    loop {
        for toff in words[FIRST].load(SeqCst)..=words[LAST].load(SeqCst) {
            let slot = c::kcmp_epoll_slot {
                efd: words[EFD].load(SeqCst) as u32,
                tfd: SHARED as u32,
                toff: toff as u32,
            };
            let (main, at) = (main as u64, &raw const slot as u64);
            words[CALLS].fetch_add(1, SeqCst);
            let answer = kcmp_raw(main, main, c::KCMP_EPOLL_TFD.into(), OTHER as u64, at);
            words[CALLS].fetch_add(1, SeqCst);
            // Never 0: no entry is for this file.
            if ![1, 2, -c::ENOENT, -c::EBADF].contains(&answer) {
                words[WRONG].store(answer as u32 as u64 | 1 << 32, SeqCst);
            }
        }
    }
}

// --- Operations ----------------------------------------------------------------------------------

#[derive(Clone, Copy, Debug)]
enum Op {
    Close(RawFd),
    Add(RawFd, RawFd),
    Del(RawFd, RawFd),
    /// Lets this process exit.
    Exit(Pid),
}

impl Op {
    fn perform(self, words: &Words) -> io::Result<()> {
        match self {
            Op::Close(fd) => close(fd),
            Op::Add(efd, fd) => epoll_ctl(efd, c::EPOLL_CTL_ADD, fd, c::EPOLLIN, 0),
            Op::Del(efd, fd) => epoll_ctl(efd, c::EPOLL_CTL_DEL, fd, 0, 0),
            Op::Exit(pid) => {
                words[HOLDER].store(LEAVING, SeqCst);
                match wait(pid)? {
                    0 => Ok(()),
                    status => Err(io::Error::other(format!("exit status {status}"))),
                }
            }
        }
    }
}

/// An operation that has been performed.
struct Span {
    op: Op,
    result: io::Result<()>,
    begin: Instant,
    end: Instant,
    /// A lookup was in progress at some time.
    called: bool,
}

impl Span {
    fn of(words: &Words, op: Op) -> Span {
        let before = words[CALLS].load(SeqCst);
        let begin = Instant::now();
        let result = op.perform(words);
        let end = Instant::now();
        let called = before % 2 == 1 || words[CALLS].load(SeqCst) != before;
        Span {
            op,
            result,
            begin,
            end,
            called,
        }
    }

    fn overlaps(&self, other: &Span) -> bool {
        self.begin < other.end && other.begin < self.end
    }

    /// Fails if the operation did, unless by EPOLL_CTL_DEL of an fd that was closed before.
    fn check(&self) -> Result<(), Failure> {
        match (self.op, &self.result) {
            (_, Ok(())) => Ok(()),
            (Op::Del(..), Err(e)) if errno(e) == c::EBADF => Ok(()),
            (op, Err(e)) => Err(format!("{op:?}: {e}").into()),
        }
    }
}

/// Performs an operation that begins, after a delay, when two threads have come here.
fn perform_together(words: &Words, op: Op, delay: Duration) -> Span {
    let met = words[MET].fetch_add(1, SeqCst) | 1;
    wait_until(|| words[MET].load(SeqCst) > met);
    let begin = Instant::now();
    while begin.elapsed() < delay {
        spin_loop();
    }
    Span::of(words, op)
}

struct Tester {
    words: &'static Words,
    rng: Rng,
    /// To and from the second thread.
    ops: SyncSender<(Op, Duration)>,
    spans: Receiver<Span>,
}

impl Tester {
    /// Lets the caller look up these entries, and waits until it has done so.
    fn look_up(&self, efd: RawFd, toffs: Range<usize>) {
        let words = self.words;
        words[EFD].store(efd as u64, SeqCst);
        words[FIRST].store(toffs.start as u64, SeqCst);
        words[LAST].store(toffs.end as u64 - 1, SeqCst);
        let calls = words[CALLS].load(SeqCst);
        let each_twice = 4 * toffs.len() as u64 + 2;
        wait_until(|| words[CALLS].load(SeqCst) > calls + each_twice);
    }

    fn delay(&mut self) -> Duration {
        Duration::from_nanos(self.rng.below(JITTER.as_nanos() as usize) as u64)
    }

    /// Performs two operations at once, either one in either thread. Tells if the round counts.
    fn race(&mut self, ops: [Op; 2]) -> Result<bool, Failure> {
        let [ours, theirs] = self.rng.pick(&[[0, 1], [1, 0]]).map(|i: usize| ops[i]);
        let delays = [self.delay(), self.delay()];
        self.ops.send((theirs, delays[0]))?;
        let ours = perform_together(self.words, ours, delays[1]);
        let theirs = self.spans.recv()?;
        ours.check()?;
        theirs.check()?;
        Ok(ours.overlaps(&theirs) && (ours.called || theirs.called))
    }

    fn check_caller(&self) -> Result<(), Failure> {
        let wrong = self.words[WRONG].swap(0, SeqCst);
        ensure!(wrong == 0, "a lookup returned {}", wrong as i32);
        Ok(())
    }

    /// Plays rounds until enough of them count. A round tells if it counts, by the index of what it
    /// tested.
    fn play<const N: usize>(
        &mut self,
        rounds: u64,
        names: [&str; N],
        mut round: impl FnMut(&mut Tester) -> Result<(usize, bool), Failure>,
    ) -> Result<Done, Failure> {
        let (begin, mut last) = (Instant::now(), Instant::now());
        let (mut played, mut counts) = (0, [0; N]);
        place(eventfd()?, OTHER)?;
        while counts.iter().sum::<u64>() < rounds {
            let (which, counted) = round(self)?;
            played += 1;
            if counted {
                counts[which] += 1;
                last = Instant::now();
            }
            self.check_caller()?;
            ensure!(
                last.elapsed() < PATIENCE,
                "nothing overlaps: {counts:?} of {played} rounds count"
            );
        }
        close_range(OUTER..FILES.end)?;
        let counts: Vec<_> = names
            .iter()
            .zip(counts)
            .map(|(name, n)| format!("{n} {name}"))
            .collect();
        let seconds = begin.elapsed().as_secs_f64();
        println!(
            "# {played} rounds in {seconds:.1} s, counted: {}",
            counts.join(", ")
        );
        Ok(Done::Passed)
    }
}

// --- Rounds --------------------------------------------------------------------------------------

/// Adds a file under the fd that entries share. Its data is its own fd.
fn add_shared(efd: RawFd, file: RawFd) -> io::Result<()> {
    dup2(file, SHARED)?;
    epoll_ctl(efd, c::EPOLL_CTL_ADD, SHARED, c::EPOLLIN, file as u64)?;
    close(SHARED)
}

/// The fds of the files whose entries share an fd, by toff.
fn shared_files(efd: RawFd) -> io::Result<Vec<RawFd>> {
    let listed = list_entries(&format!("/proc/self/fdinfo/{efd}"))?;
    let shared = listed.into_iter().filter(|entry| entry.tfd == SHARED);
    Ok(shared.map(|entry| entry.data as RawFd).collect())
}

/// Makes an epoll file with an entry for another file, which is among others that share its fd.
fn nest(outer: RawFd, inner: RawFd) -> io::Result<()> {
    place(epoll_create()?, outer)?;
    for file in FILES.take(2) {
        place(eventfd()?, file)?;
        add_shared(outer, file)?;
    }
    add_shared(outer, inner)
}

/// Waits until the epoll file has this number of entries: the caller may hold the last reference to
/// one that has been closed.
fn wait_for_entries(efd: RawFd, count: usize) -> Result<(), Failure> {
    let begin = Instant::now();
    while shared_files(efd)?.len() != count {
        ensure!(
            begin.elapsed() < PATIENCE,
            "entries of {:?} remain, not {count}",
            shared_files(efd)?
        );
    }
    Ok(())
}

/// The outer and the inner epoll file are closed.
fn close_both(tester: &mut Tester) -> Result<(usize, bool), Failure> {
    place(epoll_create()?, INNER)?;
    nest(OUTER, INNER)?;
    tester.look_up(OUTER, 0..3);
    let counts = tester.race([Op::Close(OUTER), Op::Close(INNER)])?;
    Ok((0, counts))
}

/// The inner epoll file is removed and closed.
fn delete_and_close(tester: &mut Tester) -> Result<(usize, bool), Failure> {
    place(epoll_create()?, INNER)?;
    nest(OUTER, INNER)?;
    place(INNER, SHARED)?;
    tester.look_up(OUTER, 0..3);
    let counts = tester.race([Op::Del(OUTER, SHARED), Op::Close(SHARED)])?;
    wait_for_entries(OUTER, 2)?;
    Ok((0, counts))
}

/// The middle of three epoll files is closed while a file is added: a file or an epoll file to the
/// inner one, or the outer one to yet another. All need the check for loops and too many paths.
fn add_and_close(tester: &mut Tester) -> Result<(usize, bool), Failure> {
    place(epoll_create()?, INNER)?;
    nest(MIDDLE, INNER)?;
    place(epoll_create()?, OUTER)?;
    add_shared(OUTER, MIDDLE)?;
    let which = tester.rng.below(3);
    let add = match which {
        0 => {
            place(eventfd()?, NEW)?;
            Op::Add(INNER, NEW)
        }
        1 => {
            place(epoll_create()?, NEW)?;
            Op::Add(INNER, NEW)
        }
        _ => {
            place(epoll_create()?, TOP)?;
            Op::Add(TOP, OUTER)
        }
    };
    tester.look_up(MIDDLE, 0..3);
    let counts = tester.race([add, Op::Close(MIDDLE)])?;
    wait_for_entries(OUTER, 0)?;
    Ok((which, counts))
}

/// How a file loses its last reference.
#[derive(Clone, Copy)]
enum Way {
    Close,
    Exit,
    Message,
}

/// Starts a process that holds only this file, and exits when it is told to.
fn start_holder(words: &Words, file: RawFd) -> io::Result<Pid> {
    words[HOLDER].store(STARTING, SeqCst);
    // SAFETY: This process has two threads. The child allocates nothing and takes no lock.
    let pid = cvt(unsafe { c::fork() })?;
    if pid > 0 {
        wait_until(|| words[HOLDER].load(SeqCst) == HOLDING);
        return Ok(pid);
    }
    let others = close_range(0..file).and(close_range(file + 1..RawFd::MAX));
    let ready = others.and(end_with_parent());
    words[HOLDER].store(HOLDING, SeqCst);
    wait_until(|| words[HOLDER].load(SeqCst) == LEAVING);
    exit_at_once(ready.is_err().into())
}

/// A file before, at or behind the cursor is released. Then each entry must have the expected file,
/// first those that would be found by the cursor, had it not been reset.
fn release(tester: &mut Tester, way: Way) -> Result<(usize, bool), Failure> {
    let mut files = shared_files(OUTER)?;
    let cursor = 1 + tester.rng.below(files.len() - 2);
    let which = tester.rng.below(3);
    let file = files.remove(cursor - 1 + which);

    let op = match way {
        Way::Close => Op::Close(file),
        Way::Exit => {
            let holder = start_holder(tester.words, file)?;
            close(file)?;
            Op::Exit(holder)
        }
        Way::Message => {
            place_pair(c::SOCK_DGRAM, SOCKETS)?;
            send_file(SOCKETS[0], file)?;
            close(file)?;
            Op::Close(SOCKETS[1])
        }
    };
    tester.look_up(OUTER, cursor..cursor + 1);
    let span = Span::of(tester.words, op);
    span.check()?;

    let left = shared_files(OUTER)?;
    ensure!(left == files, "entries of {left:?}, not of {files:?}");
    let of = |fd| FileOf { pid: getpid(), fd };
    for toff in (cursor..files.len()).chain(0..cursor) {
        let fd = files[toff];
        let entry = EntryOf {
            epoll: of(OUTER),
            tfd: SHARED,
            toff: toff as u32,
        };
        let found = kcmp_entry(of(fd), entry)?;
        ensure!(found == Equal, "entry {toff} is not that of file {fd}");
    }

    place(eventfd()?, file)?;
    add_shared(OUTER, file)?;
    Ok((which, span.called))
}

// --- The program ---------------------------------------------------------------------------------

fn play_release(tester: &mut Tester, rounds: u64, way: Way) -> Result<Done, Failure> {
    place(epoll_create()?, OUTER)?;
    for file in FILES {
        place(eventfd()?, file)?;
        add_shared(OUTER, file)?;
    }
    tester.play(
        rounds,
        ["before the cursor", "at it", "behind it"],
        |tester| release(tester, way),
    )
}

fn run(rounds: u64, seed: u64) -> Result<ExitCode, Failure> {
    println!("# {rounds} rounds with seed {seed}");
    let words: &'static Words = share_words()?;
    words[EFD].store(OUTER as u64, SeqCst);
    let main = getpid();
    let caller = fork(|| call(words, main))?;
    let (ops, receive_ops) = sync_channel::<(Op, Duration)>(1);
    let (send_spans, spans) = sync_channel(1);
    thread::spawn(move || {
        for (op, delay) in receive_ops {
            let _ = send_spans.send(perform_together(words, op, delay));
        }
    });
    let tester = RefCell::new(Tester {
        words,
        rng: Rng::new(seed),
        ops,
        spans,
    });
    let tester = || tester.borrow_mut();
    let status = run_tests(&[
        ("close_outer_and_inner", &|| {
            tester().play(rounds, ["of both"], close_both)
        }),
        ("delete_and_close_inner", &|| {
            tester().play(rounds, ["of both"], delete_and_close)
        }),
        ("add_and_close_middle", &|| {
            let added = ["of a file", "of an inner epoll file", "of the outer one"];
            tester().play(rounds, added, add_and_close)
        }),
        ("release_by_close", &|| {
            play_release(&mut tester(), rounds, Way::Close)
        }),
        ("release_by_exit", &|| {
            play_release(&mut tester(), rounds, Way::Exit)
        }),
        ("release_by_message", &|| {
            play_release(&mut tester(), rounds, Way::Message)
        }),
    ]);
    kill(caller)?;
    Ok(status)
}

fn main() -> ExitCode {
    let options = [("--rounds", 1000), ("--seed", new_seed())];
    start(HELP, options, |[rounds, seed]| run(rounds, seed))
}
