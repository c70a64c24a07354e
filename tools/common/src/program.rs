// SPDX-License-Identifier: GPL-2.0

//! The start of a program whose arguments [`start`](crate::start) does not handle.

use crate::Failure;
use lexopt::{Error, Parser};
use std::process::ExitCode;

/// Like [`start`](crate::start), with arguments parsed by `parse`.
pub fn start_parsed<A>(
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
        Err(e) => Err(e.into()),
    };
    result.unwrap_or_else(|failure| {
        let program = std::env::args().next().unwrap_or_default();
        eprintln!("{program}: {failure}");
        ExitCode::FAILURE
    })
}
