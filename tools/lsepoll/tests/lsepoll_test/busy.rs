// SPDX-License-Identifier: GPL-2.0

//! Beside processes that open and close files which have nothing to do with the entries.

use crate::calls::count;
use crate::lsepoll::run;
use crate::process::Fd;
use crate::scene::{self, Actor};
use crate::tap::{Outcome, contains, same};
use crate::ways::{EPOLL, add_eventfd, create, one_entry};
use std::io;
use std::ops::Range;
use std::time::{Duration, Instant};

/// Opens and closes /dev/null every `pause`.
fn unrelated(files: usize, pause: Duration) -> io::Result<Actor> {
    Actor::start("unrelated", || {
        // As many as the limit allows.
        let _ = scene::allow_files(files + 100);
        while scene::eventfd().is_ok_and(|fd| (fd as usize) < files) {}
        std::thread::spawn(move || {
            loop {
                let _ = std::fs::File::open("/dev/null");
                std::thread::sleep(pause);
            }
        });
        Ok(0)
    })
}

/// All rows of --demo are settled, each time. Takes a minute at most, if five runs do.
pub fn demo_beside_unrelated_work() -> Outcome {
    const RUNS: u32 = 20;
    const LEAST: u32 = 5;
    const MOST: Duration = Duration::from_secs(60);

    let idle = unrelated(15_000, Duration::from_millis(3))?;
    let quick = unrelated(20, Duration::from_micros(50))?;
    let begin = Instant::now();
    for run_number in 1..=RUNS {
        if run_number > LEAST && begin.elapsed() > MOST {
            println!("# only {} runs", run_number - 1);
            break;
        }
        let out = run(&["--demo"])?.out;
        contains(&out, "\n9 of 9 rows are right.\n")
            .map_err(|e| format!("run {run_number} of {RUNS}: {e}"))?;
    }
    drop((idle, quick));
    Ok(())
}

/// An idle process is listed, even if the epoll files of another one change all the time.
pub fn epoll_files_move() -> Outcome {
    const FDS: Range<Fd> = 100..900;

    let busy = Actor::start("busy", || {
        for fd in FDS {
            scene::place(scene::epoll_create()?, fd)?;
        }
        std::thread::spawn(|| {
            // Each moves to the next fd.
            loop {
                for fd in FDS.rev() {
                    let _ = scene::dup2(fd, fd + 1);
                }
                let _ = scene::dup2(FDS.end, FDS.start);
            }
        });
        Ok(0)
    })?;
    let way = one_entry()?;
    for _ in 0..5 {
        let out = run(&[&way.pid.to_string()])?.quiet()?;
        contains(
            &out,
            &format!("pid {} (way), fd {EPOLL}: 1 entry\n", way.pid),
        )?;
    }
    drop(busy);
    Ok(())
}

/// Many files that could be targets come and go in other processes.
pub fn many_files_come_and_go() -> Outcome {
    const ENTRIES: libc::c_int = 500;
    const FILES: usize = 3_000;

    let busy = Actor::start("busy", || {
        std::thread::spawn(|| {
            loop {
                // SAFETY: The child only opens files.
                match unsafe { libc::fork() } {
                    0 => {
                        let _ = scene::allow_files(FILES + 100);
                        while scene::eventfd().is_ok() {}
                        std::thread::sleep(Duration::from_millis(50));
                        scene::exit_at_once(0);
                    }
                    // SAFETY: No status is written.
                    child => unsafe {
                        libc::waitpid(child, std::ptr::null_mut(), 0);
                    },
                }
            }
        });
        Ok(0)
    })?;
    let way = Actor::start("way", || {
        scene::allow_files(2_000)?;
        create()?;
        let mut mailbox = -1;
        for fd in 100..100 + ENTRIES {
            add_eventfd(fd)?;
            if (fd - 100) % 100 == 0 {
                [mailbox, _] = scene::socketpair(libc::SOCK_STREAM)?;
            }
            scene::send_file(mailbox, fd)?;
            scene::close(fd)?;
        }
        Ok(0)
    })?;
    let (calls, out) = count(&way.pid.to_string())?;
    println!("# {calls} calls");
    drop(busy);
    contains(&out, &format!("{ENTRIES} entries, "))?;
    // Comparing each file with each entry takes 1,500,000 for one of these processes.
    same(calls < 1_000_000, true)
}
