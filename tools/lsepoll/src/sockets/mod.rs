// SPDX-License-Identifier: GPL-2.0

//! What the kernel tells about sockets.
//!
//! The first source that knows a socket is believed: sock_diag(7), then /proc/PID/net, then the
//! socket itself.

pub mod ask;
pub mod diag;
pub mod proc;

use crate::bytes::Bytes;
use crate::process::{Pid, Place};
use std::collections::HashMap;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Sockets that one table of the kernel lists.
#[derive(Clone, Copy, Debug)]
pub enum Protocol {
    Inet(libc::c_int),
    Unix,
    Netlink,
    Packet,
    Vsock,
    Xdp,
}

const PROTOCOLS: [Protocol; 11] = [
    // Its first connection may be listed for TCP, too, with the same inode.
    Protocol::Inet(libc::IPPROTO_MPTCP),
    Protocol::Inet(libc::IPPROTO_TCP),
    Protocol::Inet(libc::IPPROTO_UDP),
    Protocol::Inet(libc::IPPROTO_UDPLITE),
    Protocol::Inet(libc::IPPROTO_RAW),
    Protocol::Inet(libc::IPPROTO_ICMP),
    Protocol::Unix,
    Protocol::Netlink,
    Protocol::Packet,
    Protocol::Vsock,
    Protocol::Xdp,
];

/// See net/tcp_states.h.
const STATES: [&str; 13] = [
    "ESTABLISHED",
    "SYN_SENT",
    "SYN_RECV",
    "FIN_WAIT1",
    "FIN_WAIT2",
    "TIME_WAIT",
    "CLOSE",
    "CLOSE_WAIT",
    "LAST_ACK",
    "LISTEN",
    "CLOSING",
    "NEW_SYN_RECV",
    // BOUND_INACTIVE, which only sock_diag(7) tells apart.
    "CLOSE",
];

/// See linux/netlink.h.
const NETLINK_FAMILIES: [&str; 23] = [
    "route",
    "unused",
    "usersock",
    "firewall",
    "sock_diag",
    "nflog",
    "xfrm",
    "selinux",
    "iscsi",
    "audit",
    "fib_lookup",
    "connector",
    "netfilter",
    "ip6_fw",
    "dnrtmsg",
    "kobject_uevent",
    "generic",
    "dm",
    "scsitransport",
    "ecryptfs",
    "rdma",
    "crypto",
    "smc",
];

/// Protocols whose sockets are of no use until they are bound or connected.
const CONNECTIONS: [&str; 4] = ["mptcp", "tcp", "udp", "udplite"];

/// Sockets by inode.
pub type Table = HashMap<u64, Socket>;

/// Adds a socket, unless an earlier source has it.
fn add(table: &mut Table, found: Option<(u64, Socket)>) {
    // A socket without a file has inode 0.
    if let Some((inode, socket)) = found.filter(|(inode, _)| *inode != 0) {
        table.entry(inode).or_insert(socket);
    }
}

/// What is known about a socket.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Socket {
    /// Such as `tcp` or `unix stream`.
    pub protocol: String,
    /// An abstract address begins with `@`.
    pub local: Option<Bytes>,
    pub remote: Option<Bytes>,
    /// As the kernel calls it; `None` if the protocol has none.
    pub state: Option<&'static str>,
    /// The path that a unix socket is bound to.
    pub path: Option<Bytes>,
    /// The inode of the other end of a unix socket.
    pub peer: Option<u64>,
}

impl Socket {
    fn new(protocol: impl Into<String>) -> Socket {
        Socket {
            protocol: protocol.into(),
            local: None,
            remote: None,
            state: None,
            path: None,
            peer: None,
        }
    }

