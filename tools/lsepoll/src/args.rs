// SPDX-License-Identifier: GPL-2.0

//! The command line, and the text of --help and of the manual page.

use crate::process::{Fd, Pid};
use clap::{ColorChoice, CommandFactory, Parser};

/// List the files that epoll instances watch, and where they are open
///
/// An epoll instance records the fd under which a file was added. The fd may be closed by now, or
/// refer to another file; the entry remains as long as the target file is open anywhere.
/// lsepoll asks kcmp(2) which file is behind an entry, and lists each place where it is open.
///
/// Without PID, it lists all epoll instances of all processes that the caller may inspect.
#[derive(Parser)]
#[command(name = "lsepoll", version, max_term_width = 100)]
pub struct Args {
    /// List the epoll instances of these processes only
    ///
    /// States are as seen by the selected process. If several processes have the epoll instance
    /// open, the oldest of those selected counts.
    #[arg(value_name = "PID", value_parser = clap::value_parser!(Pid).range(1..))]
    pub pids: Vec<Pid>,

    /// List the epoll instances of processes with this name only, as in /proc/PID/comm
    ///
    /// The kernel keeps at most 15 characters of a name.
    #[arg(short, long, value_name = "COMM")]
    pub name: Option<String>,

    /// List the epoll instances that are open under this fd only
    #[arg(short, long, value_name = "EFD", value_parser = clap::value_parser!(Fd).range(0..))]
    pub fd: Option<Fd>,

    /// Print only entries that are not in place; exit with 1 if there are any
    #[arg(short, long)]
    pub stale: bool,

    /// Print JSON: one object per epoll instance, each on its own line
    #[arg(short, long)]
    pub json: bool,

    /// When to use colors
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    pub color: ColorChoice,

    /// Print to stderr how much was searched, and the number of kcmp(2) calls
    #[arg(short, long)]
    pub verbose: bool,

    /// Set up processes with entries in all states but unsettled, list them, and check the rows
    #[arg(long, exclusive = true)]
    pub demo: bool,

    /// Print the manual page: lsepoll --man | man -l -
    #[arg(long, exclusive = true)]
    pub man: bool,
}

/// A section of the manual page and of --help: a text, and terms with their meanings.
pub struct Section {
    pub title: &'static str,
    pub text: &'static str,
    pub terms: &'static [(&'static str, &'static str)],
}

