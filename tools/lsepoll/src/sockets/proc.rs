// SPDX-License-Identifier: GPL-2.0

//! The sockets of any network namespace, from the files in /proc/PID/net.
//!
//! Only files that consist of numbers are read. /proc/PID/net/unix shows names unescaped: a name
//! with a newline in it passes for the line of another socket.

use super::{Protocol, Socket, Table, add, inet_name};
use crate::process::Pid;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Appends the sockets of a protocol, if there is a file that lists them.
pub fn read(pid: Pid, protocol: Protocol, table: &mut Table) {
    let mut parse_lines = |file: &str, parse: &dyn Fn(&str) -> Option<(u64, Socket)>| {
        // Protocols that this kernel does not have are missing.
        let text = fs::read_to_string(format!("/proc/{pid}/net/{file}")).unwrap_or_default();
        // The first line names the columns.
        text.lines()
            .skip(1)
            .for_each(|line| add(table, parse(line)));
    };
    match protocol {
        Protocol::Inet(protocol) => {
            let file = inet_name(protocol);
            for file in [file, &format!("{file}6")] {
                parse_lines(file, &|line| parse_inet(protocol, line));
            }
        }
        Protocol::Netlink => parse_lines("netlink", &parse_netlink),
        Protocol::Packet => parse_lines("packet", &parse_packet),
        Protocol::Unix | Protocol::Vsock | Protocol::Xdp => {}
    }
}

/// Parses a line of /proc/PID/net/tcp or a file with the same format.
pub fn parse_inet(protocol: libc::c_int, line: &str) -> Option<(u64, Socket)> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let local = parse_address(fields.get(1)?)?;
    let remote = parse_address(fields.get(2)?)?;
    let state = u8::from_str_radix(fields.get(3)?, 16).ok()?;
    let inode = fields.get(9)?.parse().ok()?;
    Some((inode, Socket::inet(protocol, local, remote, state)))
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

/// Parses a line of /proc/PID/net/netlink.
pub fn parse_netlink(line: &str) -> Option<(u64, Socket)> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let protocol = fields.get(1)?.parse().ok()?;
    let port = fields.get(2)?.parse().ok()?;
    let inode = fields.get(9)?.parse().ok()?;
    Some((inode, Socket::netlink(protocol, port)))
}

/// Parses a line of /proc/PID/net/packet.
pub fn parse_packet(line: &str) -> Option<(u64, Socket)> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let protocol = u16::from_str_radix(fields.get(3)?, 16).ok()?;
    let interface = fields.get(4)?.parse().ok()?;
    let inode = fields.get(8)?.parse().ok()?;
    Some((inode, Socket::packet(protocol, interface)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(found: Option<(u64, Socket)>) -> Option<(u64, String)> {
        found.map(|(inode, socket)| (inode, socket.text().to_string()))
    }

    #[cfg(target_endian = "little")]
    #[test]
    fn addresses() {
        let line = "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  \
                    1000        0 4711 1 0000000000000000 100 0 0 10 0";
        let expected = (4711, "tcp 127.0.0.1:8080 LISTEN".to_string());
        assert_eq!(text(parse_inet(libc::IPPROTO_TCP, line)), Some(expected));
        let line = "   1: 00000000000000000000000001000000:0050 \
                    B80D0120000000000000000001000000:C350 08 00000000:00000000 00:00000000 \
                    00000000     0        0 4712 1 0000000000000000 20 4 30 10 -1";
        let expected = "tcp [::1]:80 -> [2001:db8::1]:50000 CLOSE_WAIT".to_string();
        assert_eq!(
            text(parse_inet(libc::IPPROTO_TCP, line)),
            Some((4712, expected))
        );
        assert!(parse_inet(libc::IPPROTO_TCP, "0: 0100007F:1F90").is_none());
        let port = parse_address("0100007:1F90").map(|address| address.port());
        assert_eq!(port, Some(0x1f90));
    }

    #[test]
    fn netlink_and_packet_sockets() {
        let line =
            "0000000044b2123 15  4711   00000001 0        0        0     2        0        4715";
        let expected = (4715, "netlink kobject_uevent port 4711".to_string());
        assert_eq!(text(parse_netlink(line)), Some(expected));
        let line = "0000000044b2123 3      3    0003   2     1 0      0      4716";
        let expected = (4716, "packet protocol 0x0003, interface 2".to_string());
        assert_eq!(text(parse_packet(line)), Some(expected));
    }
}
