// SPDX-License-Identifier: GPL-2.0

//! Unix sockets, and the files and words that are sent over them.

use crate::{close, cvt, place};
use std::io;
use std::mem;
use std::os::fd::RawFd;

/// socketpair(2) of unix sockets.
pub fn socketpair(kind: libc::c_int) -> io::Result<[RawFd; 2]> {
    let mut fds = [0; 2];
    // SAFETY: `fds` is valid for writing two numbers.
    cvt(unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, fds.as_mut_ptr()) })?;
    Ok(fds)
}

/// A pair of unix sockets at numbers of choice.
pub fn place_pair(kind: libc::c_int, [one, other]: [RawFd; 2]) -> io::Result<()> {
    let [a, b] = socketpair(kind)?;
    place(a, one)?;
    place(b, other)
}

/// A unix socket of which the other end is closed.
pub fn lone_socket() -> io::Result<RawFd> {
    let [ours, theirs] = socketpair(libc::SOCK_STREAM)?;
    close(theirs)?;
    Ok(ours)
}

/// Room for the control message that carries one file.
#[repr(C, align(8))]
struct Control([u8; 24]);

/// Calls `f` with a message that has one byte of data and room for one file.
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
pub fn send_file(socket: RawFd, fd: RawFd) -> io::Result<()> {
    with_message(|msg| {
        // SAFETY: `msg` has room for a control message with one number.
        unsafe {
            let cmsg = libc::CMSG_FIRSTHDR(msg);
            (*cmsg).cmsg_level = libc::SOL_SOCKET;
            (*cmsg).cmsg_type = libc::SCM_RIGHTS;
            (*cmsg).cmsg_len = libc::CMSG_LEN(mem::size_of::<RawFd>() as u32) as _;
            libc::CMSG_DATA(cmsg).cast::<RawFd>().write_unaligned(fd);
            msg.msg_controllen = libc::CMSG_SPACE(mem::size_of::<RawFd>() as u32) as _;
        }
        // SAFETY: `msg` and what it points at are valid for the duration of the call.
        cvt(unsafe { libc::sendmsg(socket, msg, 0) } as libc::c_int).map(drop)
    })
}

/// Receives a file over a unix socket, and returns its number.
pub fn receive_file(socket: RawFd) -> io::Result<RawFd> {
    with_message(|msg| {
        // SAFETY: `msg` and what it points at are valid for the duration of the call.
        cvt(unsafe { libc::recvmsg(socket, msg, 0) } as libc::c_int)?;
        // SAFETY: `msg` was filled in by recvmsg().
        let cmsg = unsafe { libc::CMSG_FIRSTHDR(msg) };
        if cmsg.is_null() {
            return Err(io::Error::other("a message without a file"));
        }
        // SAFETY: The senders here send one file with each message.
        Ok(unsafe { libc::CMSG_DATA(cmsg).cast::<RawFd>().read_unaligned() })
    })
}

/// Sends a few words to the other side of a socket.
pub fn send_words(socket: RawFd, words: &[u64]) -> io::Result<()> {
    let len = std::mem::size_of_val(words);
    // SAFETY: `words` is valid for reading.
    let sent = unsafe { libc::send(socket, words.as_ptr().cast(), len, libc::MSG_NOSIGNAL) };
    cvt(sent as i32).map(drop)
}

/// Receives as many words as are asked for.
pub fn receive_words<const N: usize>(socket: RawFd) -> io::Result<[u64; N]> {
    let mut words = [0; N];
    let len = std::mem::size_of_val(&words);
    // SAFETY: `words` is valid for writing.
    let received = unsafe { libc::recv(socket, words.as_mut_ptr().cast(), len, 0) };
    if cvt(received as i32)? as usize == len {
        Ok(words)
    } else {
        Err(io::Error::other("the other side has ended"))
    }
}
