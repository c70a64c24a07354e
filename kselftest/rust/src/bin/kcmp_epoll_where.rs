// SPDX-License-Identifier: GPL-2.0

//! Tells where the files that an epoll set watches really are.

use kcmp_epoll::*;
use lexopt::prelude::*;
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::os::fd::RawFd;
use std::process::ExitCode;

const HELP: &str = "\
Tell where the files that an epoll set watches really are.

The number that an epoll set knows a file by may have been closed since, or used
for another file. kcmp(2) tells whether a file of a process is the one behind an
entry of the set.

Usage:
  kcmp_epoll_where PID EFD [OTHER_PID...]
      Look for the files behind epoll file EFD of process PID, in that process
      and in the others.
  kcmp_epoll_where --story
      Set up processes in which hardly any file is where its number says, find
      all files, and check the answers.
";

/// An entry of the set, and where its file was found.
struct Entry {
    listed: Listed,
    toff: u32,
    found: Option<FileOf>,
}

/// For each entry that fdinfo lists, searches the files of `pids` for the one behind it.
fn locate(epoll: FileOf, pids: &[Pid]) -> io::Result<Vec<Entry>> {
    let mut files = Vec::new();
    for &pid in pids {
        files.extend(list_files(pid)?.into_iter().map(|fd| FileOf { pid, fd }));
    }

    let mut next_toff = BTreeMap::new();
    let mut entries = Vec::new();
    for listed in list_targets(epoll)? {
        let tfd = listed.tfd;
        let toff = next_toff.entry(tfd).or_insert(0);
        let target = TargetOf {
            epoll,
            tfd,
            toff: *toff,
        };

        // Most often, the file is where it was added.
        let mut found = None;
        let home = FileOf {
            pid: epoll.pid,
            fd: tfd,
        };
        for &file in files.iter().filter(|f| **f == home).chain(&files) {
            match kcmp_target(file, target) {
                Ok(Verdict::Equal) => {
                    found = Some(file);
                    break;
                }
                Ok(_) => {}
                // Closed since it was listed.
                Err(e) if e.raw_os_error() == Some(libc::EBADF) => {}
                Err(e) => return Err(e),
            }
        }
        entries.push(Entry {
            listed,
            toff: *toff,
            found,
        });
        *toff += 1;
    }
    Ok(entries)
}

struct Place<'a>(Option<FileOf>, &'a BTreeMap<Pid, &'static str>);

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self.0 {
            None => "in no searched process".to_string(),
            Some(FileOf { pid, fd }) => match self.1.get(&pid) {
                Some(name) => format!("pid {pid} ({name}), fd {fd}"),
                None => format!("pid {pid}, fd {fd}"),
            },
        };
        f.pad(&text)
    }
}

fn search(epoll: FileOf, pids: &[Pid]) -> io::Result<()> {
    let names = BTreeMap::new();

    println!("{:>6} {:>5}  file is", "tfd", "toff");
    for entry in locate(epoll, pids)? {
        println!(
            "{:>6} {:>5}  {}",
            entry.listed.tfd,
            entry.toff,
            Place(entry.found, &names)
        );
    }
    Ok(())
}

/// What each target of the story is, by the data that it carries.
const STORY: [&str; 9] = [
    "still where it was added",
    "number closed, alive as a dup",
    "number closed, alive in the server's child only",
    "received over a unix socket, closed",
    "received over a unix socket, closed",
    "received over a unix socket, closed",
    "received over a unix socket, closed",
    "number closed, alive as a dup under a used number",
    "number closed, sent over a unix socket, not received",
];

/// Numbers that the story chooses itself.
const EPOLL: RawFd = 50;
const KEPT: RawFd = 60;
const DUPPED: RawFd = 61;
const DUP: RawFd = 161;
const IN_CHILD: RawFd = 62;
const REUSED: RawFd = 70;
const REUSED_DUP: RawFd = 170;
const IN_FLIGHT: RawFd = 80;
const MAILBOX: [RawFd; 2] = [90, 91];
const CLIENTS: RawFd = 100;
const RECEIVED: usize = 4;

/// Puts a new file at a number of choice, and adds it.
fn add(fd: RawFd, at: RawFd, data: u64) -> io::Result<()> {
    place(fd, at)?;
    epoll_ctl(EPOLL, libc::EPOLL_CTL_ADD, at, libc::EPOLLIN, data)
}

/// Forks a process that does its part, and keeps its files.
fn play(name: &str, part: impl FnOnce() -> io::Result<()>) -> io::Result<Pid> {
    fork(|| {
        part()
            .and_then(|()| sleep_until_killed())
            .unwrap_or_else(|e| {
                eprintln!("{name}: {e}");
                1
            })
    })
}