    fn inet(protocol: libc::c_int, local: SocketAddr, remote: SocketAddr, state: u8) -> Socket {
        let is_set = |a: &SocketAddr| a.port() != 0 || !a.ip().is_unspecified();
        let address = |a: SocketAddr| Some(a).filter(is_set).map(|a| Bytes::from(a.to_string()));
        let is_stream = [libc::IPPROTO_TCP, libc::IPPROTO_MPTCP].contains(&protocol);
        // Protocols without connections are CLOSE unless they are connected.
        let state = if is_stream {
            state_name(state)
        } else {
            stream_state(state)
        };
        Socket {
            local: address(local),
            remote: address(remote),
            state,
            ..Socket::new(inet_name(protocol))
        }
    }

    fn unix(kind: libc::c_int) -> Socket {
        Socket::new(format!("unix{}", kind_name(kind)))
    }

    fn bind_unix(&mut self, name: &[u8]) {
        self.local = unix_address(name);
        self.path = self.local.clone().filter(|_| name.first() != Some(&0));
    }

    fn netlink(family: libc::c_int, port: u32) -> Socket {
        let name = usize::try_from(family)
            .ok()
            .and_then(|n| NETLINK_FAMILIES.get(n));
        let name = name.map_or_else(|| family.to_string(), |name| name.to_string());
        Socket {
            local: (port != 0).then(|| format!("port {port}").into()),
            ..Socket::new(format!("netlink {name}"))
        }
    }

    fn packet(protocol: u16, interface: u32) -> Socket {
        Socket {
            local: Some(format!("protocol {protocol:#06x}, interface {interface}").into()),
            ..Socket::new("packet")
        }
    }

    fn vsock(kind: libc::c_int, local: (u32, u32), remote: (u32, u32)) -> Socket {
        let address = |(cid, port): (u32, u32)| {
            let cid = match cid {
                libc::VMADDR_CID_ANY => "*".to_string(),
                cid => cid.to_string(),
            };
            (port != u32::MAX).then(|| format!("{cid}:{port}").into())
        };
        Socket {
            local: address(local),
            remote: address(remote),
            ..Socket::new(format!("vsock{}", kind_name(kind)))
        }
    }

    fn xdp(interface: u32, queue: Option<u32>) -> Socket {
        let queue = queue.filter(|_| interface != 0);
        Socket {
            local: queue.map(|queue| format!("interface {interface}, queue {queue}").into()),
            ..Socket::new("xdp")
        }
    }

    /// The socket as text, in the form `tcp LOCAL -> REMOTE STATE`.
    pub fn text(&self) -> Bytes {
        let mut text = self.protocol.clone().into_bytes();
        let mut append = |parts: &[&[u8]]| parts.iter().for_each(|part| text.extend(*part));
        match (&self.local, &self.path) {
            // Not an abstract address.
            (Some(local), Some(path)) if path.starts_with(b"@") => append(&[b" ./", local]),
            (Some(local), _) => append(&[b" ", local]),
            (None, _) if self.remote.is_none() && CONNECTIONS.contains(&&self.protocol[..]) => {
                append(&[b" unbound"]);
            }
            (None, _) => {}
        }
        if let Some(remote) = &self.remote {
            append(&[b" -> ", remote]);
        }
        if let Some(state) = self.state.filter(|state| *state != "ESTABLISHED") {
            append(&[b" ", state.as_bytes()]);
        }
        text.into()
    }
}

fn inet_name(protocol: libc::c_int) -> &'static str {
    match protocol {
        libc::IPPROTO_MPTCP => "mptcp",
        libc::IPPROTO_TCP => "tcp",
        libc::IPPROTO_UDP => "udp",
        libc::IPPROTO_UDPLITE => "udplite",
        libc::IPPROTO_ICMP => "icmp",
        _ => "raw",
    }
}

/// The protocol with the files of another one.
fn inet_protocol(protocol: libc::c_int) -> libc::c_int {
    match protocol {
        libc::IPPROTO_ICMPV6 => libc::IPPROTO_ICMP,
        protocol => protocol,
    }
}

fn state_name(state: u8) -> Option<&'static str> {
    STATES.get(usize::from(state).checked_sub(1)?).copied()
}

