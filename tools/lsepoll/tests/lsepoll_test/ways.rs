// SPDX-License-Identifier: GPL-2.0

//! The ways in which a target file moves, and the rows that lsepoll prints.

use crate::lsepoll::{lines, run};
use crate::process::{Fd, Pid};
use crate::scene::{self, Actor};
use crate::sockets::{Protocol, diag};
use crate::tap::{Outcome, same};
use std::error::Error;
use std::fs;
use std::io::{self, BufRead, BufReader};
use std::process::{Command, ExitCode, Stdio};
use std::sync::mpsc;

pub const EPOLL: Fd = 50;
/// The fds under which files are added.
pub const A: Fd = 60;
pub const B: Fd = 61;
/// The fds to which they move.
pub const C: Fd = 70;
pub const D: Fd = 71;

const TITLES: &str = "FD | EVENTS | READY | DATA | STATE | FILE | WHERE";

/// Creates an epoll instance.
pub fn create() -> io::Result<()> {
    scene::place(scene::epoll_create()?, EPOLL)
}

/// Adds an eventfd with its fd as data.
pub fn add_eventfd(fd: Fd) -> io::Result<()> {
    scene::place(scene::eventfd()?, fd)?;
    scene::add(EPOLL, fd, fd as u64)
}

pub fn move_file(from: Fd, to: Fd) -> io::Result<()> {
    scene::dup2(from, to)?;
    scene::close(from)
}

/// The name that lsepoll should print for an eventfd: with its id, if fdinfo has it.
pub fn eventfd_name(pid: Pid, fd: Fd) -> Result<String, Box<dyn Error>> {
    let fdinfo = fs::read_to_string(format!("/proc/{pid}/fdinfo/{fd}"))?;
    Ok(match fdinfo.split_once("eventfd-id:") {
        Some((_, id)) => format!("[eventfd:{}]", id.lines().next().unwrap_or("").trim()),
        None => "[eventfd]".to_string(),
    })
}

/// Checks what lsepoll prints for a process, and that the JSON fits the schema.
fn expect(pid: Pid, heading: &[String], rows: &[String]) -> Outcome {
    expect_titles(pid, heading, TITLES, rows)
}

fn expect_titles(pid: Pid, heading: &[String], titles: &str, rows: &[String]) -> Outcome {
    let arg = pid.to_string();
    let found = run(&[&arg])?;
    let mut expected = heading.to_vec();
    expected.push(String::new());
    expected.push(titles.to_string());
    expected.extend_from_slice(rows);
    same(lines(&found.out), expected)?;
    let as_json = run(&["--json", &arg])?;
    same(found.status, as_json.status)?;
    as_json.json().map(drop)
}

/// The usual heading of process "way".
fn heading(actor: &Actor, count: &str) -> [String; 1] {
    [format!("pid {} (way), fd {EPOLL}: {count}", actor.pid)]
}

/// A process with an entry whose file is in place.
pub fn one_entry() -> io::Result<Actor> {
    Actor::start("way", || {
        create()?;
        add_eventfd(A)?;
        Ok(0)
    })
}

/// A process with an entry whose file has moved.
pub fn moved_file() -> io::Result<Actor> {
    Actor::start("way", || {
        create()?;
        add_eventfd(A)?;
        move_file(A, C)?;
        Ok(0)
    })
}

/// A process with an entry whose file only its child, whom it tells, has open.
pub fn inherited_file() -> io::Result<Actor> {
    Actor::start("way", || {
        create()?;
        add_eventfd(A)?;
        let child = Actor::start("child", || scene::close(EPOLL).map(|()| 0))?;
        scene::close(A)?;
        Ok(child.leave())
    })
}

pub fn dup() -> Outcome {
    let way = moved_file()?;
    let file = eventfd_name(way.pid, C)?;
    let row = format!("60 | IN | - | fd 60 | moved | {file} | fd 70");
    expect(way.pid, &heading(&way, "1 entry, 1 stale: 1 moved"), &[row])
}

pub fn fork() -> Outcome {
    let way = inherited_file()?;
    let child = way.told;
    let file = eventfd_name(child, A)?;
    let row = format!("60 | IN | - | fd 60 | elsewhere | {file} | pid {child} (child) fd 60");
    expect(
        way.pid,
        &heading(&way, "1 entry, 1 stale: 1 elsewhere"),
        &[row],
    )
}

