// SPDX-License-Identifier: GPL-2.0

//! Names of files.

use crate::fdinfo;
use crate::lsepoll::run;
use crate::name::{self, File, Names};
use crate::process::{self, Fd, Pid, Place, Table};
use crate::scene::{self, Actor};
use crate::sockets::{Protocol, ask, diag};
use crate::tap::{Outcome, contains, same, skip};
use crate::ways::{A, B, C, EPOLL, create};
use std::error::Error;
use std::fs;
use std::io;
use std::mem;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::IntoRawFd;
use std::os::unix::fs::MetadataExt;
use std::rc::Rc;
use std::time::Instant;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn place(pid: Pid, comm: &str, fd: Fd) -> Place {
    let table = Rc::new(Table {
        pid,
        tid: pid,
        comm: comm.to_string().into(),
        started: 0,
    });
    Place { table, fd }
}

/// The files of a process, each with its link.
fn list(actor: &Actor, comm: &str) -> Result<Vec<(Place, String)>> {
    let table = place(actor.pid, comm, 0);
    let fds = process::numbers(&format!("/proc/{}/fd", actor.pid))?;
    let file = |fd| {
        let place = table.sibling(fd);
        let link = place.link()?;
        Some((place, link))
    };
    Ok(fds.into_iter().filter_map(file).collect())
}

fn names_of(files: &[(Place, String)]) -> Names {
    Names::new(
        files
            .iter()
            .map(|(place, link)| (place.clone(), link.as_str())),
    )
}

/// The names as lsepoll sees them if it finds the files of `actors` only.
fn names(actors: &[(&Actor, &str)]) -> Result<Names> {
    let mut files = Vec::new();
    for (actor, comm) in actors {
        files.extend(list(actor, comm)?);
    }
    Ok(names_of(&files))
}

fn file(names: &mut Names, actor: &Actor, fd: Fd) -> Result<File> {
    let file = names.file(&place(actor.pid, "", fd));
    file.ok_or_else(|| format!("fd {fd} is not open").into())
}

fn text(names: &mut Names, actor: &Actor, fd: Fd) -> Result<String> {
    Ok(file(names, actor, fd)?.text().to_string())
}

fn inode(actor: &Actor, fd: Fd) -> Result<u64> {
    let link = place(actor.pid, "", fd).link().ok_or("not open")?;
    Ok(name::socket_inode(&link).ok_or("not a socket")?)
}

