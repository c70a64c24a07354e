// SPDX-License-Identifier: GPL-2.0

//! Tests and their results.

use crate::Failure;
use std::process::ExitCode;

/// The exit status for kselftest of a program that has skipped all its tests.
const SKIPPED: u8 = 4;

/// How a test ended that has not failed.
pub enum Done {
    Passed,
    /// Why it cannot run here.
    Skipped(String),
}

/// A test: its name, and what it does.
pub type Test<'a> = (&'a str, &'a dyn Fn() -> Result<Done, Failure>);

/// Runs tests, prints TAP, and gives the exit status of kselftest.
pub fn run_tests(tests: &[Test<'_>]) -> ExitCode {
    println!("TAP version 13\n1..{}", tests.len());
    let (mut failed, mut skipped) = (0, 0);
    for (i, (name, test)) in tests.iter().enumerate() {
        let n = i + 1;
        match test() {
            Ok(Done::Passed) => println!("ok {n} {name}"),
            Ok(Done::Skipped(why)) => {
                skipped += 1;
                println!("ok {n} {name} # SKIP {why}");
            }
            Err(failure) => {
                failed += 1;
                println!("# {failure}\nnot ok {n} {name}");
            }
        }
    }
    match (failed, skipped) {
        (1.., _) => ExitCode::FAILURE,
        (_, skipped) if skipped == tests.len() => SKIPPED.into(),
        _ => ExitCode::SUCCESS,
    }
}

/// Runs no test, and says why.
pub fn skip_all(why: &str) -> ExitCode {
    println!("TAP version 13\n1..0 # SKIP {why}");
    SKIPPED.into()
}
