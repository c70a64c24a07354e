// SPDX-License-Identifier: GPL-2.0

//! The cases in which people start lsepoll, and the lines that name cause and cure.

use crate::lsepoll::{advice, run};
use crate::process::{Fd, Pid};
use crate::scene::{self, Actor};
use crate::schema;
use crate::shared;
use crate::tap::{Outcome, contains, same, skip};
use crate::ways::{A, B, C, D, EPOLL, add_eventfd, create, inherited_file, move_file, moved_file};
use std::error::Error;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

const OUT: u32 = libc::EPOLLOUT as u32;

/// A server that waits for events of a connection, which its peer ends, by FIN or by RST.
fn ended(by_reset: bool, events: u32) -> io::Result<Actor> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let client = TcpStream::connect(address)?;
    let server = listener.accept()?.0;
    let actor = Actor::start("way", || {
        create()?;
        scene::place(server.as_raw_fd(), A)?;
        scene::close(client.as_raw_fd())?;
        scene::epoll_ctl(EPOLL, libc::EPOLL_CTL_ADD, A, events, A as u64)?;
        Ok(0)
    })?;
    if by_reset {
        let linger = libc::linger {
            l_onoff: 1,
            l_linger: 0,
        };
        let size = size_of_val(&linger) as libc::socklen_t;
        // SAFETY: `linger` is valid for reading `size` bytes.
        scene::cvt(unsafe {
            let option = (&raw const linger).cast();
            libc::setsockopt(
                client.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_LINGER,
                option,
                size,
            )
        })?;
    }
    drop(client);
    let mut poll = libc::pollfd {
        fd: server.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: `poll` is valid for the duration of the call.
    scene::cvt(unsafe { libc::poll(&mut poll, 1, -1) })?;
    Ok(actor)
}

/// Expects an entry that is ready in each look, and the state of its socket.
fn spins(actor: &Actor, ready: &str, state: &str, cure: &str) -> Outcome {
    let pid = actor.pid.to_string();
    let ran = run(&["--ready", &pid])?;
    same(ran.status, Some(1))?;
    contains(&ran.out, &format!("{state}\n"))?;
    let line = format!(
        "fd 60: ready ({ready}) in 10 of 10 looks, so epoll_wait(2) returns at once: {cure}"
    );
    same(advice(&ran.out), vec![line.as_str()])
}

pub fn spin_after_fin() -> Outcome {
    let Ok(way) = ended(false, libc::EPOLLIN as u32) else {
        return skip("no TCP");
    };
    let cure = "the peer has sent FIN. Read until read(2) returns 0, then close it";
    spins(&way, "IN", " CLOSE_WAIT", cure)?;
    // FIN is not why this one spins.
    let cure = "request OUT only while there is something to write";
    spins(&ended(false, OUT)?, "OUT", " CLOSE_WAIT", cure)
}

pub fn spin_after_reset() -> Outcome {
    let Ok(way) = ended(true, libc::EPOLLIN as u32) else {
        return skip("no TCP");
    };
    spins(
        &way,
        "IN|ERR|HUP",
        " CLOSE",
        "the connection is gone. Close it",
    )
}

pub fn spin_before_connect() -> Outcome {
    // SAFETY: No memory is involved.
    let Ok(socket) = scene::cvt(unsafe { libc::socket(libc::AF_INET, libc::SOCK_STREAM, 0) })
    else {
        return skip("no TCP");
    };
    let way = Actor::start("way", || {
        create()?;
        scene::place(socket, A)?;
        scene::add(EPOLL, A, 0)?;
        Ok(0)
    });
    scene::close(socket)?;
    let cure = "it is not connected: add it after connect(2)";
    spins(&way?, "HUP", " CLOSE", cure)
}

/// The only line of advice that begins like this.
fn line<'a>(out: &'a str, start: &str) -> Result<&'a str, Box<dyn Error>> {
    let lines = advice(out);
    let mut found = lines.into_iter().filter(|line| line.starts_with(start));
    match (found.next(), found.next()) {
        (Some(line), None) => Ok(line),
        _ => Err(format!("not one line {start:?} in {out}").into()),
    }
}

