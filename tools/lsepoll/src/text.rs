// SPDX-License-Identifier: GPL-2.0

//! The listing as text.

use crate::advice;
use crate::events;
use crate::held::Held;
use crate::instance::State;
use crate::limits;
use crate::process::Place;
use crate::ready::Ready;
use crate::report::{self, Data, Epoll, Line, count};
use anstyle::{AnsiColor, Style};
use clap::ValueEnum;
use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, Table as Layout, presets};
use std::io::{self, Write};

const BOLD: Style = Style::new().bold();

/// A column of the table.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Column {
    Fd,
    Toff,
    Events,
    Ready,
    Data,
    State,
    Inode,
    File,
    Where,
}

impl Column {
    fn title(self) -> &'static str {
        match self {
            Column::Fd => "FD",
            Column::Toff => "TOFF",
            Column::Events => "EVENTS",
            Column::Ready => "READY",
            Column::Data => "DATA",
            Column::State => "STATE",
            Column::Inode => "INODE",
            Column::File => "FILE",
            Column::Where => "WHERE",
        }
    }
}

/// How to print.
#[derive(Clone, Default)]
pub struct Format {
    /// The width of the terminal, if there is one.
    pub width: Option<u16>,
    /// Whether to print all columns.
    pub verbose: bool,
    /// Whether to print the heading only.
    pub summary: bool,
    /// The columns to print. Empty for those that are worth it.
    pub columns: Vec<Column>,
}

impl Format {
    /// The maximum number of fd tables in a cell.
    fn limit(&self) -> usize {
        self.width.map_or(usize::MAX, |_| limits::FEW)
    }

    fn columns(&self, lines: &[&Line]) -> Vec<Column> {
        use Column::*;
        if !self.columns.is_empty() {
            return self.columns.clone();
        }
        let has_toff = self.verbose || lines.iter().any(|line| line.row.entry.toff != 0);
        let is_wide = self.width.is_none_or(|width| width >= limits::NARROW);
        let is_shown = |column: &Column| match column {
            Toff => has_toff,
            Events | Data => is_wide,
            _ => true,
        };
        let all = [Fd, Toff, Events, Ready, Data, State, File, Where];
        all.into_iter().filter(is_shown).collect()
    }
}

/// Prints an epoll file, and these of its entries.
pub fn print(
    epoll: &Epoll,
    lines: &[&Line],
    out: &mut impl Write,
    format: &Format,
) -> io::Result<()> {
    writeln!(out, "{}", heading(epoll, format).trim_fmt())?;
    if lines.is_empty() || format.summary {
        return Ok(());
    }
    writeln!(out, "\n{}", table(epoll, lines, format).trim_fmt())?;
    let causes = advice::causes(lines, epoll);
    if !causes.is_empty() {
        let mut layout = layout(format);
        for cause in causes {
            layout.add_row([cause]);
        }
        no_padding(&mut layout);
        writeln!(out, "\n{}", layout.trim_fmt())?;
    }
    // Not wrapped, to be copied.
    if let Some((heading, command)) = advice::repair(lines, epoll) {
        writeln!(out, "{heading}\n  {command}")?;
    }
    Ok(())
}

/// A table without borders that is no wider than the terminal.
fn layout(format: &Format) -> Layout {
    let mut layout = Layout::new();
    layout.load_preset(presets::NOTHING);
    if let Some(width) = format.width {
        layout.set_content_arrangement(ContentArrangement::Dynamic);
        layout.set_width(width);
    }
    layout
}

fn no_padding(layout: &mut Layout) {
    for column in layout.column_iter_mut() {
        column.set_padding((0, 0));
    }
}

/// "9 entries, 8 stale: 2 moved, 5 elsewhere, 1 nowhere; 3 ready".
fn summary(epoll: &Epoll) -> String {
    let mut summary = count(epoll.lines.len(), "entry", "entries");
    let stale = epoll.count(Line::is_stale);
    if stale > 0 {
        let states = [State::Moved, State::Elsewhere, State::Nowhere];
        let counts = states.map(|state| (epoll.in_state(state), state.name()));
        let counts = counts.iter().filter(|(count, _)| *count > 0);
        let counts: Vec<_> = counts
            .map(|(count, name)| format!("{count} {name}"))
            .collect();
        summary.push_str(&format!(", {stale} stale: {}", counts.join(", ")));
    }
    let unsettled = epoll.in_state(State::Unsettled);
    if unsettled > 0 {
        summary.push_str(&format!("; {unsettled} unsettled"));
    }
    let ready = epoll.count(|line| line.ready.is_ready());
    if ready > 0 {
        summary.push_str(&format!("; {ready} ready"));
    }
    summary
}

