// SPDX-License-Identifier: GPL-2.0

//! How long lsepoll takes, and how long epoll_ctl(2) of the process takes meanwhile, at worst.
//! Prints a table. Run it on several kernels to compare them.

use crate::lsepoll::{command, program};
use crate::scene::{self, Actor};
use crate::ways::{EPOLL, create, move_file};
use std::convert::Infallible;
use std::error::Error;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

type Fd = libc::c_int;

const FIRST: Fd = 100;

/// Prepares that many entries.
type Prepare = fn(Fd) -> io::Result<()>;

const CASES: [(&str, Prepare); 5] = [
    ("sockets in place", sockets),
    ("eventfds in place", eventfds),
    ("eventfds moved", moved),
    ("eventfds under one fd", under_one_fd),
    ("eventfds in flight", in_flight),
];

fn sockets(count: Fd) -> io::Result<()> {
    for fd in (FIRST..FIRST + count).step_by(2) {
        let [ours, theirs] = scene::socketpair(libc::SOCK_STREAM)?;
        for (file, at) in [(ours, fd), (theirs, fd + 1)] {
            // They are opened in this order.
            if file != at {
                scene::place(file, at)?;
            }
            scene::add(EPOLL, at, at as u64)?;
        }
    }
    Ok(())
}

fn eventfds(count: Fd) -> io::Result<()> {
    for fd in FIRST..FIRST + count {
        scene::place(scene::eventfd()?, fd)?;
        scene::add(EPOLL, fd, fd as u64)?;
    }
    Ok(())
}

fn moved(count: Fd) -> io::Result<()> {
    eventfds(count)?;
    (FIRST..FIRST + count).try_for_each(|fd| move_file(fd, fd - 1))
}

fn under_one_fd(count: Fd) -> io::Result<()> {
    for fd in FIRST..FIRST + count {
        scene::place(scene::eventfd()?, EPOLL + 1)?;
        scene::add(EPOLL, EPOLL + 1, fd as u64)?;
        move_file(EPOLL + 1, fd)?;
    }
    Ok(())
}

fn in_flight(count: Fd) -> io::Result<()> {
    eventfds(count)?;
    let [ours, theirs] = scene::socketpair(libc::SOCK_STREAM)?;
    scene::place(ours, EPOLL + 1)?;
    scene::place(theirs, EPOLL + 2)?;
    // As many as fit into the buffer of a socket.
    let mut mailboxes = vec![EPOLL + 1];
    for (sent, fd) in (FIRST..FIRST + count).enumerate() {
        if sent % 100 == 99 {
            let [ours, _theirs] = scene::socketpair(libc::SOCK_STREAM)?;
            mailboxes.push(ours);
        }
        scene::send_file(mailboxes[mailboxes.len() - 1], fd)?;
        scene::close(fd)?;
    }
    Ok(())
}

/// Adds and deletes an entry again and again, and stores the longest time in nanoseconds.
fn probe(worst: &AtomicU64) -> io::Result<Infallible> {
    let fd = scene::eventfd()?;
    loop {
        let begin = Instant::now();
        scene::add(EPOLL, fd, 0)?;
        scene::delete(EPOLL, fd)?;
        worst.fetch_max(begin.elapsed().as_nanos() as u64, Relaxed);
        std::thread::sleep(Duration::from_micros(500));
    }
}

/// A word that is shared with children.
fn shared_word() -> io::Result<&'static AtomicU64> {
    // SAFETY: The mapping is long enough, aligned, zeroed, and never unmapped.
    unsafe {
        let rights = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
        let memory = libc::mmap(std::ptr::null_mut(), 4096, rights, flags, -1, 0);
        if memory == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(&*memory.cast())
    }
}

/// Runs lsepoll for a process with these entries. Returns the time, and the number of calls.
fn measure(actor: &Actor) -> Result<(Duration, String), Box<dyn Error>> {
    let begin = Instant::now();
    let args = ["--verbose", "--timeout", "600", &actor.pid.to_string()];
    let output = command(&program(), &args).output()?;
    let elapsed = begin.elapsed();
    let err = String::from_utf8(output.stderr)?;
    let calls = err
        .split(", ")
        .find_map(|part| part.split_once(" kcmp(2) call"));
    Ok((elapsed, calls.ok_or("no number of calls")?.0.to_string()))
}

/// Runs the benchmark with this number of entries.
pub fn run(entries: &str) -> Result<(), Box<dyn Error>> {
    let entries: Fd = entries.parse()?;
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    println!("Linux {}\n", release.trim());
    println!("| {entries} | seconds | kcmp(2) calls | worst epoll_ctl(2), ms |");
    println!("|---|--:|--:|--:|");
    for (name, prepare) in CASES {
        let start = |probing: Option<&'static AtomicU64>| {
            Actor::start("bench", || {
                scene::allow_files((FIRST + entries) as usize + 1000)?;
                create()?;
                prepare(entries)?;
                if let Some(worst) = probing {
                    std::thread::spawn(|| {
                        let Err(e) = probe(worst);
                        eprintln!("epoll_ctl: {e}");
                    });
                }
                Ok(0)
            })
        };
        let (elapsed, calls) = measure(&start(None)?)?;
        let worst = shared_word()?;
        let probed = start(Some(worst))?;
        std::thread::sleep(Duration::from_millis(100));
        worst.store(0, Relaxed);
        measure(&probed)?;
        let worst = worst.load(Relaxed) as f64 / 1e6;
        println!(
            "| {name} | {:.2} | {calls} | {worst:.1} |",
            elapsed.as_secs_f64()
        );
    }
    Ok(())
}
