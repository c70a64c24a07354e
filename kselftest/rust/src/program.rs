// SPDX-License-Identifier: GPL-2.0

//! How a program starts.

use crate::{skip_all, Failure};
use lexopt::{prelude::*, Error, Parser};
use std::path::Path;
use std::process::ExitCode;

/// Parses the arguments of this program, and runs it.
///
/// `-h` and `--help` print `help`: they are options that no parser expects.
pub fn start<A>(
    help: &str,
    parse: impl FnOnce(&mut Parser) -> Result<A, Error>,
    run: impl FnOnce(A) -> Result<ExitCode, Failure>,
) -> ExitCode {
    let result = match parse(&mut Parser::from_env()) {
        Ok(args) => run(args),
        Err(Error::UnexpectedOption(option)) if option == "-h" || option == "--help" => {
            print!("{help}");
            Ok(ExitCode::SUCCESS)
        }
        Err(e) => Err(Failure(e.to_string())),
    };
    result.unwrap_or_else(|failure| {
        let path = std::env::args_os().next().unwrap_or_default();
        let name = Path::new(&path).file_name().unwrap_or_default();
        eprintln!("{}: {failure}", name.to_string_lossy());
        ExitCode::FAILURE
    })
}

/// As [`start`], for tests that only root can run. For others, they are skipped.
pub fn start_as_root<A>(
    help: &str,
    parse: impl FnOnce(&mut Parser) -> Result<A, Error>,
    run: impl FnOnce(A) -> Result<ExitCode, Failure>,
) -> ExitCode {
    start(help, parse, |args| {
        // SAFETY: No memory is involved.
        match unsafe { libc::geteuid() } {
            0 => run(args),
            _ => Ok(skip_all("has to be started by root")),
        }
    })
}

/// Parses an option that says how much to do, and the seed of what is random: a new one if there
/// is none.
pub fn parse_amount_and_seed(
    parser: &mut Parser,
    option: &str,
    default: u64,
) -> Result<(u64, u64), Error> {
    let (mut amount, mut seed) = (default, fastrand::u64(..));
    while let Some(arg) = parser.next()? {
        match arg {
            Long("seed") => seed = parser.value()?.parse()?,
            Long(name) if name == option => amount = parser.value()?.parse()?,
            _ => return Err(arg.unexpected()),
        }
    }
    Ok((amount, seed))
}