pub fn inherited() -> Outcome {
    let way = inherited_file()?;
    let out = run(&[&way.pid.to_string()])?.out;
    let line = line(&out, "fd 60")?;
    let (start, end) = line.split_once(" s ago").ok_or(line)?;
    let start = start.trim_end_matches(|c: char| c.is_ascii_digit());
    same(
        (start, end),
        (
            &*format!(
                "fd 60: inherited by pid {} (child) fd 60, started ",
                way.told
            ),
            ", then closed here: set close-on-exec, or call EPOLL_CTL_DEL before close(2)",
        ),
    )
}

pub fn duplicated() -> Outcome {
    let way = moved_file()?;
    let out = run(&[&way.pid.to_string()])?.out;
    same(
        line(&out, "fd 60")?,
        "fd 60: duplicated to fd 70, then closed: call EPOLL_CTL_DEL before close(2)",
    )
}

/// Expects that the file of the only entry of a process is open under the same fd in another one.
fn shared_with(pid: Pid, other: Pid, comm: &str) -> Outcome {
    let out = run(&[&pid.to_string()])?.out;
    let cure = "set close-on-exec, or call EPOLL_CTL_DEL before close(2)";
    same(
        line(&out, "fd 60")?,
        &format!(
            "fd 60: shared by fork(2) with pid {other} ({comm}) fd 60, then closed here: {cure}"
        ),
    )
}

/// Adds a file that its parent has opened, and closes it.
fn child_of_opener() -> io::Result<Actor> {
    Actor::start("way", || {
        create()?;
        scene::add(EPOLL, A, 0)?;
        scene::close(A)?;
        Ok(0)
    })
}

pub fn open_in_parent() -> Outcome {
    let parent = Actor::start("parent", || {
        scene::place(scene::eventfd()?, A)?;
        Ok(child_of_opener()?.leave())
    })?;
    shared_with(parent.told, parent.pid, "parent")
}

pub fn open_in_sibling() -> Outcome {
    let parent = Actor::start("parent", || {
        scene::place(scene::eventfd()?, A)?;
        let way = child_of_opener()?;
        Actor::start("sibling", || Ok(0))?.leave();
        scene::close(A)?;
        Ok(way.leave())
    })?;
    let way = parent.told;
    let sibling = shared::child(parent.pid, way).ok_or("no sibling")?;
    shared_with(way, sibling, "sibling")
}

/// The process that has the file open has no PID that gdb could use in the one with the entry.
pub fn file_in_pid_namespace() -> Outcome {
    let way = Actor::start("way", || {
        create()?;
        add_eventfd(A)?;
        // SAFETY: No memory is involved.
        if scene::cvt(unsafe { libc::unshare(libc::CLONE_NEWPID) }).is_err() {
            return Ok(0);
        }
        let child = Actor::start("child", || scene::close(EPOLL).map(|()| 0))?;
        scene::close(A)?;
        Ok(child.leave())
    })?;
    if way.told == 0 {
        return skip("no new PID namespace");
    }
    let out = run(&[&way.pid.to_string()])?.out;
    let advice = advice(&out);
    same(advice.len(), 1)?;
    contains(
        advice[0],
        &format!("inherited by pid {} (child) fd 60", way.told),
    )
}

/// A child that has the epoll file, too, keeps the file that its parent has closed.
pub fn closed_in_parent() -> Outcome {
    let way = Actor::start("way", || {
        create()?;
        scene::place(scene::eventfd()?, A)?;
        scene::epoll_ctl(EPOLL, libc::EPOLL_CTL_ADD, A, OUT, 0)?;
        let child = Actor::start("child", || Ok(0))?;
        scene::close(A)?;
        Ok(child.leave())
    })?;
    let (pid, child) = (way.pid, way.told);
    let out = run(&["--ready", &pid.to_string()])?.out;
    let spins = "fd 60: ready (OUT) in 10 of 10 looks, so epoll_wait(2) returns at once: the process \
                 cannot remove the entry by this fd";
    let where_open = format!(
        "fd 60: open as pid {child} (child) fd 60, but not under this fd in pid {pid} (way), which \
         gets the events, too, and can neither handle nor remove them: call EPOLL_CTL_DEL before \
         close(2), and create the epoll instance after fork(2)"
    );
    same(advice(&out), vec![spins, &where_open])
}