pub const SECTIONS: &[Section] = &[
    Section {
        title: "Columns",
        text: "",
        terms: &[
            ("FD", "The fd under which the file was added."),
            (
                "TOFF",
                "How many entries with the same fd precede it in the interest list.",
            ),
            (
                "EVENTS",
                "Events and flags, without the EPOLL prefix. ERR and HUP, which are always \
                 reported, are shown only if no other event was requested. An entry with \
                 EPOLLONESHOT is disarmed after an event.",
            ),
            (
                "DATA",
                "The data that epoll_wait(2) returns with an event, in decimal; from 2^32 on, in \
                 hexadecimal.",
            ),
            ("STATE", "See States."),
            (
                "FILE",
                "The target file: its path, or its name in /proc/PID/fd if it has none, and the \
                 addresses of a socket.",
            ),
            (
                "WHERE",
                "If the target file is not in place: the fds at which it is open. If the fd is \
                 stale: the file to which it refers now. On a terminal, at most four processes \
                 are listed.",
            ),
        ],
    },
    Section {
        title: "States",
        text: "",
        terms: &[
            ("in place", "The fd still refers to the target file."),
            (
                "moved",
                "It does not, but another fd of the same process does.",
            ),
            (
                "elsewhere",
                "Only fds of other processes do, or of a thread with its own fd table.",
            ),
            (
                "nowhere",
                "The target file was not found: it is in flight on a unix socket, registered with \
                 io_uring, or open in a process that the caller may not inspect.",
            ),
            (
                "unsettled",
                "The entry, or a file that might be its target, kept changing while lsepoll \
                 searched.",
            ),
            (
                "stale, ...",
                "In addition, the fd is open, but refers to another file.",
            ),
        ],
    },
    Section {
        title: "JSON",
        text: "With --json, each line is an object that describes one epoll instance. Later \
               versions may add members. They do not remove these:",
        terms: &[
            (
                "holders",
                "The places where the epoll instance is open, an array of objects with pid, tid, \
                 comm and fd. tid differs from pid if the thread has its own fd table. The states \
                 are as seen by the first holder.",
            ),
            (
                "entries",
                "The interest list, an array of objects, sorted by tfd and toff. With --stale, \
                 only entries that are not in place. Members of an entry:",
            ),
            ("entries[].tfd, .toff", "FD and TOFF, as numbers."),
            (
                "entries[].events",
                "All events and flags, an array of names without the EPOLL prefix. Bits without a \
                 name are combined in one hexadecimal string.",
            ),
            (
                "entries[].data",
                "DATA, a hexadecimal string: many JSON parsers limit numbers to 53 bits.",
            ),
            (
                "entries[].state",
                "One of \"in place\", \"moved\", \"elsewhere\", \"nowhere\" and \"unsettled\".",
            ),
            (
                "entries[].file",
                "The target file, an object: name (as in FILE, but not escaped), inode (a number) \
                 and device (a string, major:minor), both from fdinfo.",
            ),
            (
                "entries[].stale",
                "The name of the file to which a stale fd refers; null if the fd is not stale.",
            ),
            (
                "entries[].places",
                "The places where the target file was found, an array like holders. Those in the \
                 fd table of the first holder come first. An entry in place usually has only that \
                 place: the search ends there.",
            ),
            (
                "searched",
                "An object: the number of processes that were searched (processes), the number \
                 of others that the caller may not inspect (not_permitted), and whether /proc \
                 hides processes (hidden).",
            ),
        ],
    },
    Section {
        title: "Exit status",
        text: "",
        terms: &[
            ("0", "Success. With --stale: all entries are in place."),
            (
                "1",
                "With --stale: an entry is moved, elsewhere, nowhere or unsettled.",
            ),
            (
                "2",
                "An error, or a wrong row with --demo. After an error with one PID, the others are \
                 still listed.",
            ),
        ],
    },
    Section {
        title: "Requirements",
        text: "Linux 4.13 or newer with CONFIG_KCMP, and /proc. Processes of the same user can be \
               inspected, unless they have changed their uid, gid or capabilities; others require \
               root or CAP_SYS_PTRACE. lsepoll does not stop the processes. When an entry or a \
               file changes, lsepoll searches again; entries that keep changing are unsettled. \
               A file that running processes keep passing on may be reported as nowhere; stop them \
               to rule this out.",
        terms: &[],
    },
    Section {
        title: "Examples",
        text: "",
        terms: &[
            ("lsepoll --stale", "All entries that are not in place."),
            (
                "lsepoll --name nginx",
                "The epoll instances of all processes named nginx.",
            ),
            (
                "lsepoll --json 4711 | jq '.entries[] | select(.state == \"nowhere\")'",
                "Entries of process 4711 whose target files were not found.",
            ),
        ],
    },
];

/// The command, with the sections appended to --help.
pub fn command() -> clap::Command {
    let mut help = String::new();
    for Section { title, text, terms } in SECTIONS {
        help.push_str(&format!("{title}:\n"));
        if !text.is_empty() {
            help.push_str(&format!("{}\n", indent(text, 2)));
        }
        for (term, meaning) in *terms {
            help.push_str(&format!("  {term}\n{}\n", indent(meaning, 10)));
        }
        help.push('\n');
    }
    Args::command().after_long_help(help.trim_end().to_string())
}

/// Wraps a text, and indents each line.
fn indent(text: &str, spaces: usize) -> String {
    const WIDTH: usize = 80;

    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last().map_or(0, String::len);
        if line > 0 && spaces + line + 1 + word.len() > WIDTH {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    let indented = lines.iter().map(|line| format!("{:spaces$}{line}", ""));
    indented.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn lines_are_broken() {
        assert_eq!(indent("a b", 2), "  a b");
        let text = "word ".repeat(30);
        assert!(indent(&text, 10).lines().all(|line| line.len() <= 80));
        assert_eq!(indent(&text, 10).lines().count(), 3);
    }
}