/// Holds its files open until its parent ends, under another name.
pub fn hold(comm: Option<&String>) -> ExitCode {
    if let Some(comm) = comm {
        let _ = fs::write("/proc/self/comm", comm);
    }
    // SAFETY: No memory is involved.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    println!("holding");
    loop {
        std::thread::park();
    }
}

/// Adds two files of which exec closes the second, and lets a child exec.
fn with_exec() -> io::Result<Actor> {
    Actor::start("way", || {
        create()?;
        add_eventfd(A)?;
        add_eventfd(B)?;
        scene::close_on_exec(B)?;
        let mut child = Command::new(std::env::current_exe()?)
            .arg("--hold")
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().ok_or(io::ErrorKind::Other)?).read_line(&mut line)?;
        scene::close(A)?;
        Ok(child.id() as Pid)
    })
}

fn comm(pid: Pid) -> io::Result<String> {
    Ok(fs::read_to_string(format!("/proc/{pid}/comm"))?
        .trim_end()
        .to_string())
}

pub fn exec() -> Outcome {
    let way = with_exec()?;
    let child = format!("pid {} ({})", way.told, comm(way.told)?);
    let a = eventfd_name(way.told, A)?;
    let b = eventfd_name(way.pid, B)?;
    let heading = [
        format!("pid {} (way), fd 50: 2 entries", way.pid),
        format!("also open as {child} fd 50"),
    ];
    let rows = [
        format!("60 | IN | - | fd 60 | in place | {a} | {child} fd 60"),
        format!("61 | IN | - | fd 61 | in place | {b}"),
    ];
    expect(way.pid, &heading, &rows)
}

/// The same, as the child sees it.
pub fn exec_close_on_exec() -> Outcome {
    let way = with_exec()?;
    let child = format!("pid {} ({})", way.told, comm(way.told)?);
    let a = eventfd_name(way.told, A)?;
    let b = eventfd_name(way.pid, B)?;
    let parent = format!("pid {} (way)", way.pid);
    let heading = [
        format!("{child}, fd 50: 2 entries"),
        format!("also open as {parent} fd 50"),
    ];
    let rows = [
        format!("60 | IN | - | fd 60 | in place | {a}"),
        format!("61 | IN | - | fd 61 | in place | {b} | {parent} fd 61"),
    ];
    expect(way.told, &heading, &rows)
}

/// Sends a file to this process, and closes it. It is never received.
fn send_away(fd: Fd) -> io::Result<()> {
    let [ours, theirs] = scene::socketpair(libc::SOCK_STREAM)?;
    scene::place(ours, C)?;
    scene::place(theirs, D)?;
    scene::send_file(C, fd)?;
    scene::close(fd)
}

pub fn in_flight() -> Outcome {
    let way = Actor::start("way", || {
        create()?;
        add_eventfd(A)?;
        send_away(A)?;
        Ok(0)
    })?;
    let row = "60 | IN | ? | fd 60 | nowhere | anon_inode".to_string();
    expect(
        way.pid,
        &heading(&way, "1 entry, 1 stale: 1 nowhere"),
        &[row],
    )?;
    let note = "lsepoll: 1 entry is nowhere in ";
    crate::tap::contains(&run(&[&way.pid.to_string()])?.err, note)
}

pub fn received() -> Outcome {
    let [ours, theirs] = scene::socketpair(libc::SOCK_STREAM)?;
    let way = Actor::start("way", || {
        create()?;
        add_eventfd(A)?;
        scene::send_file(ours, A)?;
        scene::close(A)?;
        Ok(0)
    })?;
    let receiver = Actor::start("receiver", || {
        scene::place(scene::receive_file(theirs)?, D)?;
        Ok(0)
    });
    scene::close(ours)?;
    scene::close(theirs)?;
    let receiver = receiver?;
    let place = format!("pid {} (receiver) fd 71", receiver.pid);
    let file = eventfd_name(receiver.pid, D)?;
    let row = format!("60 | IN | - | fd 60 | elsewhere | {file} | {place}");
    expect(
        way.pid,
        &heading(&way, "1 entry, 1 stale: 1 elsewhere"),
        &[row],
    )
}

