// SPDX-License-Identifier: GPL-2.0

//! Sets up processes with files and epoll instances, for the demo and the tests.
//!
//! fds are plain integers here: they are reused, and refer to files of other processes.

use std::fs;
use std::io::{self, ErrorKind, Write};
use std::mem;

use libc::pid_t as Pid;

type Fd = libc::c_int;

pub fn cvt(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

pub fn epoll_create() -> io::Result<Fd> {
    // SAFETY: No memory is involved.
    cvt(unsafe { libc::epoll_create1(0) })
}

pub fn epoll_ctl(efd: Fd, op: libc::c_int, fd: Fd, events: u32, data: u64) -> io::Result<()> {
    let mut event = libc::epoll_event { events, u64: data };
    // SAFETY: `event` is valid for the duration of the call.
    cvt(unsafe { libc::epoll_ctl(efd, op, fd, &mut event) }).map(drop)
}

/// Adds an entry that waits for EPOLLIN.
pub fn add(efd: Fd, fd: Fd, data: u64) -> io::Result<()> {
    epoll_ctl(efd, libc::EPOLL_CTL_ADD, fd, libc::EPOLLIN as u32, data)
}

pub fn eventfd() -> io::Result<Fd> {
    // SAFETY: No memory is involved.
    cvt(unsafe { libc::eventfd(0, 0) })
}

/// A pair of unix sockets.
pub fn socketpair(kind: libc::c_int) -> io::Result<[Fd; 2]> {
    let mut fds = [0; 2];
    // SAFETY: `fds` is valid for writing two fds.
    cvt(unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, fds.as_mut_ptr()) })?;
    Ok(fds)
}

pub fn dup2(from: Fd, to: Fd) -> io::Result<()> {
    // SAFETY: No memory is involved.
    cvt(unsafe { libc::dup2(from, to) }).map(drop)
}

pub fn close(fd: Fd) -> io::Result<()> {
    // SAFETY: No memory is involved, and there is no `OwnedFd` here.
    cvt(unsafe { libc::close(fd) }).map(drop)
}

/// Moves a file to another fd.
pub fn place(fd: Fd, at: Fd) -> io::Result<()> {
    dup2(fd, at)?;
    close(fd)
}

/// A buffer for a control message with one fd.
#[repr(C, align(8))]
struct Control([u8; 24]);

/// Calls `f` with a message that has one byte of data and room for one fd.
fn with_message<R>(f: impl FnOnce(&mut libc::msghdr) -> R) -> R {
    let mut byte = 0u8;
    let mut iov = libc::iovec {
        iov_base: (&raw mut byte).cast(),
        iov_len: 1,
    };
    let mut control = Control([0; 24]);
    // SAFETY: All bits zero is a valid `msghdr`: an empty message.
    let mut msg: libc::msghdr = unsafe { mem::zeroed() };
    msg.msg_iov = &mut iov;
    msg.msg_iovlen = 1;
    msg.msg_control = (&raw mut control).cast();
    msg.msg_controllen = mem::size_of::<Control>() as _;
    f(&mut msg)
}

/// Sends a file over a unix socket.
pub fn send_file(socket: Fd, fd: Fd) -> io::Result<()> {
    with_message(|msg| {
        // SAFETY: `msg` has room for a control message with one fd.
        unsafe {
            let cmsg = libc::CMSG_FIRSTHDR(msg);
            (*cmsg).cmsg_level = libc::SOL_SOCKET;
            (*cmsg).cmsg_type = libc::SCM_RIGHTS;
            (*cmsg).cmsg_len = libc::CMSG_LEN(mem::size_of::<Fd>() as u32) as _;
            libc::CMSG_DATA(cmsg).cast::<Fd>().write_unaligned(fd);
            msg.msg_controllen = libc::CMSG_SPACE(mem::size_of::<Fd>() as u32) as _;
        }
        // SAFETY: `msg` and what it points at are valid for the duration of the call.
        cvt(unsafe { libc::sendmsg(socket, msg, libc::MSG_NOSIGNAL) } as libc::c_int).map(drop)
    })
}

