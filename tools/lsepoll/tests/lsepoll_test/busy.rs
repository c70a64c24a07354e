// SPDX-License-Identifier: GPL-2.0

//! Beside processes that open and close files which have nothing to do with the entries.

use crate::lsepoll::run;
use crate::scene::{self, Actor};
use crate::tap::{Outcome, contains};
use std::io;
use std::time::Duration;

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

/// All rows of --demo are settled, each time.
pub fn demo_beside_unrelated_work() -> Outcome {
    const RUNS: u32 = 20;

    let idle = unrelated(15_000, Duration::from_millis(3))?;
    let quick = unrelated(20, Duration::from_micros(50))?;
    for run_number in 1..=RUNS {
        let out = run(&["--demo"])?.out;
        contains(&out, "\n9 of 9 rows are right.\n")
            .map_err(|e| format!("run {run_number} of {RUNS}: {e}"))?;
    }
    drop((idle, quick));
    Ok(())
}
