// SPDX-License-Identifier: GPL-2.0

//! The listing as text.

use crate::events;
use crate::name::printable;
use crate::process::{Place, Table};
use crate::report::{Epoll, Report, Row, Searched, State};
use anstyle::{AnsiColor, Style};
use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, Table as Layout, presets};
use std::io::{self, Write};

const COLUMNS: [&str; 7] = ["FD", "TOFF", "EVENTS", "DATA", "STATE", "FILE", "WHERE"];
const BOLD: Style = Style::new().bold();

/// The maximum number of fd tables that a cell lists on a terminal.
const FEW: usize = 4;

/// Prints all epoll files. `width` is that of the terminal, if there is one.
pub fn print(report: &Report, out: &mut impl Write, width: Option<u16>) -> io::Result<()> {
    let limit = width.map_or(usize::MAX, |_| FEW);
    for (i, epoll) in report.epolls.iter().enumerate() {
        if i > 0 {
            writeln!(out)?;
        }
        writeln!(out, "{}", heading(epoll, width, limit).trim_fmt())?;
        if !epoll.rows.is_empty() {
            writeln!(out, "\n{}", table(epoll, width, limit).trim_fmt())?;
        }
    }
    Ok(())
}

/// A table without borders that is no wider than the terminal.
fn layout(width: Option<u16>) -> Layout {
    let mut layout = Layout::new();
    layout.load_preset(presets::NOTHING);
    if let Some(width) = width {
        layout.set_content_arrangement(ContentArrangement::Dynamic);
        layout.set_width(width);
    }
    layout
}

fn heading(epoll: &Epoll, width: Option<u16>, limit: usize) -> Layout {
    let (home, others) = (&epoll.holders[0], &epoll.holders[1..]);
    let name = format!("{}, fd {}", process(&home.table), home.fd);
    let entries = count(epoll.entries, "entry", "entries");
    let misplaced = match epoll.misplaced() {
        0 => String::new(),
        misplaced => format!(", {misplaced} not in place"),
    };
    let mut layout = layout(width);
    layout.add_row([format!("{BOLD}{name}{BOLD:#}: {entries}{misplaced}")]);
    if !others.is_empty() {
        layout.add_row([format!(
            "also open as {}",
            places(others, &home.table, limit)
        )]);
    }
    for column in layout.column_iter_mut() {
        column.set_padding((0, 0));
    }
    layout
}

fn table(epoll: &Epoll, width: Option<u16>, limit: usize) -> Layout {
    let mut layout = layout(width);
    layout.set_header(COLUMNS.map(|title| format!("{BOLD}{title}{BOLD:#}")));
    for row in &epoll.rows {
        layout.add_row(cells(row, &epoll.holders[0].table, limit));
    }
    for (column, title) in layout.column_iter_mut().zip(COLUMNS) {
        column.set_padding((0, if title == "WHERE" { 0 } else { 2 }));
        match title {
            "FD" | "TOFF" | "DATA" => {
                column.set_cell_alignment(CellAlignment::Right);
                column.set_constraint(ColumnConstraint::ContentWidth);
            }
            "EVENTS" => drop(column.set_delimiter('|')),
            _ => {}
        }
    }
    layout
}

fn cells(row: &Row, home: &Table, limit: usize) -> [String; 7] {
    let entry = &row.entry;
    let data = match u32::try_from(entry.data) {
        Ok(data) => data.to_string(),
        Err(_) => format!("{:#x}", entry.data),
    };
    let style = style(row.state);
    let stale = if row.stale.is_some() { "stale, " } else { "" };
    let state = format!("{style}{stale}{}{style:#}", row.state.name());
    let mut found = Vec::new();
    if row.state != State::InPlace && !row.places.is_empty() {
        found.push(places(&row.places, home, limit));
    }
    if let Some(stale) = &row.stale {
        found.push(format!("fd {} is now {}", entry.tfd, printable(stale)));
    }
    [
        entry.tfd.to_string(),
        entry.toff.to_string(),
        events::describe(entry.events),
        data,
        state,
        printable(&row.file),
        found.join("; "),
    ]
}

fn style(state: State) -> Style {
    let color = match state {
        State::InPlace => return Style::new(),
        State::Moved => AnsiColor::Yellow,
        State::Elsewhere => AnsiColor::Cyan,
        State::Nowhere => AnsiColor::Red,
        State::Unsettled => AnsiColor::Magenta,
    };
    Style::new().fg_color(Some(color.into()))
}

fn process(table: &Table) -> String {
    let Table { pid, tid, .. } = table;
    let comm = printable(&table.comm);
    if tid == pid {
        format!("pid {pid} ({comm})")
    } else {
        format!("pid {pid} tid {tid} ({comm})")
    }
}

/// Formats places, with the process unless the fd table is `home`.
fn places(places: &[Place], home: &Table, limit: usize) -> String {
    let tables: Vec<_> = (places.chunk_by(|a, b| a.table.tid == b.table.tid)).collect();
    let mut named = Vec::new();
    for places in tables.iter().take(limit) {
        let table = &places[0].table;
        let fds: Vec<_> = places.iter().map(|place| place.fd.to_string()).collect();
        let fds = fds.join(", ");
        named.push(if table.tid == home.tid {
            format!("fd {fds}")
        } else {
            format!("{} fd {fds}", process(table))
        });
    }
    if tables.len() > limit {
        named.push(format!("{} more", tables.len() - limit));
    }
    named.join("; ")
}

/// The notes for stderr. `is_narrowed` says whether the user selected processes by PID.
pub fn notes(report: &Report, is_narrowed: bool) -> Vec<String> {
    let Searched {
        processes,
        not_permitted,
        hidden,
        rounds,
        ..
    } = report.searched;
    let in_state = |state| report.rows().filter(|row| row.state == state).count();
    let mut notes = Vec::new();
    if report.epolls.is_empty() && report.errors.is_empty() {
        notes.push("no epoll instance found".to_string());
    }
    let nowhere = in_state(State::Nowhere);
    if nowhere > 0 {
        let nowhere = count(nowhere, "entry is", "entries are");
        let searched = count(processes, "process", "processes");
        notes.push(format!(
            "{nowhere} nowhere in {searched}: in flight on a unix socket, registered with \
             io_uring, or open in a process that lsepoll may not inspect"
        ));
    }
    let unsettled = in_state(State::Unsettled);
    if unsettled > 0 {
        let unsettled = count(unsettled, "entry is", "entries are");
        notes.push(format!(
            "{unsettled} unsettled: entries or files kept changing during {rounds} rounds"
        ));
    }
    if !is_narrowed || nowhere > 0 {
        if not_permitted > 0 {
            let missed = count(not_permitted, "process", "processes");
            notes.push(format!(
                "{missed} could not be inspected: this requires root or CAP_SYS_PTRACE"
            ));
        }
        if hidden {
            notes.push("/proc hides processes: it is mounted with hidepid".to_string());
        }
    }
    notes
}

/// A number and its noun.
pub fn count(n: usize, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}