/// Receives a file over a unix socket, and returns its fd.
pub fn receive_file(socket: Fd) -> io::Result<Fd> {
    with_message(|msg| {
        // SAFETY: `msg` and what it points at are valid for the duration of the call.
        cvt(unsafe { libc::recvmsg(socket, msg, 0) } as libc::c_int)?;
        // SAFETY: `msg` was filled in by recvmsg().
        let cmsg = unsafe { libc::CMSG_FIRSTHDR(msg) };
        if cmsg.is_null() {
            return Err(io::Error::other("a message without a file"));
        }
        // SAFETY: The senders here send one file with each message.
        Ok(unsafe { libc::CMSG_DATA(cmsg).cast::<Fd>().read_unaligned() })
    })
}

/// A process that has set up its files, and holds them open until this is dropped.
pub struct Actor {
    pub pid: Pid,
    /// The result of its setup, usually the pid of its own child.
    pub told: Pid,
}

impl Actor {
    /// Forks a process with the name `comm`, and waits until its setup is done.
    ///
    /// The caller must be single-threaded.
    pub fn start(comm: &str, setup: impl FnOnce() -> io::Result<Pid>) -> io::Result<Actor> {
        let [ours, theirs] = socketpair(libc::SOCK_STREAM)?;
        // Otherwise, the child could print what is in the buffer a second time.
        io::stdout().flush()?;
        // SAFETY: This process is single-threaded, so the child may call any function.
        let pid = cvt(unsafe { libc::fork() })?;
        if pid == 0 {
            let result = close(ours).and_then(|()| play(comm, theirs, setup));
            match result {
                // The parent has ended: there is no one to report to.
                Err(e) if e.kind() == ErrorKind::BrokenPipe => {}
                Err(e) => eprintln!("{comm}: {e}"),
                Ok(()) => {}
            }
            exit_at_once(1);
        }
        // From here on, an error drops the actor, which kills the process.
        let mut actor = Actor { pid, told: 0 };
        close(theirs)?;
        let told = receive_pid(ours);
        close(ours)?;
        actor.told = told?;
        Ok(actor)
    }

    /// Lets the process outlive this value. It still ends with its parent.
    pub fn leave(self) -> Pid {
        let pid = self.pid;
        mem::forget(self);
        pid
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        // SAFETY: No memory is involved: waitpid() does not write a status.
        unsafe {
            libc::kill(self.pid, libc::SIGKILL);
            libc::waitpid(self.pid, std::ptr::null_mut(), 0);
        }
    }
}

fn play(comm: &str, parent: Fd, setup: impl FnOnce() -> io::Result<Pid>) -> io::Result<()> {
    // SAFETY: No memory is involved.
    cvt(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) })?;
    fs::write("/proc/self/comm", comm)?;
    let told = setup()?;
    // `parent` stays open: files must not change after it was told.
    send_pid(parent, told)?;
    loop {
        // SAFETY: No handler is installed.
        unsafe { libc::pause() };
    }
}

pub fn send_pid(socket: Fd, pid: Pid) -> io::Result<()> {
    let word = pid.to_ne_bytes();
    // SAFETY: `word` is valid for reading.
    let sent = unsafe { libc::send(socket, word.as_ptr().cast(), word.len(), libc::MSG_NOSIGNAL) };
    cvt(sent as libc::c_int).map(drop)
}

pub fn receive_pid(socket: Fd) -> io::Result<Pid> {
    let mut word = [0; mem::size_of::<Pid>()];
    // SAFETY: `word` is valid for writing.
    let received = unsafe { libc::recv(socket, word.as_mut_ptr().cast(), word.len(), 0) };
    if cvt(received as libc::c_int)? as usize == word.len() {
        Ok(Pid::from_ne_bytes(word))
    } else {
        Err(ErrorKind::UnexpectedEof.into())
    }
}

/// Ends this process, without running the exit handlers that it inherited from its parent.
pub fn exit_at_once(status: i32) -> ! {
    // SAFETY: Never returns, and no memory is involved.
    unsafe { libc::_exit(status) }
}