/// A cause is told once for all entries that have it, with what they have in common.
pub fn causes_of_many() -> Outcome {
    let way = Actor::start("way", || {
        create()?;
        for (fd, to) in [(A, C), (B, D), (62, 80), (62, 81), (62, 82)] {
            add_eventfd(fd)?;
            move_file(fd, to)?;
        }
        let [reader, writer] = scene::pipe()?;
        scene::place(reader, 63)?;
        scene::add(EPOLL, 63, 0)?;
        scene::close(writer)?;
        scene::place(scene::eventfd()?, 64)?;
        scene::epoll_ctl(EPOLL, libc::EPOLL_CTL_ADD, 64, OUT, 0)?;
        Ok(0)
    })?;
    let pid = way.pid.to_string();
    let spins = "in 10 of 10 looks, so epoll_wait(2) returns at once:";
    same(
        advice(&run(&["--ready", &pid])?.out),
        vec![
            &*format!(
                "fd 63: ready (HUP) {spins} the other end is closed, or there was an error. \
                 EPOLL_CTL_MOD does not mask this: close it after EPOLL_CTL_DEL"
            ),
            &format!(
                "fd 64: ready (OUT) {spins} request OUT only while there is something to write"
            ),
        ],
    )?;
    same(
        line(&run(&[&pid])?.out, "fds ")?,
        "fds 60, 61, 62 (5 entries): duplicated to other fds (see WHERE), then closed: call \
         EPOLL_CTL_DEL before close(2)",
    )
}

/// Files that come and go under one fd, 1,000 a second, and stay open in a duplicate.
pub fn reused() -> Outcome {
    let way = Actor::start("way", || {
        create()?;
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            // The last four stay.
            for at in (0..4).cycle().map(|i| C + i) {
                let _ = sender.send(());
                let next = || {
                    scene::place(scene::eventfd()?, A)?;
                    scene::add(EPOLL, A, 0)?;
                    scene::dup2(A, at)?;
                    std::thread::sleep(Duration::from_millis(1));
                    scene::close(A)
                };
                if next().is_err() {
                    scene::exit_at_once(1);
                }
            }
        });
        // Until all four are there.
        let begun = (0..5).try_for_each(|_| receiver.recv());
        begun.map(|()| 0).map_err(io::Error::other)
    })?;
    let pid = way.pid.to_string();
    let has_hint = |out: &str| {
        out.contains(
            "closed without EPOLL_CTL_DEL, and reused: EPOLL_CTL_DEL and EPOLL_CTL_MOD of the fd do \
             not reach this entry, and its events carry the old data",
        )
    };
    let mut is_seen = false;
    for _ in 0..10 {
        is_seen = has_hint(&run(&[&pid])?.out);
        if is_seen {
            break;
        }
    }
    // SAFETY: No memory is involved.
    unsafe { libc::kill(way.pid, libc::SIGSTOP) };
    let out = run(&[&pid])?.out;
    contains(&out, " stale: ")?;
    same(out.contains("unsettled"), false)?;
    same(is_seen || has_hint(&out), true)
}

/// READY is what epoll_wait(2) of the process itself reports.
pub fn ready() -> Outcome {
    let way = Actor::start("way", || {
        create()?;
        let [reader, writer] = scene::pipe()?;
        scene::place(reader, A)?;
        scene::place(writer, B)?;
        let [ours, theirs] = scene::socketpair(libc::SOCK_STREAM)?;
        scene::place(ours, C)?;
        scene::close(theirs)?;
        let full = scene::eventfd()?;
        let word = u64::MAX - 1;
        // SAFETY: `word` is valid for reading.
        unsafe { libc::write(full, (&raw const word).cast(), 8) };
        scene::place(full, D)?;
        let (input, output) = (libc::EPOLLIN as u32, OUT);
        let rdhup = libc::EPOLLRDHUP as u32;
        for (fd, events) in [
            (A, input),
            (B, output),
            (C, input | rdhup),
            (D, input | output),
        ] {
            scene::epoll_ctl(EPOLL, libc::EPOLL_CTL_ADD, fd, events, fd as u64)?;
        }
        // Disarmed, though it is ready: not even EPOLLHUP is reported.
        let [ours, theirs] = scene::socketpair(libc::SOCK_STREAM)?;
        scene::place(ours, 80)?;
        scene::close(theirs)?;
        let events = output | libc::EPOLLONESHOT as u32;
        scene::epoll_ctl(EPOLL, libc::EPOLL_CTL_ADD, 80, events, 80)?;
        scene::epoll_wait(EPOLL)?;
        Ok(0)
    })?;
    // This process has no copy of the epoll file: the kernel tells by epoll_wait(2) in a fork.
    let (found, summary) = run(&["--json", &way.pid.to_string()])?.json()?;
    let entries = found[0]["entries"].as_array().ok_or("entries")?;
    if entries.iter().all(|entry| entry["ready"].is_null()) {
        return skip("no pidfd_getfd(2)");
    }
    let expected = [
        (A, vec![]),
        (B, vec!["OUT"]),
        (C, vec!["IN", "HUP", "RDHUP"]),
        (D, vec!["IN"]),
        (80, vec![]),
    ];
    for (entry, (fd, events)) in entries.iter().zip(&expected) {
        same(entry["tfd"].as_i64(), Some(i64::from(*fd)))?;
        same(&entry["ready"], &serde_json::json!(events))?;
    }
    same(summary["ready"].as_u64(), Some(3))?;
    same(own_events(way.pid)?, vec![(B, 0x4), (C, 0x2011), (D, 0x1)])
}

