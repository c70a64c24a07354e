// SPDX-License-Identifier: GPL-2.0

//! System-wide counts of objects in use.

use std::fs;
use std::io;

/// Reads the first number of a file.
pub fn first_number(path: &str) -> io::Result<u64> {
    let named = |e: io::Error| io::Error::new(e.kind(), format!("{path}: {e}"));
    let text = fs::read_to_string(path).map_err(named)?;
    let number = text.split_whitespace().next().map(str::parse);
    number
        .and_then(Result::ok)
        .ok_or_else(|| io::Error::other(format!("{path}: {text}")))
}

/// The number of open files, summed over all CPUs by the kernel.
pub fn count_open_files() -> io::Result<u64> {
    first_number("/proc/sys/fs/file-nr")
}

/// The number of objects of a slab cache that are in use.
///
/// Shrinks the cache first: free objects that are cached per CPU, or quarantined by KASAN, would
/// count as in use.
///
/// Fails with [`io::ErrorKind::NotFound`] if the cache has no directory in sysfs, or if the kernel
/// has merged it with others.
pub fn count_objects(cache: &str) -> io::Result<u64> {
    let attribute = |name| format!("/sys/kernel/slab/{cache}/{name}");
    if first_number(&attribute("aliases"))? > 0 {
        let why = format!("the slab cache {cache} has other users");
        return Err(io::Error::new(io::ErrorKind::NotFound, why));
    }
    fs::write(attribute("shrink"), "1")?;
    first_number(&attribute("objects"))
}