fn heading(epoll: &Epoll, format: &Format) -> Layout {
    let (home, others) = (&epoll.holders[0], &epoll.holders[1..]);
    let name = format!("{}, fd {}", report::process(&home.table), home.fd);
    let mut layout = layout(format);
    layout.add_row([format!("{BOLD}{name}{BOLD:#}: {}", summary(epoll))]);
    if !others.is_empty() && !format.summary {
        let others = report::places(others, &home.table, format.limit());
        layout.add_row([format!("also open as {others}")]);
    }
    no_padding(&mut layout);
    layout
}

fn table(epoll: &Epoll, lines: &[&Line], format: &Format) -> Layout {
    let columns = format.columns(lines);
    let mut layout = layout(format);
    layout.set_header(
        columns
            .iter()
            .map(|column| format!("{BOLD}{}{BOLD:#}", column.title())),
    );
    for line in lines {
        layout.add_row(
            columns
                .iter()
                .map(|column| cell(*column, line, epoll, format)),
        );
    }
    let last = columns.len() - 1;
    for (index, (layout, column)) in layout.column_iter_mut().zip(columns).enumerate() {
        layout.set_padding((0, if index == last { 0 } else { 2 }));
        match column {
            Column::Fd | Column::Toff | Column::Data | Column::Inode => {
                layout.set_cell_alignment(CellAlignment::Right);
                layout.set_constraint(ColumnConstraint::ContentWidth);
            }
            Column::Events | Column::Ready => drop(layout.set_delimiter('|')),
            _ => {}
        }
    }
    layout
}

fn cell(column: Column, line: &Line, epoll: &Epoll, format: &Format) -> String {
    let row = &line.row;
    match column {
        Column::Fd => row.entry.tfd.to_string(),
        Column::Toff => row.entry.toff.to_string(),
        Column::Events => events::describe(row.entry.events),
        Column::Ready => ready(line),
        Column::Data => match line.data {
            Data::Fd => format!("fd {}", row.entry.tfd),
            Data::Pointer => format!("*{:#x}", row.entry.data),
            Data::Other => format!("{:#x}", row.entry.data),
        },
        Column::State => {
            let style = style(row.state);
            format!("{style}{}{style:#}", row.state.name())
        }
        Column::Inode => row.entry.inode.to_string(),
        Column::File => line.file.text().to_string(),
        Column::Where => where_is(line, epoll, format.limit()),
    }
}

fn ready(line: &Line) -> String {
    let ready = match line.ready {
        Ready::Unknown => return "?".to_string(),
        Ready::Events(0) => "-".to_string(),
        Ready::Events(events) => events::names(events).join("|"),
    };
    match line.looks {
        Some((count, looks)) => format!("{ready} {count}/{looks}"),
        None => ready,
    }
}

/// Where the target file is, if not at the fd of the entry in the first holder.
fn where_is(line: &Line, epoll: &Epoll, limit: usize) -> String {
    let (row, home) = (&line.row, epoll.home());
    let mut found = Vec::new();
    let is_home = |place: &Place| place.table.tid == home.tid;
    if row.state != State::InPlace || !row.places.iter().any(is_home) {
        let is_found = !row.places.is_empty();
        found.extend(is_found.then(|| report::places(&row.places, home, limit)));
    }
    found.extend(line.held.iter().take(limit).map(|held| match held {
        Held::Syscall(table, tid, name) => format!("{name}() in {}", report::thread(table, *tid)),
        Held::Mapping(table, name) => {
            format!("{name} mapped by {}?", report::process(table))
        }
    }));
    if let Some((place, file)) = &line.reused {
        let owner = match is_home(place) {
            true => String::new(),
            false => format!("{} ", report::process(&place.table)),
        };
        found.push(format!("{owner}fd {} is now {}", place.fd, file.text()));
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
