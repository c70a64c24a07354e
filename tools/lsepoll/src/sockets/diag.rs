// SPDX-License-Identifier: GPL-2.0

//! The sockets of the network namespace of lsepoll, by sock_diag(7).
//!
//! Names are attributes with a length, so no name can pass for another socket.

use super::{Protocol, Socket, Table, add, stream_state};
use netlink_packet_core::{NetlinkBuffer, NlasIterator};
use netlink_sys::{Socket as Netlink, SocketAddr as NetlinkAddr, protocols::NETLINK_SOCK_DIAG};
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};

/// See linux/sock_diag.h.
const SOCK_DIAG_BY_FAMILY: u16 = 20;

const INET_DIAG_REQ_PROTOCOL: u16 = 3;
const UDIAG_SHOW_NAME_AND_PEER: u32 = 1 | 4;
const UNIX_DIAG_NAME: u16 = 0;
const UNIX_DIAG_PEER: u16 = 2;
const NDIAG_PROTO_ALL: u8 = 0xff;
const PACKET_SHOW_INFO: u32 = 1;
const PACKET_DIAG_INFO: u16 = 0;
const XDP_SHOW_INFO: u32 = 1;
const XDP_DIAG_INFO: u16 = 1;

/// A message of the kernel is never longer: see netlink_recvmsg().
const BUFFER: usize = 64 << 10;

/// The type of a parser of the message about a socket.
type Parse = fn(&[u8]) -> Option<(u64, Socket)>;

/// Appends the sockets of a protocol; fails if the kernel cannot list them.
pub fn read(protocol: Protocol, table: &mut Table) -> io::Result<()> {
    match protocol {
        Protocol::Inet(protocol) => {
            for family in [libc::AF_INET, libc::AF_INET6] {
                let request = inet_request(family as u8, protocol);
                dump(&request, table, |message| parse_inet(message, protocol))?;
            }
            Ok(())
        }
        Protocol::Unix => dump(
            &with_states(libc::AF_UNIX, UDIAG_SHOW_NAME_AND_PEER),
            table,
            parse_unix as Parse,
        ),
        Protocol::Netlink => dump(
            &request(libc::AF_NETLINK, NDIAG_PROTO_ALL, 0),
            table,
            parse_netlink as Parse,
        ),
        Protocol::Packet => dump(
            &request(libc::AF_PACKET, 0, PACKET_SHOW_INFO),
            table,
            parse_packet as Parse,
        ),
        Protocol::Vsock => dump(&with_states(libc::AF_VSOCK, 0), table, parse_vsock as Parse),
        Protocol::Xdp => dump(
            &request(libc::AF_XDP, 0, XDP_SHOW_INFO),
            table,
            parse_xdp as Parse,
        ),
    }
}

/// struct netlink_diag_req, packet_diag_req or xdp_diag_req.
fn request(family: libc::c_int, protocol: u8, show: u32) -> Vec<u8> {
    let mut request = vec![family as u8, protocol, 0, 0];
    request.extend([0; 4]);
    request.extend(show.to_ne_bytes());
    request.extend([0; 8]);
    request
}

/// struct unix_diag_req or vsock_diag_req.
fn with_states(family: libc::c_int, show: u32) -> Vec<u8> {
    let mut request = vec![family as u8, 0, 0, 0];
    request.extend(u32::MAX.to_ne_bytes());
    request.extend([0; 4]);
    request.extend(show.to_ne_bytes());
    request.extend([0; 8]);
    request
}

/// struct inet_diag_req_v2.
fn inet_request(family: u8, protocol: libc::c_int) -> Vec<u8> {
    // A number without a handler makes kernels fail that ignore the attribute.
    let short = u8::try_from(protocol).unwrap_or(0xfe);
    let mut request = vec![family, short, 0, 0];
    request.extend(u32::MAX.to_ne_bytes());
    request.extend([0; 48]);
    if protocol > 0xff {
        request.extend(8u16.to_ne_bytes());
        request.extend(INET_DIAG_REQ_PROTOCOL.to_ne_bytes());
        request.extend(protocol.to_ne_bytes());
    }
    request
}

