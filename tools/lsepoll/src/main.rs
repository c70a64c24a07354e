// SPDX-License-Identifier: GPL-2.0

//! Lists the files that epoll instances watch, and where they are open.

use clap::{ColorChoice, FromArgMatches};
use lsepoll::args::{self, Args};
use lsepoll::error::Error;
use lsepoll::progress::Progress;
use lsepoll::report::{Report, Searched, State};
use lsepoll::search::{self, Selection};
use lsepoll::{demo, human, json, kcmp, man};
use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;

/// Exit status with --stale if an entry is not in place.
const FOUND: u8 = 1;
const FAILED: u8 = 2;

fn main() -> ExitCode {
    let matches = args::command().get_matches();
    let result = Args::from_arg_matches(&matches)
        .map_err(|e| e.exit())
        .and_then(|args| run(&args));
    result.unwrap_or_else(|e| {
        say(&e.to_string());
        FAILED.into()
    })
}

/// Prints a message to stderr. Errors are ignored: there is nowhere else to report them.
fn say(text: &str) {
    let _ = writeln!(io::stderr(), "lsepoll: {text}");
}

fn run(args: &Args) -> Result<ExitCode, Error> {
    anstream::ColorChoice::write_global(match args.color {
        ColorChoice::Auto => anstream::ColorChoice::Auto,
        ColorChoice::Always => anstream::ColorChoice::Always,
        ColorChoice::Never => anstream::ColorChoice::Never,
    });
    let width = terminal_size::terminal_size_of(io::stdout()).map(|(width, _)| width.0);

    let mut text = Vec::new();
    let code = if args.man {
        man::print(&mut text).map_err(|e| Error::Io("manual page", e))?;
        ExitCode::SUCCESS
    } else if args.demo {
        if demo::run(&mut text, width)? {
            ExitCode::SUCCESS
        } else {
            FAILED.into()
        }
    } else {
        list(args, &mut text, width)?
    };
    match anstream::stdout().lock().write_all(&text) {
        // As in lsepoll | head.
        Err(e) if e.kind() == ErrorKind::BrokenPipe => Ok(code),
        Err(e) => Err(Error::Io("standard output", e)),
        Ok(()) => Ok(code),
    }
}

fn list(args: &Args, text: &mut Vec<u8>, width: Option<u16>) -> Result<ExitCode, Error> {
    let selection = Selection {
        pids: args.pids.clone(),
        name: args.name.clone(),
        efd: args.fd,
    };
    let mut report = search::search(&selection, &mut Progress::new())?;
    let entries = report.rows().count();
    if args.verbose {
        say(&statistics(&report, entries));
    }
    for error in &report.errors {
        say(&error.to_string());
    }
    let notes = human::notes(&report, !args.pids.is_empty());
    if args.stale {
        for epoll in &mut report.epolls {
            epoll.rows.retain(|row| row.state != State::InPlace);
        }
        report.epolls.retain(|epoll| !epoll.rows.is_empty());
    }
    // The JSON objects contain what the notes say.
    if !args.json || report.epolls.is_empty() {
        notes.iter().for_each(|note| say(note));
    }
    let printed = if args.json {
        json::print(&report, text)
    } else {
        human::print(&report, text, width)
    };
    printed.map_err(|e| Error::Io("output", e))?;
    Ok(if !report.errors.is_empty() {
        FAILED.into()
    } else if args.stale && !report.epolls.is_empty() {
        FOUND.into()
    } else {
        ExitCode::SUCCESS
    })
}

fn statistics(report: &Report, entries: usize) -> String {
    let Searched {
        processes,
        files,
        rounds,
        ..
    } = report.searched;
    format!(
        "{}, {}, {}, {}, {}, {}",
        human::count(processes, "process", "processes"),
        human::count(files, "file", "files"),
        human::count(report.epolls.len(), "epoll instance", "epoll instances"),
        human::count(entries, "entry", "entries"),
        human::count(rounds as usize, "round", "rounds"),
        human::count(kcmp::calls() as usize, "kcmp(2) call", "kcmp(2) calls"),
    )
}
