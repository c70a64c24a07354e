// SPDX-License-Identifier: GPL-2.0

//! The command line, and the text of --help and of the manual page.

use crate::instance::State;
use crate::process::{Fd, Pid};
use crate::text::Column;
use clap::{ColorChoice, CommandFactory, Parser};
use clap_complete::Shell;
use std::ffi::OsString;

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
    #[arg(value_name = "PID", value_parser = pid)]
    pub pids: Vec<Pid>,

    /// List the epoll instances of processes with this name only
    ///
    /// The name of the main thread, as in /proc/PID/comm, of the executable, or in argv[0].
    #[arg(short, long, value_name = "NAME")]
    pub name: Option<OsString>,

    /// List the epoll instances that are open under this fd only
    #[arg(short, long, value_name = "EFD", value_parser = clap::value_parser!(Fd).range(0..))]
    pub fd: Option<Fd>,

    /// Print only entries that are stale or unsettled; exit with 1 if any is stale
    #[arg(short, long)]
    pub stale: bool,

    /// Print only entries whose target file is ready now; exit with 1 if there are any
    ///
    /// Looks 10 times in 200 ms. READY says in how many of these looks the file was ready: if in
    /// all, the entry keeps an event loop spinning, unless it is edge-triggered (ET).
    #[arg(short, long)]
    pub ready: bool,

    /// Print only entries in these states, separated by commas
    #[arg(long, value_name = "STATES", value_delimiter = ',')]
    pub state: Vec<State>,

    /// Print only entries whose FILE contains this text
    #[arg(long, value_name = "TEXT")]
    pub file: Option<String>,

    /// Print only epoll instances with at least this number of entries
    #[arg(
        long,
        value_name = "NUMBER",
        default_value = "0",
        hide_default_value = true
    )]
    pub min_entries: usize,

    /// Print one line for each epoll instance: the heading
    #[arg(long, conflicts_with = "json")]
    pub summary: bool,

    /// Print these columns, separated by commas
    #[arg(
        short,
        long,
        value_name = "COLUMNS",
        value_delimiter = ',',
        ignore_case = true,
        conflicts_with_all = ["json", "summary"]
    )]
    pub output: Vec<Column>,

    /// Print JSON: one object per epoll instance, and a summary, each on its own line
    #[arg(short, long)]
    pub json: bool,

    /// End after this time: entries that are not settled by then are unsettled
    #[arg(short, long, value_name = "SECONDS", value_parser = seconds)]
    pub timeout: Option<f64>,

    /// When to use colors
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    pub color: ColorChoice,

    /// Print to stderr how much was searched, and the number of kcmp(2) calls
    #[arg(short, long)]
    pub verbose: bool,

    /// Set up processes with entries in all states but unsettled, list them, and check the rows
    #[arg(long, exclusive = true)]
    pub demo: bool,

    /// Print completions for a shell
    #[arg(long, value_name = "SHELL", exclusive = true)]
    pub completions: Option<Shell>,

    /// Print the manual page: lsepoll --man | man -l -
    #[arg(long, exclusive = true)]
    pub man: bool,
}