/// The case seen in bug reports: lsof prints that the fd is an eventfd, but the target is a pipe.
pub fn reused_fd() -> Outcome {
    let way = Actor::start("way", || {
        create()?;
        let [reader, writer] = scene::pipe()?;
        scene::place(reader, A)?;
        scene::place(writer, D)?;
        scene::add(EPOLL, A, 4)?;
        scene::dup2(A, C)?;
        scene::place(scene::eventfd()?, A)?;
        Ok(0)
    })?;
    let pipe = fs::read_link(format!("/proc/{}/fd/{C}", way.pid))?;
    let (pipe, now) = (pipe.display(), eventfd_name(way.pid, A)?);
    let row = format!("60 | IN | - | 0x4 | moved | {pipe} | fd 70; fd 60 is now {now}");
    expect(way.pid, &heading(&way, "1 entry, 1 stale: 1 moved"), &[row])
}

pub fn reused_fd_in_flight() -> Outcome {
    let way = Actor::start("way", || {
        create()?;
        add_eventfd(A)?;
        send_away(A)?;
        scene::place(scene::eventfd()?, A)?;
        Ok(0)
    })?;
    let now = eventfd_name(way.pid, A)?;
    let row = format!("60 | IN | ? | fd 60 | nowhere | anon_inode | fd 60 is now {now}");
    expect(
        way.pid,
        &heading(&way, "1 entry, 1 stale: 1 nowhere"),
        &[row],
    )
}

pub fn shared_epoll() -> Outcome {
    let way = Actor::start("way", || {
        create()?;
        scene::dup2(EPOLL, EPOLL + 1)?;
        add_eventfd(A)?;
        let child = Actor::start("child", || move_file(A, C).map(|()| 0))?;
        Ok(child.leave())
    })?;
    let (parent, child) = (way.pid, way.told);
    let file = eventfd_name(parent, A)?;
    let heading = [
        format!("pid {parent} (way), fd 50: 1 entry"),
        format!("also open as fd 51; pid {child} (child) fd 50, 51"),
    ];
    let row = format!("60 | IN | - | fd 60 | in place | {file}");
    expect(parent, &heading, &[row])?;

    // As the child sees it.
    let heading = [
        format!("pid {child} (child), fd 50: 1 entry"),
        format!("also open as fd 51; pid {parent} (way) fd 50, 51"),
    ];
    let row = format!("60 | IN | - | fd 60 | in place | {file} | pid {parent} (way) fd 60");
    expect(child, &heading, &[row])
}

pub fn thread_with_own_table() -> Outcome {
    let way = Actor::start("way", || {
        create()?;
        add_eventfd(A)?;
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            // SAFETY: No memory is involved.
            let (unshared, tid) = unsafe {
                (
                    libc::unshare(libc::CLONE_FILES),
                    libc::syscall(libc::SYS_gettid),
                )
            };
            let _ = sender.send((unshared, tid as Pid));
            loop {
                std::thread::park();
            }
        });
        let (unshared, tid) = receiver.recv().map_err(io::Error::other)?;
        if unshared != 0 {
            return Err(io::Error::other("unshare"));
        }
        scene::close(A)?;
        Ok(tid)
    })?;
    let (pid, tid) = (way.pid, way.told);
    let file = eventfd_name(tid, A)?;
    let heading = [
        format!("pid {pid} (way), fd 50: 1 entry"),
        format!("also open as pid {pid} tid {tid} (way) fd 50"),
    ];
    let row = format!("60 | IN | - | fd 60 | in place | {file} | pid {pid} tid {tid} (way) fd 60");
    // A tid selects its process.
    let rows = [row];
    expect(tid, &heading, &rows)?;
    expect(pid, &heading, &rows)
}

pub fn nested_epoll() -> Outcome {
    let way = Actor::start("way", || {
        create()?;
        scene::place(scene::epoll_create()?, A)?;
        scene::add(EPOLL, A, 1)?;
        scene::place(scene::eventfd()?, B)?;
        scene::add(A, B, 2)?;
        move_file(A, C)?;
        Ok(0)
    })?;
    let file = eventfd_name(way.pid, B)?;
    let heading = heading(&way, "1 entry, 1 stale: 1 moved");
    let mut rows = vec!["60 | IN | - | 0x1 | moved | [eventpoll] | fd 70".to_string()];
    // The inner instance follows.
    rows.push(String::new());
    rows.push(format!("pid {} (way), fd 70: 1 entry", way.pid));
    rows.push(String::new());
    rows.push(TITLES.to_string());
    rows.push(format!("61 | IN | - | 0x2 | in place | {file}"));
    expect(way.pid, &heading, &rows)
}