fn cvt(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

fn socket(family: libc::c_int, kind: libc::c_int, protocol: libc::c_int) -> io::Result<Fd> {
    // SAFETY: No memory is involved.
    cvt(unsafe { libc::socket(family, kind, protocol) })
}

/// A bound unix socket.
fn bound(kind: libc::c_int, name: &[u8]) -> io::Result<Fd> {
    let fd = socket(libc::AF_UNIX, kind, 0)?;
    let mut address = [0u8; 110];
    address[..2].copy_from_slice(&(libc::AF_UNIX as u16).to_ne_bytes());
    address[2..2 + name.len()].copy_from_slice(name);
    let length = 2 + name.len() as libc::socklen_t;
    // SAFETY: `address` is valid for reading `length` bytes.
    cvt(unsafe { libc::bind(fd, address.as_ptr().cast(), length) })?;
    Ok(fd)
}

fn is_missing(family: libc::c_int, kind: libc::c_int, protocol: libc::c_int) -> bool {
    socket(family, kind, protocol).map(scene::close).is_err()
}

/// Moves to a new network namespace.
fn unshare() -> io::Result<()> {
    // SAFETY: No memory is involved.
    cvt(unsafe { libc::unshare(libc::CLONE_NEWNET) }).map(drop)
}

/// Another process binds names that pass for a line of /proc/net/unix about the socket of the
/// victim.
fn forge(is_elsewhere: bool) -> Outcome {
    let victim = Actor::start("victim", || {
        if is_elsewhere {
            unshare()?;
        }
        create()?;
        scene::place(TcpListener::bind("0.0.0.0:0")?.into_raw_fd(), A)?;
        scene::place(bound(libc::SOCK_STREAM, b"\0lsepoll victim")?, B)?;
        scene::add(EPOLL, A, 0)?;
        scene::add(EPOLL, B, 0)?;
        Ok(0)
    })?;
    let (tcp, unix) = (inode(&victim, A)?, inode(&victim, B)?);
    let directory = format!("/tmp/lsepoll forged {}\n0", std::process::id());
    fs::create_dir_all(&directory)?;
    let forger = Actor::start("forger", || {
        if is_elsewhere {
            // SAFETY: No memory is involved.
            let process =
                cvt(unsafe { libc::syscall(libc::SYS_pidfd_open, victim.pid, 0) as libc::c_int })?;
            // SAFETY: No memory is involved.
            cvt(unsafe { libc::setns(process, libc::CLONE_NEWNET) })?;
        }
        std::env::set_current_dir(&directory)?;
        for inode in [tcp, unix] {
            let row = format!(": 00000002 00000000 00010000 0001 01 {inode} 6.6.6.6:1");
            bound(
                libc::SOCK_STREAM,
                format!("\0\n0000000000000000{row}\n").as_bytes(),
            )?;
            bound(libc::SOCK_STREAM, format!("\0{inode}\n0{row}").as_bytes())?;
            bound(libc::SOCK_STREAM, format!("{inode}\n0{row}").as_bytes())?;
        }
        Ok(0)
    })?;
    fs::remove_dir_all(&directory)?;
    // The attack is one.
    let unix_file = fs::read(format!("/proc/{}/net/unix", victim.pid))?;
    let unix_file = String::from_utf8_lossy(&unix_file).into_owned();
    for inode in [tcp, unix] {
        contains(
            &unix_file,
            &format!("\n0: 00000002 00000000 00010000 0001 01 {inode} 6.6"),
        )?;
    }
    for without_diag in [false, true] {
        let mut names = names(&[(&victim, "victim"), (&forger, "forger")])?;
        names.sockets.without_diag = without_diag;
        contains(&text(&mut names, &victim, A)?, "tcp 0.0.0.0:")?;
        same(
            text(&mut names, &victim, B)?,
            "unix stream @lsepoll victim".to_string(),
        )?;
    }
    let out = run(&[&victim.pid.to_string()])?.quiet()?;
    contains(&out, "tcp 0.0.0.0:")?;
    same(out.contains("6.6.6.6"), false)
}

pub fn forged() -> Outcome {
    if is_missing(libc::AF_INET, libc::SOCK_STREAM, 0) {
        return skip("no TCP");
    }
    forge(false)?;
    // SAFETY: No memory is involved.
    let is_root = unsafe { libc::geteuid() } == 0;
    match is_root && fs::metadata("/proc/self/ns/net").is_ok() {
        true => forge(true),
        false => Ok(()),
    }
}

/// Closes a connection with RST.
fn reset(stream: TcpStream) -> io::Result<()> {
    let fd = stream.into_raw_fd();
    let linger = libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    let size = mem::size_of_val(&linger) as libc::socklen_t;
    let (level, name) = (libc::SOL_SOCKET, libc::SO_LINGER);
    // SAFETY: `linger` is valid for reading `size` bytes.
    cvt(unsafe { libc::setsockopt(fd, level, name, (&raw const linger).cast(), size) })?;
    scene::close(fd)
}

/// Waits until the other end has closed the connection.
fn wait_for_end(stream: &TcpStream) {
    // Fails after RST.
    let _ = stream.peek(&mut [0]);
}

pub fn tcp_states() -> Outcome {
    if is_missing(libc::AF_INET, libc::SOCK_STREAM, 0) {
        return skip("no TCP");
    }
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let server = listener.local_addr()?;
    let actor = Actor::start("way", || {
        let connect = |fd| {
            let ours = TcpStream::connect(server)?;
            let theirs = listener.accept()?.0;
            scene::place(ours.try_clone()?.into_raw_fd(), fd)?;
            io::Result::Ok((ours, theirs))
        };
        mem::forget(connect(A)?);
        let (ours, theirs) = connect(B)?;
        drop(theirs);
        wait_for_end(&ours);
        let (ours, theirs) = connect(C)?;
        reset(theirs)?;
        wait_for_end(&ours);
        scene::place(socket(libc::AF_INET, libc::SOCK_STREAM, 0)?, 80)?;
        scene::place(socket(libc::AF_INET, libc::SOCK_DGRAM, 0)?, 81)?;
        let udp = UdpSocket::bind("127.0.0.1:0")?;
        scene::place(udp.try_clone()?.into_raw_fd(), 82)?;
        let connected = UdpSocket::bind("127.0.0.1:0")?;
        connected.connect(udp.local_addr()?)?;
        scene::place(connected.into_raw_fd(), 83)?;
        scene::place(listener.try_clone()?.into_raw_fd(), 84)?;
        // Bound, but not listening.
        let fd = socket(libc::AF_INET, libc::SOCK_STREAM, 0)?;
        let address = libc::sockaddr_in {
            sin_family: libc::AF_INET as libc::sa_family_t,
            sin_port: 0,
            sin_addr: libc::in_addr {
                s_addr: u32::from_ne_bytes([127, 0, 0, 1]),
            },
            sin_zero: [0; 8],
        };
        let size = mem::size_of_val(&address) as libc::socklen_t;
        // SAFETY: `address` is valid for reading `size` bytes.
        cvt(unsafe { libc::bind(fd, (&raw const address).cast(), size) })?;
        scene::place(fd, 85)?;
        Ok(0)
    })?;
    // By sock_diag(7), then by files of /proc.
    for without_diag in [false, true] {
        let mut names = names(&[(&actor, "way")])?;
        names.sockets.without_diag = without_diag;
        let mut name = |fd| text(&mut names, &actor, fd);
        let is_like = |text: String, start: &str, end: &str| {
            same(
                (&text, text.starts_with(start) && text.ends_with(end)),
                (&text, true),
            )
        };
        is_like(name(A)?, "tcp 127.0.0.1:", &format!(" -> {server}"))?;
        is_like(
            name(B)?,
            "tcp 127.0.0.1:",
            &format!(" -> {server} CLOSE_WAIT"),
        )?;
        is_like(name(C)?, "tcp 127.0.0.1:", " CLOSE")?;
        same(name(80)?, "tcp unbound CLOSE".to_string())?;
        same(name(81)?, "udp unbound".to_string())?;
        let udp = name(82)?;
        is_like(udp.clone(), "udp 127.0.0.1:", "")?;
        is_like(name(83)?, "udp 127.0.0.1:", &udp.replace("udp", " ->"))?;
        same(name(84)?, format!("tcp {server} LISTEN"))?;
        is_like(name(85)?, "tcp 127.0.0.1:", " CLOSE")?;
        // With less permission, the protocol is known.
        for (fd, expected) in [(80, "tcp"), (82, "udp")] {
            let found = ask::protocol(&place(actor.pid, "", fd));
            same(
                found.map(|socket| socket.protocol),
                Some(expected.to_string()),
            )?;
        }
    }
    Ok(())
}

/// Binds a socket to a port of any CID.
fn bind_vsock(fd: Fd, port: u32) -> io::Result<()> {
    // SAFETY: All fields are integers.
    let mut address: libc::sockaddr_vm = unsafe { mem::zeroed() };
    address.svm_family = libc::AF_VSOCK as libc::sa_family_t;
    address.svm_cid = libc::VMADDR_CID_ANY;
    address.svm_port = port;
    let size = mem::size_of_val(&address) as libc::socklen_t;
    // SAFETY: `address` is valid for reading `size` bytes.
    cvt(unsafe { libc::bind(fd, (&raw const address).cast(), size) }).map(drop)
}

/// Sockets of each family that this kernel has.
pub fn other_sockets() -> Outcome {
    const KINDS: [(libc::c_int, libc::c_int, libc::c_int, &str); 7] = [
        (
            libc::AF_NETLINK,
            libc::SOCK_RAW,
            libc::NETLINK_ROUTE,
            "netlink route",
        ),
        (
            libc::AF_NETLINK,
            libc::SOCK_RAW,
            libc::NETLINK_KOBJECT_UEVENT,
            "netlink kobject_uevent",
        ),
        (
            libc::AF_PACKET,
            libc::SOCK_RAW,
            0,
            "packet protocol 0x0000, interface 0",
        ),
        (
            libc::AF_INET,
            libc::SOCK_STREAM,
            libc::IPPROTO_MPTCP,
            "mptcp unbound",
        ),
        (
            libc::AF_INET,
            libc::SOCK_RAW,
            libc::IPPROTO_UDP,
            "raw 0.0.0.0:17",
        ),
        (libc::AF_VSOCK, libc::SOCK_STREAM, 0, "vsock stream *:4711"),
        (libc::AF_XDP, libc::SOCK_RAW, 0, "xdp"),
    ];
    let actor = Actor::start("way", || {
        for ((family, kind, protocol, _), at) in KINDS.into_iter().zip(A..) {
            if let Ok(fd) = socket(family, kind, protocol) {
                if family == libc::AF_VSOCK {
                    bind_vsock(fd, 4711)?;
                }
                scene::place(fd, at)?;
            }
        }
        Ok(0)
    })?;
    for without_diag in [false, true] {
        let mut names = names(&[(&actor, "way")])?;
        names.sockets.without_diag = without_diag;
        for ((.., expected), at) in KINDS.into_iter().zip(A..) {
            let Ok(file) = file(&mut names, &actor, at) else {
                println!("# no {expected}");
                continue;
            };
            same(file.text().to_string(), expected.to_string())?;
            // A socket that no table lists.
            if let Some(asked) = ask::ask(&place(actor.pid, "", at), inode(&actor, at)?) {
                same(asked.text().to_string(), expected.to_string())?;
            }
        }
    }
    Ok(())
}

/// Two processes with the ends of a pair, bound sockets, and one with bytes that are not UTF-8.
fn unix_actors() -> io::Result<(Actor, Actor)> {
    let [ours, theirs] = scene::socketpair(libc::SOCK_STREAM)?;
    let first = Actor::start("first", || {
        scene::place(ours, A)?;
        scene::close(theirs)?;
        scene::place(bound(libc::SOCK_DGRAM, b"\0lsepoll a\xff\0\0\0")?, B)?;
        let path = b"/tmp/lsepoll unix\n1";
        scene::place(bound(libc::SOCK_SEQPACKET, path)?, C)?;
        fs::remove_file("/tmp/lsepoll unix\n1")?;
        // SAFETY: No memory is involved.
        cvt(unsafe { libc::listen(C, 1) })?;
        scene::place(socket(libc::AF_UNIX, libc::SOCK_STREAM, 0)?, 80)?;
        Ok(0)
    })?;
    let second = Actor::start("sec(ond", || {
        scene::close(ours)?;
        scene::place(theirs, A)?;
        Ok(0)
    })?;
    scene::close(ours)?;
    scene::close(theirs)?;
    Ok((first, second))
}

fn unix_names(without_diag: bool, pair: &dyn Fn(&Actor) -> String) -> Outcome {
    let (first, second) = unix_actors()?;
    let mut names = names(&[(&first, "first"), (&second, "sec(ond")])?;
    names.sockets.without_diag = without_diag;
    same(text(&mut names, &first, A)?, pair(&second))?;
    let bytes = file(&mut names, &first, B)?;
    same(
        bytes.text().to_string(),
        "unix dgram @lsepoll a\\xff".to_string(),
    )?;
    let local = bytes.socket.and_then(|socket| socket.local);
    let json = serde_json::to_string(&local)?;
    same(
        json,
        "[64,108,115,101,112,111,108,108,32,97,255]".to_string(),
    )?;
    same(bytes.path, None)?;
    let path = file(&mut names, &first, C)?;
    same(
        path.text().to_string(),
        "unix seqpacket /tmp/lsepoll unix\\n1 LISTEN".to_string(),
    )?;
    same(
        serde_json::to_string(&path.path)?,
        r#""/tmp/lsepoll unix\n1""#.to_string(),
    )?;
    same(text(&mut names, &first, 80)?, "unix stream".to_string())
}

pub fn unix_sockets() -> Outcome {
    if diag::read(Protocol::Unix, &mut Default::default()).is_err() {
        return skip("no sock_diag for unix sockets");
    }
    unix_names(false, &|peer| {
        format!("unix stream <-> pid {} (sec(ond)", peer.pid)
    })
}

pub fn unix_sockets_without_diag() -> Outcome {
    unix_names(true, &|_| "unix stream".to_string())
}

/// What fdinfo tells.
pub fn details() -> Outcome {
    let actor = Actor::start("way", || {
        let timer = libc::itimerspec {
            it_interval: libc::timespec {
                tv_sec: 5,
                tv_nsec: 0,
            },
            it_value: libc::timespec {
                tv_sec: 1 << 30,
                tv_nsec: 0,
            },
        };
        // SAFETY: All pointers are valid for the duration of the calls, or null.
        unsafe {
            let fd = cvt(libc::timerfd_create(libc::CLOCK_BOOTTIME, 0))?;
            cvt(libc::timerfd_settime(fd, 0, &timer, std::ptr::null_mut()))?;
            scene::place(fd, A)?;
            let mut set = mem::zeroed();
            libc::sigaddset(&mut set, libc::SIGHUP);
            libc::sigaddset(&mut set, libc::SIGCHLD);
            scene::place(cvt(libc::signalfd(-1, &set, 0))?, B)?;
            let fd = cvt(libc::inotify_init1(0))?;
            cvt(libc::inotify_add_watch(fd, c"/".as_ptr(), libc::IN_CREATE))?;
            scene::place(fd, C)?;
            let own = std::process::id();
            let fd = cvt(libc::syscall(libc::SYS_pidfd_open, own, 0) as libc::c_int);
            if let Ok(fd) = fd {
                scene::place(fd, 80)?;
            }
        }
        scene::place(scene::eventfd()?, 81)?;
        Ok(0)
    })?;
    let mut names = names(&[])?;
    let timer = text(&mut names, &actor, A)?;
    contains(&timer, "[timerfd] clock=boottime remaining=1073741")?;
    contains(&timer, "s interval=5s")?;
    same(
        text(&mut names, &actor, B)?,
        "[signalfd] signals=HUP,CHLD".to_string(),
    )?;
    // The link is `anon_inode:inotify`.
    same(
        text(&mut names, &actor, C)?,
        "inotify watches=1".to_string(),
    )?;
    if let Ok(pidfd) = file(&mut names, &actor, 80) {
        same(&pidfd.kind[..], "pidfd")?;
        contains(
            &pidfd.text().to_string(),
            &format!("pidfd:{}] comm=way", actor.pid),
        )?;
    }
    let eventfd = file(&mut names, &actor, 81)?;
    same(&eventfd.kind[..], "eventfd")?;
    same(eventfd.details.len(), 2)
}

/// Targets that are open nowhere, by what their inodes tell.
pub fn targets() -> Outcome {
    let actor = Actor::start("way", || {
        create()?;
        scene::place(bound(libc::SOCK_DGRAM, b"\0lsepoll target")?, A)?;
        scene::place(scene::eventfd()?, B)?;
        scene::add(EPOLL, A, 0)?;
        scene::add(EPOLL, B, 0)?;
        Ok(0)
    })?;
    let entries = fdinfo::read(&place(actor.pid, "", EPOLL))?.ok_or("no epoll file")?;
    let [socket, eventfd] = &entries[..] else {
        return Err("not two entries".into());
    };
    let mut names = names(&[])?;
    let mut text = |name: &str, device| names.target(name, device, actor.pid).text().to_string();
    let name = format!("socket:[{}]", socket.inode);
    // Without sock_diag(7), only a place tells more.
    let expected = match diag::read(Protocol::Unix, &mut Default::default()) {
        Ok(()) => "unix dgram @lsepoll target",
        Err(_) => &name,
    };
    same(&text(&name, socket.device)[..], expected)?;
    same(&text("anon_inode", eventfd.device)[..], "anon_inode")?;
    let device = fs::metadata("/proc/version")?.dev();
    let device = libc::major(device) << 20 | libc::minor(device);
    same(
        &text("inode 7 of device 0:5", device)[..],
        "inode 7 on /proc",
    )
}

/// A file whose name ends like the link of a removed file is not removed.
pub fn paths() -> Outcome {
    let path = format!("/tmp/lsepoll names {} (deleted)", std::process::id());
    let actor = Actor::start("way", || {
        scene::place(fs::File::create(&path)?.into_raw_fd(), A)?;
        scene::place(fs::File::open("/dev/null")?.into_raw_fd(), B)?;
        Ok(0)
    })?;
    let mut names = names(&[])?;
    let mut look = |fd| {
        let file = file(&mut names, &actor, fd)?;
        let path = file.path.clone().unwrap_or_default().to_string();
        Ok::<_, Box<dyn Error>>((file.kind.clone(), path, file.deleted))
    };
    let kept = look(A)?;
    fs::remove_file(&path)?;
    let removed = look(A)?;
    same(kept, ("path".to_string(), path.clone(), false))?;
    same(removed, ("path".to_string(), path, true))?;
    same(
        look(B)?,
        ("device".to_string(), "/dev/null".to_string(), false),
    )
}

/// 20,000 sockets, of which the kernel lists all, or each is asked.
pub fn many_sockets() -> Outcome {
    // A process may have 4,096 files nearly everywhere.
    const PAIRS: usize = 2_000;
    let start = || {
        Actor::start("way", || {
            scene::allow_files(2 * PAIRS + 96)?;
            (0..PAIRS).try_for_each(|_| scene::socketpair(libc::SOCK_STREAM).map(drop))?;
            Ok(0)
        })
    };
    let actors: Vec<_> = (0..5).map(|_| start()).collect::<io::Result<_>>()?;
    let mut files = Vec::new();
    let start = Instant::now();
    for actor in &actors {
        files.extend(list(actor, "way")?);
    }
    let listed = start.elapsed();
    println!("# {} files listed in {listed:.3?}", files.len());
    for without_diag in [false, true] {
        let start = Instant::now();
        let mut names = names_of(&files);
        names.sockets.without_diag = without_diag;
        for (place, _) in &files {
            names.file(place).ok_or("not open")?;
        }
        let took = start.elapsed();
        println!("# named in {took:.3?}");
        // Not in seconds: guests are slow.
        same(took < 20 * listed, true)?;
    }
    Ok(())
}
