// SPDX-License-Identifier: GPL-2.0

//! Names of epoll events.

const NAMES: [(u32, &str); 16] = [
    (1 << 0, "IN"),
    (1 << 1, "PRI"),
    (1 << 2, "OUT"),
    (1 << 3, "ERR"),
    (1 << 4, "HUP"),
    (1 << 5, "NVAL"),
    (1 << 6, "RDNORM"),
    (1 << 7, "RDBAND"),
    (1 << 8, "WRNORM"),
    (1 << 9, "WRBAND"),
    (1 << 10, "MSG"),
    (1 << 13, "RDHUP"),
    (1 << 28, "EXCLUSIVE"),
    (1 << 29, "WAKEUP"),
    (1 << 30, "ONESHOT"),
    (1 << 31, "ET"),
];

/// EPOLLERR and EPOLLHUP, which the kernel adds to each armed entry.
const ALWAYS: u32 = 1 << 3 | 1 << 4;

/// Flags that are not events.
const FLAGS: u32 = 0xf << 28;

/// The names, without the EPOLL prefix. Bits without a name are combined in hexadecimal.
pub fn names(events: u32) -> Vec<String> {
    let mut names = Vec::new();
    let mut rest = events;
    for (bit, name) in NAMES {
        if events & bit != 0 {
            names.push(name.to_string());
            rest &= !bit;
        }
    }
    if rest != 0 {
        names.push(format!("{rest:#x}"));
    }
    names
}

/// The events as text, without those that are always reported if there are others.
pub fn describe(events: u32) -> String {
    let shown = match events & !ALWAYS {
        // Nothing else was asked for.
        shown if shown & !FLAGS == 0 => events,
        shown => shown,
    };
    let names = names(shown).join("|");
    match events & !FLAGS {
        // EPOLLONESHOT: the kernel clears all events when it has reported one.
        0 if names.is_empty() => "disarmed".to_string(),
        0 => format!("{names} (disarmed)"),
        _ => names,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_by_name() {
        assert_eq!(describe(0x19), "IN");
        assert_eq!(describe(0x18), "ERR|HUP");
        assert_eq!(describe(0x8000_2019), "IN|RDHUP|ET");
        assert_eq!(describe(0x1000_001d), "IN|OUT|EXCLUSIVE");
        assert_eq!(describe(0x4000_0000), "ONESHOT (disarmed)");
        assert_eq!(describe(0x0080_0019), "IN|0x800000");
        assert_eq!(describe(0), "disarmed");
    }
}