pub fn two_entries_of_a_file() -> Outcome {
    let way = Actor::start("way", || {
        create()?;
        add_eventfd(A)?;
        scene::dup2(A, B)?;
        scene::add(EPOLL, B, 2)?;
        scene::close(A)?;
        Ok(0)
    })?;
    let file = eventfd_name(way.pid, B)?;
    let rows = [
        format!("60 | IN | - | fd 60 | moved | {file} | fd 61"),
        format!("61 | IN | - | 0x2 | in place | {file}"),
    ];
    expect(
        way.pid,
        &heading(&way, "2 entries, 1 stale: 1 moved"),
        &rows,
    )
}

pub fn entries_with_the_same_fd() -> Outcome {
    let way = Actor::start("way", || {
        create()?;
        for to in [80, 81, 82] {
            scene::place(scene::eventfd()?, A)?;
            scene::add(EPOLL, A, to as u64)?;
            move_file(A, to)?;
        }
        add_eventfd(A)?;
        Ok(0)
    })?;
    // The order of entries with the same fd is up to the kernel.
    let fdinfo = fs::read_to_string(format!("/proc/{}/fdinfo/{EPOLL}", way.pid))?;
    let data = fdinfo.lines().filter_map(|line| line.split_once("data:"));
    let data =
        data.filter_map(|(_, rest)| Fd::from_str_radix(rest.split_whitespace().next()?, 16).ok());
    let now = eventfd_name(way.pid, A)?;
    let mut rows = Vec::new();
    for (toff, fd) in data.enumerate() {
        let file = eventfd_name(way.pid, fd)?;
        rows.push(if fd == A {
            format!("60 | {toff} | IN | - | fd 60 | in place | {file}")
        } else {
            let place = format!("fd {fd}; fd 60 is now {now}");
            format!("60 | {toff} | IN | - | {fd:#x} | moved | {file} | {place}")
        });
    }
    same(rows.len(), 4)?;
    let titles = TITLES.replace("FD", "FD | TOFF");
    expect_titles(
        way.pid,
        &heading(&way, "4 entries, 3 stale: 3 moved"),
        &titles,
        &rows,
    )
}

pub fn many_places() -> Outcome {
    let way = Actor::start("way", || {
        create()?;
        add_eventfd(A)?;
        scene::dup2(A, D)?;
        move_file(A, C)?;
        let child = Actor::start("child", || move_file(D, B).map(|()| 0))?;
        Ok(child.leave())
    })?;
    let child = way.told;
    let file = eventfd_name(way.pid, C)?;
    let heading = [
        format!("pid {} (way), fd 50: 1 entry, 1 stale: 1 moved", way.pid),
        format!("also open as pid {child} (child) fd 50"),
    ];
    let row =
        format!("60 | IN | - | fd 60 | moved | {file} | fd 70, 71; pid {child} (child) fd 61, 70");
    expect(way.pid, &heading, &[row])
}

