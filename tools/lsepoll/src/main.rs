// SPDX-License-Identifier: GPL-2.0

//! Lists the files that epoll instances watch, and where they are open.
//!
//! The fd that an interest list records may be closed by now, or refer to another file. kcmp(2)
//! tells whether a file of a process is the one behind an entry.
//!
//! The modules form layers. Each uses only those above it.

mod bytes;
mod control;
mod error;
mod limits;

// What the kernel says.
mod fdinfo;
mod held;
mod kcmp;
mod listing;
mod name;
mod process;
mod ready;
mod sockets;

// Which files are the same.
mod files;
mod order;

// The search.
mod instance;
mod search;

// The report.
mod report;

// Text and JSON.
mod advice;
mod events;
mod json;
mod summary;
mod text;

// The command line.
mod args;
mod demo;
mod man;

use args::Args;
use bytes::Bytes;
use clap::{ColorChoice, FromArgMatches};
use control::Control;
use error::Error;
use instance::State;
use report::{Line, Reporter, count};
use search::Selection;
use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;
use std::time::Duration;
use summary::{FAILED, Summary};
use text::Format;

fn main() -> ExitCode {
    let matches = args::command().get_matches();
    let result = Args::from_arg_matches(&matches)
        .map_err(|e| e.exit())
        .and_then(|args| run(&args));
    match result {
        Ok(code) => code,
        // As in lsepoll | head.
        Err(Error::Io(OUTPUT, e)) if e.kind() == ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(e) => {
            say(&e.to_string());
            FAILED.into()
        }
    }
}

const OUTPUT: &str = "standard output";

/// Prints a message to stderr. Errors are ignored: there is nowhere else to report them.
fn say(text: &str) {
    let _ = writeln!(io::stderr(), "lsepoll: {text}");
}

fn write(text: &[u8]) -> Result<(), Error> {
    let mut stdout = anstream::stdout().lock();
    let written = stdout.write_all(text).and_then(|()| stdout.flush());
    written.map_err(|e| Error::Io(OUTPUT, e))
}

fn run(args: &Args) -> Result<ExitCode, Error> {
    anstream::ColorChoice::write_global(match args.color {
        ColorChoice::Auto => anstream::ColorChoice::Auto,
        ColorChoice::Always => anstream::ColorChoice::Always,
        ColorChoice::Never => anstream::ColorChoice::Never,
    });
    let width = terminal_size::terminal_size_of(io::stdout()).map(|(width, _)| width.0);
    let format = Format {
        width,
        verbose: args.verbose,
        summary: args.summary,
        columns: args.output.clone(),
    };

    let mut text = Vec::new();
    if args.man {
        man::print(&mut text).map_err(|e| Error::Io("manual page", e))?;
    } else if let Some(shell) = args.completions {
        clap_complete::generate(shell, &mut args::command(), "lsepoll", &mut text);
    } else if args.demo {
        let is_right = demo::run(&mut text, &format)?;
        write(&text)?;
        return Ok(if is_right {
            ExitCode::SUCCESS
        } else {
            FAILED.into()
        });
    } else {
        return list(args, &format);
    }
    write(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// Whether the user wants to see an entry.
fn is_wanted(args: &Args, line: &Line) -> bool {
    let is_stale = line.is_stale() || line.row.state == State::Unsettled;
    (!args.stale || is_stale)
        && (!args.ready || line.ready.is_ready())
        && (args.state.is_empty() || args.state.contains(&line.row.state))
        && (args.file.as_ref())
            .is_none_or(|text| line.file.text().to_string().contains(text.as_str()))
}

fn list(args: &Args, format: &Format) -> Result<ExitCode, Error> {
    let selection = Selection {
        pids: args.pids.clone(),
        name: args.name.clone().map(Bytes::from),
        efd: args.fd,
    };
    let is_filtered = args.stale || args.ready || !args.state.is_empty() || args.file.is_some();
    control::catch_interrupt();
    let mut control = Control::new(args.timeout.map(Duration::from_secs_f64));
    let mut reporter = Reporter::default();
    let mut summary = Summary::default();
    let (mut is_first, mut is_found) = (true, false);
    summary.searched = search::search(selection, &mut control, &mut |found, listing, control| {
        let mut epoll = reporter.report(found, listing);
        if args.ready {
            reporter.look_again(&mut epoll);
        }
        summary.add(&epoll);
        let lines: Vec<_> = (epoll.lines.iter())
            .filter(|line| is_wanted(args, line))
            .collect();
        if epoll.lines.len() < args.min_entries || (is_filtered && lines.is_empty()) {
            return Ok(());
        }
        is_found |= args.ready || lines.iter().any(|line| line.is_stale());
        let mut text = Vec::new();
        let printed = if args.json {
            json::print(&epoll, &lines, &mut text)
        } else {
            if !std::mem::replace(&mut is_first, false) && !args.summary {
                text.push(b'\n');
            }
            text::print(&epoll, &lines, &mut text, format)
        };
        printed.map_err(|e| Error::Io("output", e))?;
        control.pause(|| write(&text))
    })?;
    summary.is_interrupted = control::is_interrupted();
    summary.is_late = !summary.is_interrupted && control.is_late();
    drop(control);

    let status = summary.status(is_found && (args.stale || args.ready));
    if args.verbose {
        say(&statistics(&summary));
    }
    for error in &summary.searched.errors {
        say(&error.to_string());
    }
    if args.json {
        let mut text = Vec::new();
        json::finish(&summary, status, &mut text).map_err(|e| Error::Io("output", e))?;
        write(&text)?;
    } else {
        let is_narrowed = !args.pids.is_empty() || args.name.is_some();
        summary.notes(is_narrowed).iter().for_each(|note| say(note));
    }
    Ok(status.into())
}

fn statistics(summary: &Summary) -> String {
    let searched = &summary.searched;
    format!(
        "{}, {}, {}, {}, {}, {}",
        count(searched.processes, "process", "processes"),
        count(searched.files, "file", "files"),
        count(summary.instances, "epoll instance", "epoll instances"),
        count(summary.entries, "entry", "entries"),
        count(searched.rounds as usize, "round", "rounds"),
        count(kcmp::calls() as usize, "kcmp(2) call", "kcmp(2) calls"),
    )
}