fn dump(
    request: &[u8],
    table: &mut Table,
    parse: impl Fn(&[u8]) -> Option<(u64, Socket)>,
) -> io::Result<()> {
    let socket = Netlink::new(NETLINK_SOCK_DIAG)?;
    let mut bytes = vec![0; 16 + request.len()];
    let mut message = NetlinkBuffer::new(&mut bytes);
    message.set_length(16 + request.len() as u32);
    message.set_message_type(SOCK_DIAG_BY_FAMILY);
    message.set_flags((libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16);
    bytes[16..].copy_from_slice(request);
    socket.send_to(&bytes, &NetlinkAddr::new(0, 0), 0)?;

    let mut buffer = Vec::with_capacity(BUFFER);
    loop {
        buffer.clear();
        let (_, sender) = socket.recv_from(&mut buffer, 0)?;
        // Only the kernel has port 0.
        if sender.port_number() != 0 {
            continue;
        }
        let mut rest = &buffer[..];
        while !rest.is_empty() {
            let message = NetlinkBuffer::new_checked(rest).map_err(|_| ErrorKind::InvalidData)?;
            let payload = message.payload();
            match message.message_type() {
                SOCK_DIAG_BY_FAMILY => add(table, parse(payload)),
                // An error at the start, or the status of the whole dump.
                kind if kind == libc::NLMSG_ERROR as u16 || kind == libc::NLMSG_DONE as u16 => {
                    return match number::<4>(payload, 0).map(i32::from_ne_bytes) {
                        None | Some(0..) => Ok(()),
                        Some(error) => Err(io::Error::from_raw_os_error(-error)),
                    };
                }
                _ => {}
            }
            let length = (message.length() as usize).next_multiple_of(4);
            rest = rest.get(length..).unwrap_or_default();
        }
    }
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    number(bytes, at).map(u32::from_ne_bytes)
}

/// The value of an attribute.
fn attribute(bytes: Option<&[u8]>, kind: u16) -> Option<Vec<u8>> {
    NlasIterator::new(bytes?)
        .map_while(Result::ok)
        .find(|attribute| attribute.kind() == kind)
        .map(|attribute| attribute.value().to_vec())
}

/// Parses struct inet_diag_msg.
pub fn parse_inet(message: &[u8], protocol: libc::c_int) -> Option<(u64, Socket)> {
    let address = |address: usize, port: usize| {
        let ip = match libc::c_int::from(*message.first()?) {
            libc::AF_INET => IpAddr::from(number::<4>(message, address)?),
            libc::AF_INET6 => IpAddr::from(number::<16>(message, address)?),
            _ => return None,
        };
        let port = u16::from_be_bytes(number(message, port)?);
        Some(SocketAddr::new(ip, port))
    };
    let (local, remote) = (address(8, 4)?, address(24, 6)?);
    let inode = u32_at(message, 68)?;
    Some((
        inode.into(),
        Socket::inet(protocol, local, remote, message[1]),
    ))
}

/// Parses struct unix_diag_msg.
pub fn parse_unix(message: &[u8]) -> Option<(u64, Socket)> {
    let inode = u32_at(message, 4)?;
    let attributes = message.get(16..);
    let mut socket = Socket::unix(message[1].into());
    socket.state = stream_state(message[2]);
    if let Some(name) = attribute(attributes, UNIX_DIAG_NAME) {
        socket.bind_unix(&name);
    }
    socket.peer = attribute(attributes, UNIX_DIAG_PEER)
        .and_then(|peer| u32_at(&peer, 0))
        .filter(|peer| *peer != 0)
        .map(u64::from);
    Some((inode.into(), socket))
}

/// Parses struct netlink_diag_msg.
pub fn parse_netlink(message: &[u8]) -> Option<(u64, Socket)> {
    let inode = u32_at(message, 16)?;
    Some((
        inode.into(),
        Socket::netlink(message[2].into(), u32_at(message, 4)?),
    ))
}

/// Parses struct packet_diag_msg.
pub fn parse_packet(message: &[u8]) -> Option<(u64, Socket)> {
    let inode = u32_at(message, 4)?;
    let protocol = u16::from_ne_bytes(number(message, 2)?);
    let info = attribute(message.get(16..), PACKET_DIAG_INFO);
    let interface = info.and_then(|info| u32_at(&info, 0)).unwrap_or(0);
    Some((inode.into(), Socket::packet(protocol, interface)))
}

/// Parses struct vsock_diag_msg.
pub fn parse_vsock(message: &[u8]) -> Option<(u64, Socket)> {
    let address = |at| Some((u32_at(message, at)?, u32_at(message, at + 4)?));
    let inode = u32_at(message, 20)?;
    let mut socket = Socket::vsock(message[1].into(), address(4)?, address(12)?);
    socket.state = stream_state(message[2]);
    Some((inode.into(), socket))
}

/// Parses struct xdp_diag_msg.
pub fn parse_xdp(message: &[u8]) -> Option<(u64, Socket)> {
    let inode = u32_at(message, 4)?;
    let info = attribute(message.get(16..), XDP_DIAG_INFO);
    let at = |at| info.as_ref().and_then(|info| u32_at(info, at));
    Some((inode.into(), Socket::xdp(at(0).unwrap_or(0), at(4))))
}