fn pid(text: &str) -> Result<Pid, String> {
    match text.parse() {
        Ok(pid) if pid > 0 => Ok(pid),
        Ok(pid) => Err(format!("{pid} is not in 1..")),
        Err(_) => Err(format!("not a PID: to select by name, use --name {text}")),
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number".to_string())?;
    // Instants do not reach much further.
    match (0.0..=1e9).contains(&seconds) {
        true => Ok(seconds),
        false => Err("not in 0..=1e9".to_string()),
    }
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
                "How many entries with the same fd precede it in the interest list. Shown if it is \
                 not 0 for all entries, or with --verbose.",
            ),
            (
                "EVENTS",
                "Events and flags, without the EPOLL prefix. ERR and HUP, which are always \
                 reported, are shown only if no other event was requested. An entry with \
                 EPOLLONESHOT is disarmed after an event.",
            ),
            (
                "READY",
                "Which of these events the target file has now; - for none. lsepoll fetches the \
                 file by pidfd_getfd(2), and polls it without waiting, which consumes no event. \
                 ? if this is not possible: the file is nowhere, or the kernel is older than 5.6. \
                 With --ready, in how many of how many looks.",
            ),
            (
                "DATA",
                "The data that epoll_wait(2) returns with an event, in hexadecimal. After an \
                 asterisk, it is the address of memory of the process. After fd, it is the fd, in \
                 its low 32 bits.",
            ),
            ("STATE", "See States."),
            (
                "INODE",
                "The inode of the target file, as in fdinfo. Shown only with --output.",
            ),
            (
                "FILE",
                "The target file: its path, the protocol, addresses, state and peer of a socket, or \
                 its name in /proc/PID/fd, and what fdinfo tells.",
            ),
            (
                "WHERE",
                "Where the target file is open, unless it is in place in the process of the \
                 heading; what else seems to hold it; and to which file the fd refers now, if it \
                 was reused. On a terminal, at most four processes are listed.",
            ),
        ],
    },
    Section {
        title: "States",
        text: "Several processes may have an epoll instance open, such as the workers of a server. \
               The state of an entry is the same whichever of them is selected. An entry that is \
               moved, elsewhere or nowhere is stale: no process can remove it by EPOLL_CTL_DEL.",
        terms: &[
            (
                "in place",
                "In a process that has the epoll instance open, the fd refers to the target file.",
            ),
            (
                "moved",
                "It does not in any of them, but another fd of such a process does.",
            ),
            (
                "elsewhere",
                "Only fds of processes do that do not have the epoll instance open.",
            ),
            (
                "nowhere",
                "No fd that was found does. Something else holds the file: a message in flight on \
                 a unix socket, io_uring, a system call in progress, a mapping, or anything else \
                 in the kernel; or a process that the caller may not inspect.",
            ),
            (
                "unsettled",
                "The entry, or a file that could be its target, kept changing while lsepoll \
                 searched; or the search ended early.",
            ),
        ],
    },
    Section {
        title: "Causes and cures",
        text: "Below the table, a line for each cause says which fds it explains, and what to do \
               about it. The last line is a command that removes the first stale entry from the \
               live process: gdb brings the file back to its fd, calls EPOLL_CTL_DEL, and restores \
               the fd. It needs the symbols of dup2() and epoll_ctl(), which a stripped static \
               program lacks. Another way to remove an entry does not exist, but to close all fds \
               of the file, or of the epoll instance.",
        terms: &[],
    },
    Section {
        title: "JSON",
        text: "With --json, each line is an object: one for each epoll instance, with holders and \
               entries, and a last one with a summary. Names that are not UTF-8 are arrays of \
               bytes. Later versions may add members. They do not remove these:",
        terms: &[
            (
                "holders",
                "The places where the epoll instance is open, an array of objects with pid, tid, \
                 comm and fd: the oldest of the selected processes first. tid differs from pid if \
                 the thread has its own fd table.",
            ),
            (
                "entries",
                "The interest list, an array of objects, sorted by tfd and toff. With --stale, \
                 --ready, --state or --file, only the entries that these select; instances \
                 without any are left out. Members of an entry:",
            ),
            ("entries[].tfd, .toff", "FD and TOFF, as numbers."),
            (
                "entries[].events",
                "All events and flags, an array of names without the EPOLL prefix. Bits without a \
                 name are combined in one hexadecimal string.",
            ),
            (
                "entries[].ready, .looks",
                "READY, an array like events; null if it is not known. With --ready, looks is an \
                 array of two numbers: in how many of how many looks; else null.",
            ),
            (
                "entries[].data, .data_is",
                "DATA, a hexadecimal string: many JSON parsers limit numbers to 53 bits. data_is \
                 is \"fd\", \"pointer\" or null.",
            ),
            (
                "entries[].state, .stale",
                "One of \"in place\", \"moved\", \"elsewhere\", \"nowhere\" and \"unsettled\"; and \
                 whether the entry is stale.",
            ),
            (
                "entries[].file",
                "The target file, an object: name (as in FILE, but not escaped); kind, such as \
                 socket, eventfd or path; path, and whether it was removed (deleted); protocol, \
                 local, remote and state of a socket; peers, the processes at the other end of a \
                 unix socket, an array of objects with pid and comm; details, an object with what \
                 fdinfo tells; inode (a number) and device (a string, major:minor). What does not \
                 apply is null.",
            ),
            (
                "entries[].reused",
                "If the fd of a stale entry refers to another file: an object like a holder, with \
                 that file; else null.",
            ),
            (
                "entries[].places",
                "The places where the target file was found, an array like holders. An entry in \
                 place usually has only that place: the search ends there.",
            ),
            (
                "entries[].held_by",
                "What else seems to hold a file that is nowhere: an array of objects with pid, tid \
                 and comm, and with syscall (a name) or mapping (the name of the file), the other \
                 of which is null.",
            ),
            (
                "advice",
                "The lines below the table: causes, cures and how to repair by hand, an array of \
                 strings.",
            ),
            (
                "summary",
                "An object: the number of epoll instances (instances), and of their entries \
                 (entries, stale, unsettled, ready), filtered or not; whether all that was selected was \
                 looked at (complete); the number of processes that were searched (processes), \
                 the pids of others that the caller may not inspect (not_inspected), and whether \
                 /proc hides processes (hidden); error messages (errors), and the exit status \
                 (status).",
            ),
        ],
    },
    Section {
        title: "Exit status",
        text: "If several apply, the first of 130, 2, 1 and 3.",
        terms: &[
            ("0", "Success. With --stale: no entry is stale."),
            (
                "1",
                "With --stale: an entry is stale. With --ready: one is ready. With both: one is \
                 both.",
            ),
            (
                "2",
                "An error, such as a PID or a name that no process has, a PID that may not be \
                 inspected, a process that ends during the search, or a wrong row with --demo. \
                 After an error with one PID, the others are still listed.",
            ),
            (
                "3",
                "Incomplete: a process that is selected by --name, or because no PID is given, \
                 could not be inspected; an entry is unsettled; or one is nowhere and may be open in a \
                 process that could not be inspected.",
            ),
            (
                "130",
                "Interrupted by SIGINT, after printing what is known.",
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
        title: "Cost",
        text: "Reading the interest list, and each kcmp(2) call, locks the epoll instance: \
               epoll_ctl(2) and epoll_wait(2) of the process wait meanwhile. On many kernels, a \
               call takes longer the more entries the instance has: about 1 ms for 20,000. Sockets \
               need no call, as their inodes identify them; an eventfd in place needs one. Use \
               --timeout on a busy server with a long list.",
        terms: &[],
    },
    Section {
        title: "Examples",
        text: "",
        terms: &[
            ("lsepoll --stale", "All stale entries."),
            (
                "lsepoll --ready 4711",
                "The entries that keep an event loop at 100 % CPU.",
            ),
            (
                "lsepoll --name nginx",
                "The epoll instances of all processes named nginx.",
            ),
            (
                "lsepoll --json 4711 | jq '.entries[]? | select(.state == \"nowhere\")'",
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
