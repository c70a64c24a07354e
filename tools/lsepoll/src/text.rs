// SPDX-License-Identifier: GPL-2.0

//! The listing as text.

use crate::events;
use crate::held::Held;
use crate::instance::State;
use crate::limits;
use crate::name::printable;
use crate::process::{Place, Table};
use crate::ready::Ready;
use crate::report::{Data, Epoll, Line};
use anstyle::{AnsiColor, Style};
use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, Table as Layout, presets};
use std::io::{self, Write};

const BOLD: Style = Style::new().bold();

/// How to print.
#[derive(Clone, Copy, Default)]
pub struct Format {
    /// The width of the terminal, if there is one.
    pub width: Option<u16>,
    /// Whether to print all columns.
    pub verbose: bool,
    /// Whether to leave out entries that are not stale.
    pub stale: bool,
}

impl Format {
    pub fn shows(&self, line: &Line) -> bool {
        !self.stale || line.is_stale() || line.row.state == State::Unsettled
    }

    /// The maximum number of fd tables in a cell.
    fn limit(&self) -> usize {
        self.width.map_or(usize::MAX, |_| limits::FEW)
    }
}

/// Prints an epoll file.
pub fn print(epoll: &Epoll, out: &mut impl Write, format: Format) -> io::Result<()> {
    writeln!(out, "{}", heading(epoll, format).trim_fmt())?;
    let lines: Vec<_> = (epoll.lines.iter())
        .filter(|line| format.shows(line))
        .collect();
    if !lines.is_empty() {
        writeln!(out, "\n{}", table(epoll, &lines, format).trim_fmt())?;
    }
    Ok(())
}

/// A table without borders that is no wider than the terminal.
fn layout(format: Format) -> Layout {
    let mut layout = Layout::new();
    layout.load_preset(presets::NOTHING);
    if let Some(width) = format.width {
        layout.set_content_arrangement(ContentArrangement::Dynamic);
        layout.set_width(width);
    }
    layout
}

/// "9 entries, 8 stale: 2 moved, 5 elsewhere, 1 nowhere".
fn summary(epoll: &Epoll) -> String {
    let mut summary = count(epoll.lines.len(), "entry", "entries");
    let stale = epoll.count(Line::is_stale);
    if stale > 0 {
        let states = [State::Moved, State::Elsewhere, State::Nowhere];
        let counts = states.map(|state| (epoll.in_state(state), state));
        let counts = counts.iter().filter(|(count, _)| *count > 0);
        let counts: Vec<_> = counts
            .map(|(count, state)| format!("{count} {}", state.name()))
            .collect();
        summary.push_str(&format!(", {stale} stale: {}", counts.join(", ")));
    }
    let unsettled = epoll.in_state(State::Unsettled);
    if unsettled > 0 {
        summary.push_str(&format!(", {unsettled} unsettled"));
    }
    summary
}

fn heading(epoll: &Epoll, format: Format) -> Layout {
    let (home, others) = (&epoll.holders[0], &epoll.holders[1..]);
    let name = format!("{}, fd {}", process(&home.table), home.fd);
    let mut layout = layout(format);
    layout.add_row([format!("{BOLD}{name}{BOLD:#}: {}", summary(epoll))]);
    if !others.is_empty() {
        let others = places(others, &home.table, format.limit());
        layout.add_row([format!("also open as {others}")]);
    }
    for column in layout.column_iter_mut() {
        column.set_padding((0, 0));
    }
    layout
}

fn table(epoll: &Epoll, lines: &[&Line], format: Format) -> Layout {
    let has_toff = format.verbose || lines.iter().any(|line| line.row.entry.toff != 0);
    let columns = [
        "FD", "TOFF", "EVENTS", "READY", "DATA", "STATE", "FILE", "WHERE",
    ];
    let is_shown = |title: &str| title != "TOFF" || has_toff;
    let titles: Vec<_> = columns
        .into_iter()
        .filter(|title| is_shown(title))
        .collect();
    let mut layout = layout(format);
    layout.set_header(titles.iter().map(|title| format!("{BOLD}{title}{BOLD:#}")));
    for line in lines {
        layout.add_row(titles.iter().map(|title| cell(title, line, epoll, format)));
    }
    for (column, title) in layout.column_iter_mut().zip(titles) {
        column.set_padding((0, if title == "WHERE" { 0 } else { 2 }));
        match title {
            "FD" | "TOFF" | "DATA" => {
                column.set_cell_alignment(CellAlignment::Right);
                column.set_constraint(ColumnConstraint::ContentWidth);
            }
            "EVENTS" | "READY" => drop(column.set_delimiter('|')),
            _ => {}
        }
    }
    layout
}

fn cell(title: &str, line: &Line, epoll: &Epoll, format: Format) -> String {
    let row = &line.row;
    match title {
        "FD" => row.entry.tfd.to_string(),
        "TOFF" => row.entry.toff.to_string(),
        "EVENTS" => events::describe(row.entry.events),
        "READY" => match line.ready {
            Ready::Unknown => "?".to_string(),
            Ready::Events(0) => "-".to_string(),
            Ready::Events(events) => events::names(events).join("|"),
        },
        "DATA" => match line.data {
            Data::Fd => format!("fd {}", row.entry.data),
            Data::Pointer => format!("*{:#x}", row.entry.data),
            Data::Other => format!("{:#x}", row.entry.data),
        },
        "STATE" => {
            let style = style(row.state);
            format!("{style}{}{style:#}", row.state.name())
        }
        "FILE" => printable(&row.file),
        _ => where_is(line, epoll, format.limit()),
    }
}

/// Where the target file is, if not at the fd of the entry in the first holder.
fn where_is(line: &Line, epoll: &Epoll, limit: usize) -> String {
    let (row, home) = (&line.row, epoll.home());
    let mut found = Vec::new();
    let is_home = |place: &Place| place.table.tid == home.tid;
    if row.state != State::InPlace || !row.places.iter().any(is_home) {
        found.extend((!row.places.is_empty()).then(|| places(&row.places, home, limit)));
    }
    found.extend(line.held.iter().take(limit).map(|held| match held {
        Held::Syscall(table, tid, name) => format!("{name}() in {}", thread(table, *tid)),
        Held::Mapping(table, name) => {
            format!("{} mapped by {}?", printable(name), process(table))
        }
    }));
    if let Some((place, name)) = &row.reused {
        let owner = match is_home(place) {
            true => String::new(),
            false => format!("{} ", process(&place.table)),
        };
        found.push(format!("{owner}fd {} is now {}", place.fd, printable(name)));
    }
    found.join("; ")
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

pub fn process(table: &Table) -> String {
    thread(table, table.tid)
}

fn thread(table: &Table, tid: i32) -> String {
    let (pid, comm) = (table.pid, printable(&table.comm));
    if tid == pid {
        format!("pid {pid} ({comm})")
    } else {
        format!("pid {pid} tid {tid} ({comm})")
    }
}

/// Formats places, with the process unless the fd table is `home`.
pub fn places(places: &[Place], home: &Table, limit: usize) -> String {
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

/// A number and its noun.
pub fn count(n: usize, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}