/// Opens a FIFO, and removes its path.
fn fifo() -> io::Result<Fd> {
    let path = std::env::temp_dir().join(format!("lsepoll fifo {}", std::process::id()));
    let name = std::ffi::CString::new(path.as_os_str().as_encoded_bytes())?;
    // SAFETY: `name` is valid for the duration of the calls.
    let fd = unsafe {
        libc::mkfifo(name.as_ptr(), 0o600);
        libc::open(name.as_ptr(), libc::O_RDWR)
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    fs::remove_file(path)?;
    Ok(fd)
}

/// Sockets with addresses, a FIFO with a path, and others, each moved to fd + 100.
pub fn kinds_of_files() -> Outcome {
    let way = Actor::start("way", || {
        use std::net::{TcpListener, TcpStream};
        use std::os::fd::IntoRawFd;

        create()?;
        // SAFETY: No memory is involved.
        let timer = unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, 0) };
        let [socket, other] = scene::socketpair(libc::SOCK_SEQPACKET)?;
        scene::place(other, 90)?;
        let [reader, writer] = scene::pipe()?;
        scene::place(reader, 91)?;
        let mut files = vec![fifo()?, timer, socket, writer];
        // A guest may have no network.
        if let Ok(listener) = TcpListener::bind("127.0.0.1:0") {
            let port = listener.local_addr()?.port();
            scene::place(TcpStream::connect(("127.0.0.1", port))?.into_raw_fd(), 92)?;
            files.push(listener.into_raw_fd());
            files.push(92);
        }
        for (i, fd) in files.into_iter().enumerate() {
            let to = 60 + i as Fd;
            scene::place(fd, to)?;
            scene::add(EPOLL, to, 0)?;
            move_file(to, to + 100)?;
        }
        Ok(0)
    })?;
    let link = |fd: Fd| fs::read_link(format!("/proc/{}/fd/{fd}", way.pid));
    let mut files = vec![
        link(160)?.display().to_string(),
        "[timerfd] clock=monotonic".to_string(),
        "unix seqpacket".to_string(),
        link(163)?.display().to_string(),
    ];
    // Otherwise, the peer is not known.
    if diag::read(Protocol::Unix, &mut Default::default()).is_ok() {
        files[2].push_str(&format!(" <-> pid {} (way)", way.pid));
    }
    if let Ok(connected) = link(165) {
        let tcp = fs::read_to_string(format!("/proc/{}/net/tcp", way.pid))?;
        let inode = connected.display().to_string();
        let inode = inode.trim_matches(|c: char| !c.is_ascii_digit());
        // 1: 0100007F:C350 0100007F:1F90 01 ...
        let line = tcp
            .lines()
            .find(|line| line.split_whitespace().nth(9) == Some(inode));
        let port = |n| -> Option<u16> {
            let (address, port) = line?.split_whitespace().nth(n)?.split_once(':')?;
            assert_eq!(address, "0100007F");
            u16::from_str_radix(port, 16).ok()
        };
        let (ours, theirs) = (port(1).ok_or("tcp")?, port(2).ok_or("tcp")?);
        files.push(format!("tcp 127.0.0.1:{theirs} LISTEN"));
        let addresses = format!("127.0.0.1:{ours} -> 127.0.0.1:{theirs}");
        files.push(format!("tcp {addresses}"));
    }
    let mut rows = Vec::new();
    for (i, file) in files.iter().enumerate() {
        rows.push(format!(
            "{} | IN | {} | 0x0 | moved | {file} | fd {}",
            60 + i,
            // A connection waits there.
            if i == 4 { "IN" } else { "-" },
            160 + i
        ));
    }
    let mut count = format!("{0} entries, {0} stale: {0} moved", rows.len());
    if rows.len() > 4 {
        count.push_str("; 1 ready");
    }
    expect(way.pid, &heading(&way, &count), &rows)
}

pub fn events() -> Outcome {
    const IN: u32 = libc::EPOLLIN as u32;
    const OUT: u32 = libc::EPOLLOUT as u32;
    const ONESHOT: u32 = libc::EPOLLONESHOT as u32;
    let way = Actor::start("way", || {
        create()?;
        let events = [
            (IN | OUT | libc::EPOLLET as u32, u64::MAX),
            (IN | libc::EPOLLEXCLUSIVE as u32, 1 << 32),
            (OUT | ONESHOT, (1 << 32) - 1),
            (0, 0),
        ];
        for (fd, (events, data)) in (A..).zip(events) {
            scene::place(scene::eventfd()?, fd)?;
            scene::epoll_ctl(EPOLL, libc::EPOLL_CTL_ADD, fd, events, data)?;
        }
        // Consumes the event of the third, which disarms it.
        scene::epoll_wait(EPOLL)?;
        Ok(0)
    })?;
    let mut rows = Vec::new();
    for (fd, shown) in (A..).zip([
        "IN|OUT|ET | OUT | 0xffffffffffffffff",
        "IN|EXCLUSIVE | - | 0x100000000",
        "ONESHOT (disarmed) | - | 0xffffffff",
        "ERR|HUP | - | 0x0",
    ]) {
        let file = eventfd_name(way.pid, fd)?;
        rows.push(format!("{fd} | {shown} | in place | {file}"));
    }
    expect(way.pid, &heading(&way, "4 entries; 1 ready"), &rows)
}
