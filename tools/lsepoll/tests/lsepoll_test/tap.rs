// SPDX-License-Identifier: GPL-2.0

//! Tests and their results.

use std::error::Error;
use std::fmt;
use std::process::ExitCode;

/// The exit status by which kselftest knows that a program has skipped all its tests.
const SKIPPED: u8 = 4;

pub type Outcome = Result<(), Box<dyn Error>>;
pub type Test = fn() -> Outcome;

/// Why a test cannot run here.
#[derive(Debug)]
struct Skip(String);

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for Skip {}

/// Skips a test.
pub fn skip<T>(why: &str) -> Result<T, Box<dyn Error>> {
    Err(Box::new(Skip(why.to_string())))
}

/// Fails a test unless the values are equal.
pub fn same<T: PartialEq + fmt::Debug>(found: T, expected: T) -> Outcome {
    if found == expected {
        Ok(())
    } else {
        Err(format!("found {found:#?}, expected {expected:#?}").into())
    }
}

/// Fails a test unless `text` contains `part`.
pub fn contains(text: &str, part: &str) -> Outcome {
    if text.contains(part) {
        Ok(())
    } else {
        Err(format!("no {part:?} in {text:?}").into())
    }
}

pub fn run(tests: &[&(&str, Test)]) -> ExitCode {
    println!("TAP version 13\n1..{}", tests.len());
    let (mut failed, mut skipped) = (0, 0);
    for (i, (name, test)) in tests.iter().enumerate() {
        let n = i + 1;
        match test() {
            Ok(()) => println!("ok {n} {name}"),
            Err(e) if e.is::<Skip>() => {
                skipped += 1;
                println!("ok {n} {name} # SKIP {e}");
            }
            Err(e) => {
                failed += 1;
                for line in e.to_string().lines() {
                    println!("# {line}");
                }
                println!("not ok {n} {name}");
            }
        }
    }
    if failed > 0 {
        ExitCode::FAILURE
    } else if skipped == tests.len() {
        SKIPPED.into()
    } else {
        ExitCode::SUCCESS
    }
}
