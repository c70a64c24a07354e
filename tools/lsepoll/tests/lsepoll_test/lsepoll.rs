// SPDX-License-Identifier: GPL-2.0

//! Runs lsepoll.

use crate::schema;
use crate::tap::{Outcome, contains, same};
use serde_json::Value;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// The path of lsepoll.
pub fn program() -> PathBuf {
    let beside = std::env::current_exe().map(|exe| exe.with_file_name("lsepoll"));
    match beside {
        Ok(path) if path.is_file() => path,
        _ => env!("CARGO_BIN_EXE_lsepoll").into(),
    }
}

/// Output and exit status.
#[derive(Debug)]
pub struct Ran {
    pub out: String,
    pub err: String,
    pub status: Option<i32>,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Ran {
        Ran {
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
            status: output.status.code(),
        }
    }
}

/// Runs lsepoll.
pub fn run(args: &[&str]) -> Result<Ran, Box<dyn Error>> {
    run_as(command(&program(), args))
}

pub fn command(program: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null());
    command
}

pub fn run_as(mut command: Command) -> Result<Ran, Box<dyn Error>> {
    Ok(command.output()?.into())
}

impl Ran {
    /// The output, if lsepoll has succeeded and printed nothing to stderr.
    pub fn quiet(self) -> Result<String, Box<dyn Error>> {
        same((self.err.as_str(), self.status), ("", Some(0)))
            .map_err(|e| format!("{e}\n{}", self.out))?;
        Ok(self.out)
    }

    /// The epoll instances and the summary that lsepoll has printed as JSON. It succeeds if all
    /// processes could be inspected, or does not matter that some could not.
    pub fn json(&self) -> Result<(Vec<Value>, Value), Box<dyn Error>> {
        let (instances, summary) = schema::check(&self.out)?;
        same(self.err.as_str(), "")?;
        same(summary["status"].as_i64(), self.status.map(i64::from))?;
        let is_complete = summary["complete"].as_bool() == Some(true);
        same(self.status, Some(if is_complete { 0 } else { 3 }))?;
        Ok((instances, summary))
    }

    /// Expects an error, and nothing on stdout.
    pub fn fails_with(&self, message: &str) -> Outcome {
        same((self.out.as_str(), self.status), ("", Some(2)))?;
        contains(&self.err, message)
    }
}

/// The lines below the tables: causes, cures and repair.
pub fn advice(out: &str) -> Vec<&str> {
    out.lines().filter(|line| is_advice(line)).collect()
}

fn is_advice(line: &str) -> bool {
    ["fd ", "fds ", "To ", "  gdb "]
        .iter()
        .any(|start| line.starts_with(start))
}

/// The lines of a listing without advice, cells separated by " | ".
pub fn lines(out: &str) -> Vec<String> {
    let line = |line: &str| {
        let cells: Vec<_> = line
            .split("  ")
            .map(str::trim)
            .filter(|cell| !cell.is_empty())
            .collect();
        cells.join(" | ")
    };
    let mut lines = Vec::new();
    let mut last_was_advice = false;
    for text in out.lines() {
        if is_advice(text) {
            // The empty line before it.
            if !last_was_advice {
                lines.pop();
            }
        } else {
            lines.push(line(text));
        }
        last_was_advice = is_advice(text);
    }
    lines
}
