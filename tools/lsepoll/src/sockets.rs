// SPDX-License-Identifier: GPL-2.0

//! Addresses of sockets, from /proc/PID/net.

use crate::process::Pid;
use std::collections::HashMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

const INET: [&str; 10] = [
    "tcp", "tcp6", "udp", "udp6", "udplite", "udplite6", "raw", "raw6", "icmp", "icmp6",
];

/// TCP_LISTEN of net/tcp_states.h, as printed in /proc/PID/net/tcp.
const TCP_LISTEN: &str = "0A";
/// __SO_ACCEPTCON, the flag of a listening unix socket.
const UNIX_LISTEN: u32 = 1 << 16;

type ByInode = HashMap<u64, String>;

/// The sockets of each network namespace that was needed so far.
#[derive(Default)]
pub struct Sockets {
    namespaces: HashMap<PathBuf, ByInode>,
}

impl Sockets {
    /// Protocol and addresses of a socket, if it is in the network namespace of process `pid`.
    pub fn address(&mut self, pid: Pid, inode: u64) -> Option<&str> {
        // Without CONFIG_NET_NS, there is no link, and only one namespace.
        let namespace = fs::read_link(format!("/proc/{pid}/ns/net")).unwrap_or_default();
        let sockets = self
            .namespaces
            .entry(namespace)
            .or_insert_with(|| read(pid));
        sockets.get(&inode).map(String::as_str)
    }
}

fn read(pid: Pid) -> ByInode {
    let mut sockets = HashMap::new();
    let mut parse_lines = |protocol: &str, parse: &dyn Fn(&str) -> Option<(u64, String)>| {
        // Protocols that this kernel does not have are missing.
        if let Ok(text) = fs::read(format!("/proc/{pid}/net/{protocol}")) {
            let text = String::from_utf8_lossy(&text);
            // The first line names the columns.
            sockets.extend(text.lines().skip(1).filter_map(parse));
        }
    };
    for protocol in INET {
        parse_lines(protocol, &|line| parse_inet(protocol, line));
    }
    parse_lines("unix", &parse_unix);
    parse_lines("netlink", &parse_netlink);
    parse_lines("packet", &parse_packet);
    sockets
}

/// Parses a line of /proc/PID/net/tcp or a file with the same format.
pub fn parse_inet(protocol: &str, line: &str) -> Option<(u64, String)> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let local = parse_address(fields.get(1)?)?;
    let remote = parse_address(fields.get(2)?)?;
    let inode = fields.get(9)?.parse().ok()?;
    let text = if remote.port() != 0 {
        format!("{protocol} {local} -> {remote}")
    } else if *fields.get(3)? == TCP_LISTEN && protocol.starts_with("tcp") {
        format!("{protocol} {local} listening")
    } else {
        format!("{protocol} {local}")
    };
    Some((inode, text))
}

/// Parses an address, as words in host byte order, and a port: `0100007F:0050`.
fn parse_address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let mut bytes = Vec::new();
    for word in address.as_bytes().chunks(8) {
        let word = u32::from_str_radix(std::str::from_utf8(word).ok()?, 16).ok()?;
        bytes.extend(word.to_ne_bytes());
    }
    let address = if let Ok(bytes) = <[u8; 4]>::try_from(&bytes[..]) {
        IpAddr::from(Ipv4Addr::from(bytes))
    } else {
        IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(&bytes[..]).ok()?))
    };
    Some(SocketAddr::new(address, port))
}

/// Parses a line of /proc/PID/net/unix.
pub fn parse_unix(line: &str) -> Option<(u64, String)> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let inode = fields.get(6)?.parse().ok()?;
    let mut text = match *fields.get(4)? {
        "0001" => "unix stream",
        "0002" => "unix dgram",
        "0005" => "unix seqpacket",
        _ => "unix",
    }
    .to_string();
    if let Some(path) = fields.get(7) {
        // The path may have spaces, and is the rest of the line.
        let start = path.as_ptr() as usize - line.as_ptr() as usize;
        text.push(' ');
        text.push_str(&line[start..]);
    }
    if u32::from_str_radix(fields.get(3)?, 16).ok()? & UNIX_LISTEN != 0 {
        text.push_str(" listening");
    }
    Some((inode, text))
}

/// Parses a line of /proc/PID/net/netlink.
pub fn parse_netlink(line: &str) -> Option<(u64, String)> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (protocol, port) = (fields.get(1)?, fields.get(2)?);
    let inode = fields.get(9)?.parse().ok()?;
    Some((inode, format!("netlink protocol {protocol}, port {port}")))
}

/// Parses a line of /proc/PID/net/packet.
pub fn parse_packet(line: &str) -> Option<(u64, String)> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (protocol, interface) = (fields.get(3)?, fields.get(4)?);
    let inode = fields.get(8)?.parse().ok()?;
    Some((
        inode,
        format!("packet protocol 0x{protocol}, interface {interface}"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_endian = "little")]
    #[test]
    fn addresses() {
        let line = "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  \
                    1000        0 4711 1 0000000000000000 100 0 0 10 0";
        let expected = (4711, "tcp 127.0.0.1:8080 listening".to_string());
        assert_eq!(parse_inet("tcp", line), Some(expected));
        let line = "   1: 00000000000000000000000001000000:0050 \
                    B80D0120000000000000000001000000:C350 01 00000000:00000000 00:00000000 \
                    00000000     0        0 4712 1 0000000000000000 20 4 30 10 -1";
        let expected = (4712, "tcp6 [::1]:80 -> [2001:db8::1]:50000".to_string());
        assert_eq!(parse_inet("tcp6", line), Some(expected));
        assert_eq!(parse_inet("tcp", "0: 0100007F:1F90"), None);
        assert_eq!(
            parse_address("0100007:1F90").map(|a| a.port()),
            Some(0x1f90)
        );
    }

    #[test]
    fn unix_sockets() {
        let line = "ffff9d2b: 00000002 00000000 00010000 0001 01 4713 /run/a b";
        let expected = (4713, "unix stream /run/a b listening".to_string());
        assert_eq!(parse_unix(line), Some(expected));
        let line = "ffff9d2b: 00000003 00000000 00000000 0005 03 4714";
        assert_eq!(parse_unix(line), Some((4714, "unix seqpacket".to_string())));
    }

    #[test]
    fn netlink_and_packet_sockets() {
        let line =
            "0000000044b2123 15  4711   00000001 0        0        0     2        0        4715";
        let expected = (4715, "netlink protocol 15, port 4711".to_string());
        assert_eq!(parse_netlink(line), Some(expected));
        let line = "0000000044b2123 3      3    0003   2     1 0      0      4716";
        let expected = (4716, "packet protocol 0x0003, interface 2".to_string());
        assert_eq!(parse_packet(line), Some(expected));
    }
}