/// What epoll_wait(2) reports on a copy of the epoll file, sorted by data.
fn own_events(pid: libc::pid_t) -> io::Result<Vec<(libc::c_int, u32)>> {
    let mut events = [libc::epoll_event { events: 0, u64: 0 }; 16];
    // SAFETY: No memory is involved but `events`, which is valid for writing.
    let count = unsafe {
        let process = libc::syscall(libc::SYS_pidfd_open, pid, 0);
        let epoll = libc::syscall(libc::SYS_pidfd_getfd, process, EPOLL, 0) as libc::c_int;
        let count = libc::epoll_wait(epoll, events.as_mut_ptr(), 16, 0);
        libc::close(epoll);
        libc::close(process as libc::c_int);
        scene::cvt(count)?
    };
    let mut found: Vec<_> = (events[..count as usize].iter())
        .map(|event| ({ event.u64 } as libc::c_int, event.events))
        .collect();
    found.sort();
    Ok(found)
}

/// Entries in other states, files, and lists that are too short are left out.
pub fn filters() -> Outcome {
    let way = Actor::start("way", || {
        create()?;
        add_eventfd(A)?;
        add_eventfd(B)?;
        move_file(B, C)?;
        scene::place(scene::pipe()?[0], D)?;
        scene::add(EPOLL, D, 0)?;
        Ok(0)
    })?;
    let pid = way.pid.to_string();
    let fds = |args: &[&str]| -> Result<Vec<i64>, Box<dyn Error>> {
        let ran = run(&[args, &["--json", &pid]].concat())?;
        let (found, _) = schema::check(&ran.out)?;
        let entries = found.iter().flat_map(|epoll| epoll["entries"].as_array());
        Ok(entries
            .flatten()
            .filter_map(|entry| entry["tfd"].as_i64())
            .collect())
    };
    same(fds(&["--state", "moved"])?, vec![61])?;
    same(fds(&["--state", "in-place"])?, vec![60, 71])?;
    same(fds(&["--state", "moved,in-place"])?, vec![60, 61, 71])?;
    same(fds(&["--file", "pipe:"])?, vec![71])?;
    same(fds(&["--min-entries", "3"])?, vec![60, 61, 71])?;
    same(fds(&["--min-entries", "4"])?, vec![])?;
    let summary = run(&["--summary", &pid])?.out;
    same(
        summary,
        format!("pid {pid} (way), fd 50: 3 entries, 1 stale: 1 moved\n"),
    )?;
    let columns = run(&["-o", "state,FD,inode", "--file", "pipe:", &pid])?.out;
    contains(&columns, "\n\nSTATE     FD ")?;
    contains(&columns, " INODE\nin place  71  ")?;
    run(&["-o", "nothing"])?.fails_with("possible values: ")
}

pub fn completions() -> Outcome {
    contains(
        &run(&["--completions", "bash"])?.quiet()?,
        "complete -F _lsepoll",
    )?;
    contains(
        &run(&["--completions", "zsh"])?.quiet()?,
        "#compdef lsepoll",
    )?;
    contains(
        &run(&["--completions", "fish"])?.quiet()?,
        "complete -c lsepoll",
    )
}

