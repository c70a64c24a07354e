// SPDX-License-Identifier: GPL-2.0

//! A socket that no table lists, asked through a copy of its fd: one that is closed, not bound, or
//! in another network namespace.

use super::{Socket, inet_protocol, state_name};
use crate::process::Place;
use std::ffi::CString;
use std::fs::File;
use std::mem;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::linux::fs::MetadataExt;

/// What the kernel tells about the socket, if it is still the one with this inode.
pub fn ask(place: &Place, inode: u64) -> Option<Socket> {
    copy(place, inode)
        .and_then(|fd| describe(fd.as_raw_fd()))
        .or_else(|| protocol(place))
}

fn owned(result: libc::c_long) -> Option<OwnedFd> {
    let fd = RawFd::try_from(result).ok().filter(|fd| *fd >= 0)?;
    // SAFETY: The system call has just opened it, and nothing else owns it.
    Some(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A copy of the fd, by pidfd_getfd(2), since Linux 5.6.
fn copy(place: &Place, inode: u64) -> Option<File> {
    let table = &place.table;
    // Threads have pidfds since Linux 6.9.
    let flags = if table.tid == table.pid {
        0
    } else {
        libc::O_EXCL
    };
    // SAFETY: No memory is involved.
    let process = owned(unsafe { libc::syscall(libc::SYS_pidfd_open, table.tid, flags) })?;
    // SAFETY: No memory is involved.
    let copy = unsafe { libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), place.fd, 0) };
    let file = File::from(owned(copy)?);
    // The fd may be reused by now.
    (file.metadata().ok()?.st_ino() == inode).then_some(file)
}

/// The protocol by name. Needs no more permission than the link of the fd.
pub fn protocol(place: &Place) -> Option<Socket> {
    let path = CString::new(place.path("fd")).ok()?;
    let mut name = [0u8; 64];
    let key = c"system.sockprotoname";
    // SAFETY: `path` and `key` are strings, and `name` is valid for writing its length.
    let length = unsafe {
        libc::getxattr(
            path.as_ptr(),
            key.as_ptr(),
            name.as_mut_ptr().cast(),
            name.len(),
        )
    };
    let name = name.get(..usize::try_from(length).ok()?)?;
    let name = name.split(|byte| *byte == 0).next()?;
    let name = String::from_utf8_lossy(name).to_lowercase();
    let name = name.strip_prefix("af_").unwrap_or(&name);
    let name = name.strip_suffix("v6").unwrap_or(name).replace('-', " ");
    (!name.is_empty()).then(|| Socket::new(name))
}

fn option(fd: RawFd, level: libc::c_int, name: libc::c_int) -> Option<libc::c_int> {
    let mut value: libc::c_int = 0;
    let mut length = mem::size_of_val(&value) as libc::socklen_t;
    // SAFETY: `value` is valid for writing `length` bytes.
    let got = unsafe { libc::getsockopt(fd, level, name, (&raw mut value).cast(), &mut length) };
    (got == 0).then_some(value)
}

/// The signature of getsockname() and getpeername().
type GetName =
    unsafe extern "C" fn(libc::c_int, *mut libc::sockaddr, *mut libc::socklen_t) -> libc::c_int;

/// The bytes of the address after its family.
fn address(fd: RawFd, get: GetName) -> Option<Vec<u8>> {
    let mut bytes = [0u8; 128];
    let mut length = bytes.len() as libc::socklen_t;
    // SAFETY: `bytes` is valid for writing `length` bytes.
    let got = unsafe { get(fd, bytes.as_mut_ptr().cast(), &mut length) };
    let bytes = bytes.get(..length as usize).filter(|_| got == 0)?;
    Some(bytes.get(2..)?.to_vec())
}

fn inet_address(bytes: &[u8], family: libc::c_int) -> Option<SocketAddr> {
    let port = u16::from_be_bytes(bytes.get(..2)?.try_into().ok()?);
    let ip = if family == libc::AF_INET {
        IpAddr::from(<[u8; 4]>::try_from(bytes.get(2..6)?).ok()?)
    } else {
        IpAddr::from(<[u8; 16]>::try_from(bytes.get(6..22)?).ok()?)
    };
    Some(SocketAddr::new(ip, port))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn describe(fd: RawFd) -> Option<Socket> {
    let of_socket = |name| option(fd, libc::SOL_SOCKET, name);
    let family = of_socket(libc::SO_DOMAIN)?;
    let kind = of_socket(libc::SO_TYPE)?;
    let local = address(fd, libc::getsockname);
    let remote = address(fd, libc::getpeername);
    let is_listening = of_socket(libc::SO_ACCEPTCONN) == Some(1);
    let state = match (is_listening, &remote) {
        (true, _) => Some("LISTEN"),
        (false, Some(_)) => Some("ESTABLISHED"),
        (false, None) => None,
    };
    Some(match family {
        libc::AF_INET | libc::AF_INET6 => {
            let raw = kind == libc::SOCK_RAW;
            let protocol = of_socket(libc::SO_PROTOCOL)?;
            let protocol = if raw {
                libc::IPPROTO_RAW
            } else {
                inet_protocol(protocol)
            };
            let none = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0);
            let parse = |bytes: Option<Vec<u8>>| {
                let address = bytes.and_then(|bytes| inet_address(&bytes, family));
                address.unwrap_or(none)
            };
            let mut socket = Socket::inet(protocol, parse(local), parse(remote), 0);
            socket.state = match protocol {
                // The state is the first byte of struct tcp_info. An int is read whole.
                libc::IPPROTO_TCP => option(fd, libc::IPPROTO_TCP, libc::TCP_INFO)
                    .and_then(|info| state_name(info.to_ne_bytes()[0])),
                _ => state,
            };
            socket
        }
        libc::AF_UNIX => {
            let mut socket = Socket::unix(kind);
            socket.bind_unix(&local.unwrap_or_default());
            // Of a client, the server's name tells more than its own.
            socket.remote = remote.and_then(|name| super::unix_address(&name));
            socket.state = state;
            socket
        }
        libc::AF_NETLINK => {
            let port = local.and_then(|bytes| u32_at(&bytes, 2)).unwrap_or(0);
            Socket::netlink(of_socket(libc::SO_PROTOCOL)?, port)
        }
        libc::AF_VSOCK => {
            let parse = |bytes: Option<Vec<u8>>| {
                let bytes = bytes.unwrap_or_default();
                let any = libc::VMADDR_CID_ANY;
                (
                    u32_at(&bytes, 6).unwrap_or(any),
                    u32_at(&bytes, 2).unwrap_or(any),
                )
            };
            let mut socket = Socket::vsock(kind, parse(local), parse(remote));
            socket.state = state;
            socket
        }
        libc::AF_PACKET => {
            let bytes = local.unwrap_or_default();
            let protocol = u16::from_be_bytes(bytes.get(..2)?.try_into().ok()?);
            Socket::packet(protocol, u32_at(&bytes, 2)?)
        }
        libc::AF_XDP => Socket::xdp(0, None),
        _ => return None,
    })
}
