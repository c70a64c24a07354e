// SPDX-License-Identifier: GPL-2.0

//! Tables as wide as the terminal.

use anstyle::Style;
use std::io::{self, Write};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

const GAP: usize = 2;
/// The least width of a column that is broken into lines.
const NARROW: usize = 16;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Layout {
    Left,
    Right,
    /// Like `Left`, and broken into lines where the table is too wide.
    Broken,
}

pub struct Cell {
    pub text: String,
    pub style: Style,
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Cell {
        Cell {
            text: text.into(),
            style: Style::new(),
        }
    }
}

/// Prints a table with a title above each column, and no line that is longer than `width` if this
/// can be avoided.
pub fn print<const N: usize>(
    out: &mut impl Write,
    columns: &[(&str, Layout); N],
    rows: &[[Cell; N]],
    width: Option<usize>,
) -> io::Result<()> {
    let mut widths = columns.map(|(title, _)| title.width());
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.text.width().max(*width);
        }
    }
    if let Some(width) = width {
        shrink(&mut widths, columns, width);
    }

    let titles = columns.map(|(title, _)| Cell {
        text: title.to_string(),
        style: Style::new().bold(),
    });
    for row in [&titles].into_iter().chain(rows) {
        print_row(out, row, columns, &widths)?;
    }
    Ok(())
}

/// Takes from the widest column that may be broken until the table fits.
fn shrink<const N: usize>(widths: &mut [usize; N], columns: &[(&str, Layout); N], width: usize) {
    let mut excess = (widths.iter().sum::<usize>() + GAP * (N - 1)).saturating_sub(width);
    while excess > 0 {
        let breakable = widths.iter_mut().zip(columns);
        let breakable = breakable.filter(|(_, (_, layout))| *layout == Layout::Broken);
        match breakable.map(|(width, _)| width).max() {
            Some(widest) if *widest > NARROW => *widest -= 1,
            _ => return,
        }
        excess -= 1;
    }
}

fn print_row<const N: usize>(
    out: &mut impl Write,
    row: &[Cell; N],
    columns: &[(&str, Layout); N],
    widths: &[usize; N],
) -> io::Result<()> {
    let mut lines: Vec<Vec<&str>> = Vec::new();
    for (cell, ((_, layout), width)) in row.iter().zip(columns.iter().zip(widths)) {
        lines.push(match layout {
            Layout::Broken => break_lines(&cell.text, *width),
            Layout::Left | Layout::Right => vec![&cell.text],
        });
    }
    for n in 0..lines.iter().map(Vec::len).max().unwrap_or(0) {
        // Spaces are printed when something follows them: no line ends with any.
        let mut spaces = 0;
        for i in 0..N {
            let text = lines[i].get(n).copied().unwrap_or_default();
            let padding = widths[i].saturating_sub(text.width());
            let (before, after) = match columns[i].1 {
                Layout::Right => (padding, 0),
                Layout::Left | Layout::Broken => (0, padding),
            };
            if text.is_empty() {
                spaces += padding;
            } else {
                let style = row[i].style;
                let before = spaces + before;
                write!(out, "{:before$}{style}{text}{style:#}", "")?;
                spaces = after;
            }
            spaces += GAP;
        }
        writeln!(out)?;
    }
    Ok(())
}

/// Breaks a text into lines, at spaces where there are any.
fn break_lines(text: &str, width: usize) -> Vec<&str> {
    let mut lines = Vec::new();
    let mut rest = text;
    while rest.width() > width {
        let mut fits = 0;
        let mut used = 0;
        for (at, c) in rest.char_indices() {
            used += c.width().unwrap_or(0);
            if used > width {
                break;
            }
            fits = at + c.len_utf8();
        }
        // One character at least, however wide.
        fits = fits.max(rest.chars().next().map_or(0, char::len_utf8));
        let fits = match rest[..fits].rfind(' ') {
            // A space that happens to follow is as good.
            _ if rest[fits..].starts_with(' ') => fits,
            Some(space) if space > 0 => space,
            _ => fits,
        };
        lines.push(&rest[..fits]);
        rest = rest[fits..].trim_start();
    }
    if !rest.is_empty() || lines.is_empty() {
        lines.push(rest);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [(&str, Layout); 3] = [
        ("N", Layout::Right),
        ("STATE", Layout::Left),
        ("WHERE", Layout::Broken),
    ];

    fn render(rows: &[[&str; 3]], width: Option<usize>) -> String {
        let rows: Vec<_> = rows.iter().map(|row| row.map(Cell::from)).collect();
        let mut out = Vec::new();
        print(&mut out, &COLUMNS, &rows, width).unwrap();
        anstream::adapter::strip_str(std::str::from_utf8(&out).unwrap()).to_string()
    }

    #[test]
    fn as_wide_as_needed() {
        let rows = [["5", "a", ""], ["100", "", "fd 7"]];
        let expected = "  N  STATE  WHERE\n  5  a\n100         fd 7\n";
        assert_eq!(render(&rows, None), expected);
        assert_eq!(render(&rows, Some(80)), expected);
    }

    #[test]
    fn broken_at_spaces() {
        let rows = [["5", "a", "pid 4711 (server) fd 10, pid 4712 (server) fd 10"]];
        let expected = "N  STATE  WHERE\n\
            5  a      pid 4711 (server) fd\n\
            \u{20}         10, pid 4712\n\
            \u{20}         (server) fd 10\n";
        assert_eq!(render(&rows, Some(30)), expected);
    }

    #[test]
    fn broken_anywhere() {
        assert_eq!(break_lines("abcdefgh", 3), ["abc", "def", "gh"]);
        assert_eq!(break_lines("abc def", 3), ["abc", "def"]);
        assert_eq!(break_lines("日本語", 4), ["日本", "語"]);
        assert_eq!(break_lines("日本", 1), ["日", "本"]);
        assert_eq!(break_lines("", 3), [""]);
    }
}