/// Removes entries by hand, with the commands that lsepoll prints.
pub fn repair() -> Outcome {
    const EPOLLS: [Fd; 4] = [EPOLL, EPOLL + 1, EPOLL + 2, EPOLL + 3];
    const FDS: [Fd; 4] = [A, B, 62, 63];

    let way = Actor::start("way", || {
        for (efd, fd) in EPOLLS.into_iter().zip(FDS) {
            scene::place(scene::epoll_create()?, efd)?;
            scene::place(scene::eventfd()?, fd)?;
            scene::add(efd, fd, 0)?;
        }
        move_file(A, C)?;
        move_file(B, D)?;
        scene::place(scene::eventfd()?, B)?;
        move_file(63, 72)?;
        scene::dup2(72, 73)?;
        scene::place(scene::eventfd()?, 63)?;
        scene::add(EPOLLS[3], 63, 0)?;
        let close = || EPOLLS.into_iter().try_for_each(scene::close);
        let child = Actor::start("child", || close().map(|()| 0))?;
        scene::close(62)?;
        // gdb calls functions of the C library, which these tests may have linked statically.
        let mut cat = Command::new("cat")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        // It has loaded the library when it answers.
        let mut byte = [b'.'];
        let pipes = cat.stdin.as_mut().zip(cat.stdout.as_mut());
        let (stdin, stdout) = pipes.ok_or(io::ErrorKind::Other)?;
        stdin.write_all(&byte)?;
        stdout.read_exact(&mut byte)?;
        // Only cat keeps them.
        close()?;
        [B, C, D, 63, 72, 73]
            .into_iter()
            .try_for_each(scene::close)?;
        child.leave();
        let pid = cat.id() as Pid;
        // Its input ends with this process, and so does cat.
        std::mem::forget(cat);
        Ok(pid)
    })?;
    let cat = way.told;
    if !fs::read_to_string(format!("/proc/{cat}/maps"))?.contains(".so") {
        return skip("cat is linked statically");
    }
    let pid = cat.to_string();
    let info = |fd| fs::read_to_string(format!("/proc/{cat}/fdinfo/{fd}"));
    let before = [info(B)?, info(63)?];
    let ran = run(&["--stale", &pid])?;
    same(ran.status, Some(1))?;
    // One for each epoll instance. One gdb runs all: each start of it takes long, and so do symbols.
    let start = format!("  gdb -p {pid} -batch ");
    let commands: Vec<_> = (advice(&ran.out).into_iter())
        .filter_map(|line| line.strip_prefix(&start))
        .collect();
    same(commands.len(), FDS.len()).map_err(|e| format!("{e}\n{}", ran.out))?;
    let no_debug = "-iex 'set debug-file-directory' ";
    // Meanwhile fd A was reused, and a file has gone that a command needs.
    let changes = format!("-ex 'call (int)dup2({B}, {A})' -ex 'call (int)close(72)' ");
    let command = start.trim().to_string() + " " + no_debug + &changes + &commands.join(" ");
    let gdb = Command::new("sh")
        .args(["-c", &command])
        .stdin(Stdio::null())
        .output()?;
    if gdb.status.code() == Some(127) {
        return skip("no gdb");
    }
    let (found, summary) = run(&["--json", &pid])?.json()?;
    let left: Vec<_> = (found.iter())
        .filter_map(|epoll| Some(epoll["entries"].as_array()?.len()))
        .collect();
    same(
        (left, summary["stale"].as_u64()),
        (vec![0, 0, 0, 2], Some(1)),
    )
    .map_err(|e| format!("{e}\n{command}\n{}", String::from_utf8_lossy(&gdb.stderr)))?;
    // The fds are as they were before, but for fd A.
    same([info(B)?, info(63)?], before)?;
    same(info(A)?, info(B)?)?;
    same(info(62).is_ok(), false)
}

/// A real event loop, found by its name.
pub fn node() -> Outcome {
    let script = "
const server = require('net').createServer();
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
";
    let node = Command::new("node")
        .args(["-e", script])
        .stdout(Stdio::piped())
        .spawn();
    let Ok(mut node) = node else {
        return skip("no node");
    };
    let mut port = String::new();
    let stdout = node.stdout.take().ok_or("stdout")?;
    let ready = BufReader::new(stdout).read_line(&mut port);
    let result = ready.map_err(Into::into).and_then(|_| {
        let out = run(&["--name", "node"])?.out;
        contains(&out, &format!("pid {} (", node.id()))?;
        contains(&out, &format!("  tcp 127.0.0.1:{} LISTEN\n", port.trim()))
    });
    node.kill()?;
    node.wait()?;
    result
}
