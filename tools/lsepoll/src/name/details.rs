// SPDX-License-Identifier: GPL-2.0

//! What fdinfo tells about files without a path. The kernel writes no names there.

use crate::process::Place;
use std::fs;

/// CLOCK_REALTIME and others, by number.
const CLOCKS: [(&str, &str); 5] = [
    ("0", "realtime"),
    ("1", "monotonic"),
    ("7", "boottime"),
    ("8", "realtime-alarm"),
    ("9", "boottime-alarm"),
];

/// Signals 1 to 31; those of other architectures than x86 and arm differ.
const SIGNALS: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
    "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
    "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

/// Keys and values for a kind of file.
pub fn of(place: &Place, kind: &str) -> Vec<(&'static str, String)> {
    if !["eventfd", "timerfd", "signalfd", "inotify", "pidfd"].contains(&kind) {
        return Vec::new();
    }
    let text = fs::read_to_string(place.path("fdinfo")).unwrap_or_default();
    let mut found = parse(kind, &text);
    if let Some(pid) = found
        .iter()
        .find(|(key, _)| *key == "pid")
        .map(|(_, pid)| pid)
    {
        if let Ok(comm) = fs::read(format!("/proc/{pid}/comm")) {
            let comm = comm.strip_suffix(b"\n").unwrap_or(&comm);
            found.push(("comm", String::from_utf8_lossy(comm).into_owned()));
        }
    }
    found
}

/// Parses fdinfo of a kind of file.
pub fn parse(kind: &str, text: &str) -> Vec<(&'static str, String)> {
    let value = |key: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(key))
            .map(str::trim)
    };
    let mut found = Vec::new();
    let mut add = |key, value: Option<String>| found.extend(value.map(|value| (key, value)));
    match kind {
        "eventfd" => {
            add("id", value("eventfd-id:").map(str::to_string));
            let count = value("eventfd-count:").and_then(|n| u64::from_str_radix(n, 16).ok());
            add("count", count.map(|count| count.to_string()));
        }
        "timerfd" => {
            let clock = value("clockid:");
            let name = CLOCKS.iter().find(|(number, _)| Some(*number) == clock);
            add("clock", name.map(|(_, name)| name.to_string()));
            add("remaining", value("it_value:").and_then(seconds));
            add("interval", value("it_interval:").and_then(seconds));
        }
        "signalfd" => {
            let mask = value("sigmask:").and_then(|mask| u64::from_str_radix(mask, 16).ok());
            add("signals", mask.map(signals));
        }
        "inotify" => {
            let watches = text.lines().filter(|line| line.starts_with("inotify "));
            add("watches", Some(watches.count().to_string()));
        }
        _ => match value("Pid:") {
            Some("-1") => add("process", Some("ended".to_string())),
            pid => add("pid", pid.map(str::to_string)),
        },
    }
    found
}

/// Seconds and nanoseconds in parentheses.
fn seconds(text: &str) -> Option<String> {
    let (seconds, nanoseconds) = text
        .strip_prefix('(')?
        .strip_suffix(')')?
        .split_once(", ")?;
    let (seconds, nanoseconds): (u64, u32) = (seconds.parse().ok()?, nanoseconds.parse().ok()?);
    let text = format!("{seconds}.{nanoseconds:09}");
    Some(format!(
        "{}s",
        text.trim_end_matches('0').trim_end_matches('.')
    ))
}

fn signals(mask: u64) -> String {
    let set = (0..64).filter(|bit| mask >> bit & 1 != 0);
    let name = |bit: usize| match SIGNALS.get(bit) {
        Some(name) => name.to_string(),
        None => (bit + 1).to_string(),
    };
    set.map(name).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fdinfo_of_each_kind() {
        let text = |kind, text| {
            let found = parse(kind, text);
            let found: Vec<_> = found
                .iter()
                .map(|(key, value)| format!("{key}={value}"))
                .collect();
            found.join(" ")
        };
        let timer = "pos:\t0\nclockid: 1\nticks: 0\nsettime flags: 00\nit_value: (9, 500000000)\n\
            it_interval: (10, 0)\n";
        assert_eq!(
            text("timerfd", timer),
            "clock=monotonic remaining=9.5s interval=10s"
        );
        assert_eq!(
            text("signalfd", "sigmask:\t0000000200004002\n"),
            "signals=INT,TERM,34"
        );
        let watches = "inotify wd:2 ino:1 sdev:8 mask:2\ninotify wd:1 ino:2 sdev:8 mask:2\n";
        assert_eq!(text("inotify", watches), "watches=2");
        assert_eq!(
            text("eventfd", "eventfd-count:  a\neventfd-id: 3\n"),
            "id=3 count=10"
        );
        assert_eq!(text("pidfd", "Pid:\t7\nNSpid:\t7\n"), "pid=7");
        assert_eq!(text("pidfd", "Pid:\t-1\n"), "process=ended");
        assert_eq!(seconds("(1, x)"), None);
    }
}