/// The client: connects to the server RECEIVED times, that is, sends it one end of a pair and keeps
/// both. Its files are CLIENTS, CLIENTS + 1, and so on.
fn client(channel: RawFd) -> io::Result<()> {
    for i in 0..RECEIVED as RawFd {
        let [ours, theirs] = socketpair(libc::SOCK_STREAM)?;
        place(theirs, CLIENTS + i)?;
        send_file(channel, CLIENTS + i)?;
        place(ours, CLIENTS + 50 + i)?;
    }
    Ok(())
}

/// The server: fills the set, and ends up with hardly any of its files.
///
/// Returns the pid of its child.
fn server(channel: RawFd) -> io::Result<Pid> {
    place(epoll_create()?, EPOLL)?;

    add(eventfd()?, KEPT, 0)?;

    add(eventfd()?, DUPPED, 1)?;
    dup2(DUPPED, DUP)?;
    close(DUPPED)?;

    add(eventfd()?, IN_CHILD, 2)?;

    // The client's sockets all get the same number, one after the other.
    for i in 0..RECEIVED as u64 {
        add(receive_file(channel)?, REUSED, 3 + i)?;
        close(REUSED)?;
    }
    add(eventfd()?, REUSED, 7)?;
    dup2(REUSED, REUSED_DUP)?;
    // Used once more, by a file that is not in the set.
    place(eventfd()?, REUSED)?;

    add(eventfd()?, IN_FLIGHT, 8)?;
    place_pair(libc::SOCK_STREAM, MAILBOX)?;
    send_file(MAILBOX[0], IN_FLIGHT)?;
    close(IN_FLIGHT)?;

    let child = play("child", || Ok(()))?;
    close(IN_CHILD)?;
    Ok(child)
}

fn story() -> io::Result<ExitCode> {
    let [to_server, to_client] = socketpair(libc::SOCK_STREAM)?;
    let client_pid = play("client", || client(to_server))?;
    // Only the client has this end, and only the server that of the next pair: whoever waits for
    // one that fails is told so.
    close(to_server)?;
    let [ours, theirs] = socketpair(libc::SOCK_SEQPACKET)?;
    let server_pid = play("server", || {
        send_words(theirs, &[server(to_client)? as u64])
    })?;
    close(theirs)?;
    let [child_pid] = receive_words(ours)?;
    let child_pid = child_pid as Pid;

    let at = |pid, fd| Some(FileOf { pid, fd });
    let expected = [
        at(server_pid, KEPT),
        at(server_pid, DUP),
        at(child_pid, IN_CHILD),
        at(client_pid, CLIENTS),
        at(client_pid, CLIENTS + 1),
        at(client_pid, CLIENTS + 2),
        at(client_pid, CLIENTS + 3),
        at(server_pid, REUSED_DUP),
        None,
    ];
    let names = BTreeMap::from([
        (server_pid, "server"),
        (child_pid, "its child"),
        (client_pid, "client"),
    ]);

    let epoll = FileOf {
        pid: server_pid,
        fd: EPOLL,
    };
    println!("The epoll set of the server, pid {server_pid}, fd {EPOLL}:\n");
    println!(
        "{:>4} {:>4}  {:<30}  what was done to it",
        "tfd", "toff", "the file is at"
    );
    let mut seen = [0; STORY.len()];
    let mut wrong = 0;
    for entry in locate(epoll, &[server_pid, child_pid, client_pid])? {
        let data = entry.listed.data as usize;
        seen[data] += 1;
        println!(
            "{:>4} {:>4}  {:<30}  {}",
            entry.listed.tfd,
            entry.toff,
            Place(entry.found, &names),
            STORY[data]
        );
        if entry.found != expected[data] {
            println!("     WRONG: it is at {}", Place(expected[data], &names));
            wrong += 1;
        }
    }
    wrong += seen.iter().filter(|count| **count != 1).count();

    // The child of the server ends with it, too.
    for pid in [client_pid, child_pid, server_pid] {
        kill(pid)?;
    }
    println!("\n{} targets, {} wrong or not listed.", STORY.len(), wrong);
    Ok(ExitCode::from(u8::from(wrong > 0)))
}

enum Command {
    Search(FileOf, Vec<Pid>),
    Story,
}

fn parse_args(parser: &mut lexopt::Parser) -> Result<Command, lexopt::Error> {
    let mut numbers = Vec::new();
    while let Some(arg) = parser.next()? {
        match arg {
            Long("story") => return Ok(Command::Story),
            Value(number) => numbers.push(number.parse()?),
            _ => return Err(arg.unexpected()),
        }
    }
    match numbers[..] {
        [pid, fd, ref others @ ..] => {
            let pids = [&[pid], others].concat();
            Ok(Command::Search(FileOf { pid, fd }, pids))
        }
        _ => Err("PID and EFD are missing: see --help".into()),
    }
}

fn main() -> ExitCode {
    start(HELP, parse_args, |command| match command {
        Command::Search(epoll, pids) => {
            search(epoll, &pids)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Story => Ok(story()?),
    })
}