/// The state of a socket that is CLOSE, too, where it has no connections.
fn stream_state(state: u8) -> Option<&'static str> {
    state_name(state).filter(|state| ["ESTABLISHED", "LISTEN"].contains(state))
}

fn kind_name(kind: libc::c_int) -> &'static str {
    match kind {
        libc::SOCK_STREAM => " stream",
        libc::SOCK_DGRAM => " dgram",
        libc::SOCK_SEQPACKET => " seqpacket",
        _ => "",
    }
}

/// A name as in struct sockaddr_un: a path that ends with a NUL, or a NUL and an abstract address,
/// which some programs fill up with NULs.
fn unix_address(name: &[u8]) -> Option<Bytes> {
    let is_nul = |byte: &u8| *byte == 0;
    match name.split_first()? {
        (0, rest) => {
            let end = rest
                .iter()
                .rposition(|byte| !is_nul(byte))
                .map_or(0, |at| at + 1);
            Some([b"@", &rest[..end]].concat().into())
        }
        _ => Some(name.split(is_nul).next()?.to_vec().into()),
    }
}

/// The sockets of each network namespace that was needed so far.
#[derive(Default)]
pub struct Sockets {
    own: Option<Table>,
    namespaces: HashMap<PathBuf, Table>,
    /// As on a kernel without sock_diag(7).
    #[doc(hidden)]
    pub without_diag: bool,
}

impl Sockets {
    /// What is known about a socket that is open at `place`.
    pub fn find(&mut self, place: &Place, inode: u64) -> Option<Socket> {
        if let Some(socket) = self.listed(place.table.pid, inode) {
            return Some(socket.clone());
        }
        ask::ask(place, inode)
    }

    /// A socket in the network namespace of lsepoll or of process `pid`.
    pub fn listed(&mut self, pid: Pid, inode: u64) -> Option<&Socket> {
        let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/net"));
        let own_pid = std::process::id() as Pid;
        let without_diag = self.without_diag;
        let own = self.own.get_or_insert_with(|| read(own_pid, !without_diag));
        if own.contains_key(&inode) {
            return own.get(&inode);
        }
        // Without CONFIG_NET_NS, there is no link, and only one namespace.
        let theirs = namespace(&pid.to_string()).ok()?;
        if namespace("self").is_ok_and(|own| own == theirs) {
            return None;
        }
        let table = self
            .namespaces
            .entry(theirs)
            .or_insert_with(|| read(pid, false));
        table.get(&inode)
    }
}

fn read(pid: Pid, is_own: bool) -> Table {
    let mut table = Table::new();
    for protocol in PROTOCOLS {
        if !is_own || diag::read(protocol, &mut table).is_err() {
            proc::read(pid, protocol, &mut table);
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unix_addresses() {
        let address = |name: &[u8]| unix_address(name).map(|name| name.to_vec());
        assert_eq!(address(b"/run/a b\0"), Some(b"/run/a b".to_vec()));
        assert_eq!(address(b"\0abc\0\0\0"), Some(b"@abc".to_vec()));
        assert_eq!(address(b"\0a\0c\0"), Some(b"@a\0c".to_vec()));
        assert_eq!(address(b"\0\0"), Some(b"@".to_vec()));
        assert_eq!(address(b""), None);
        let mut socket = Socket::unix(libc::SOCK_DGRAM);
        socket.bind_unix(b"@x\0");
        assert_eq!(socket.text().to_string(), "unix dgram ./@x");
        socket.bind_unix(b"\0x");
        assert_eq!(socket.text().to_string(), "unix dgram @x");
        assert_eq!(socket.path, None);
    }

    #[test]
    fn the_first_source_wins() {
        let mut table = Table::new();
        for (inode, name) in [(7, "tcp"), (7, "unix"), (0, "unix")] {
            add(&mut table, Some((inode, Socket::new(name))));
        }
        assert_eq!(table.len(), 1);
        assert_eq!(table[&7].protocol, "tcp");
    }
}
