// SPDX-License-Identifier: GPL-2.0

//! Malformed lines of /proc.

use crate::sockets::{diag, proc};
use crate::tap::{Outcome, same};
use crate::{fdinfo, process};
use std::panic::catch_unwind;
use std::time::{SystemTime, UNIX_EPOCH};

const STEPS: u64 = 200_000;

const TEXTS: [&str; 5] = [
    "pos:\t0\nflags:\t02\nmnt_id:\t15\nino:\t2062\n\
     tfd:        9 events:       19 data:                1  pos:0 ino:2d1f sdev:8\n\
     tfd:        9 events: 80000019 data: ffffffffffffffff  pos:0 ino:80e sdev:e\n",
    "7 (a (b) c) S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 3 0 4711 0 0\n",
    "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000 0 4711 1\n",
    "   1: 00000000000000000000000001000000:0050 B80D0120000000000000000001000000:C350 01 \
     00000000:00000000 00:00000000 00000000 0 0 4712 1\n",
    "ffff9d2b: 00000002 00000000 00010000 0001 01 4713 /run/a b\n",
];

struct Random(u64);

impl Random {
    /// A number below `end`.
    fn below(&mut self, end: usize) -> usize {
        // xorshift64
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }

    fn mutate(&mut self, text: &str) -> String {
        let mut bytes = text.as_bytes().to_vec();
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len());
            let digit = b"0123456789abcdefF-: ()\n\t"[self.below(24)];
            match self.below(7) {
                0 => bytes[at] = self.below(256) as u8,
                1 => bytes[at] = digit,
                2 => bytes.insert(at, digit),
                3 => drop(bytes.remove(at)),
                4 => bytes.truncate(at + 1),
                5 => {
                    let end = at + self.below(bytes.len() - at);
                    bytes.drain(at..end);
                }
                _ => {
                    let end = at + self.below(bytes.len() - at);
                    let part = bytes[at..end].to_vec();
                    bytes.splice(at..at, part);
                }
            }
            if bytes.is_empty() {
                break;
            }
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// Passes a text to all parsers. Returns whether toff counts up from 0 for each tfd.
fn parse(text: &str) -> bool {
    process::parse_stat(text.as_bytes());
    proc::parse_inet(libc::IPPROTO_TCP, text);
    proc::parse_netlink(text);
    proc::parse_packet(text);
    for parse in [
        diag::parse_unix,
        diag::parse_netlink,
        diag::parse_packet,
        diag::parse_vsock,
        diag::parse_xdp,
    ] {
        parse(text.as_bytes());
    }
    diag::parse_inet(text.as_bytes(), libc::IPPROTO_TCP);
    let Ok(entries) = fdinfo::parse(text) else {
        return true;
    };
    let lines = text.lines().filter(|line| line.starts_with("tfd:")).count();
    let counts_up = entries.chunk_by(|a, b| a.tfd == b.tfd).all(|chunk| {
        let mut toffs = chunk.iter().map(|entry| entry.toff);
        (0..).zip(&mut toffs).all(|(n, toff)| n == toff)
    });
    entries.len() == lines && counts_up
}

/// `LSEPOLL_TEST_SEED` repeats a run.
pub fn fuzzed_proc() -> Outcome {
    let seed = match std::env::var("LSEPOLL_TEST_SEED") {
        Ok(seed) => seed.parse()?,
        Err(_) => SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos() as u64 | 1,
    };
    println!("# seed {seed}");
    let mut random = Random(seed);
    let mut accepted = 0;
    for _ in 0..STEPS {
        let text = TEXTS[random.below(TEXTS.len())];
        let text = random.mutate(text);
        match catch_unwind(|| parse(&text)) {
            Ok(true) => accepted += u64::from(fdinfo::parse(&text).is_ok_and(|e| !e.is_empty())),
            Ok(false) => return Err(format!("wrong entries from {text:?}").into()),
            Err(_) => return Err(format!("a panic from {text:?}").into()),
        }
    }
    println!("# {accepted} of {STEPS} texts have entries");
    // Mutations that nothing accepts would test little.
    same(accepted > STEPS / 50, true)
}
