// SPDX-License-Identifier: GPL-2.0

//! When a search has to end, and the progress bar on stderr that is shown meanwhile.

use crate::limits;
use indicatif::{ProgressBar, ProgressStyle};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

extern "C" fn interrupt(_: libc::c_int) {
    INTERRUPTED.store(true, Relaxed);
}

/// Makes SIGINT end the search, and the next one lsepoll.
pub fn catch_interrupt() {
    // SAFETY: All bits zero is a valid `sigaction`, and the handler only stores a value.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = interrupt as *const () as usize;
        action.sa_flags = libc::SA_RESETHAND | libc::SA_RESTART;
        libc::sigaction(libc::SIGINT, &action, std::ptr::null_mut());
    }
}

pub fn is_interrupted() -> bool {
    INTERRUPTED.load(Relaxed)
}

pub struct Control {
    started: Instant,
    timeout: Option<Duration>,
    phase: &'static str,
    steps: u64,
    done: u64,
    bar: Option<ProgressBar>,
}

impl Control {
    pub fn new(timeout: Option<Duration>) -> Control {
        Control {
            started: Instant::now(),
            timeout,
            phase: "",
            steps: 0,
            done: 0,
            bar: None,
        }
    }

    /// Whether the search has to end now.
    pub fn is_over(&self) -> bool {
        is_interrupted() || self.is_late()
    }

    pub fn is_late(&self) -> bool {
        (self.timeout).is_some_and(|timeout| self.started.elapsed() >= timeout)
    }

    /// Begins a phase of about `steps` steps.
    pub fn begin(&mut self, phase: &'static str, steps: usize) {
        (self.phase, self.steps, self.done) = (phase, steps as u64, 0);
        if let Some(bar) = &self.bar {
            bar.set_message(phase);
            bar.set_length(self.steps);
            bar.set_position(0);
        }
    }

    /// Returns whether the search may go on.
    pub fn step(&mut self) -> bool {
        self.done += 1;
        if self.bar.is_none() && self.started.elapsed() >= limits::PROGRESS {
            // Draws to stderr, and only if that is a terminal.
            let style = ProgressStyle::with_template("{msg} [{wide_bar}] {pos}/{len}")
                .expect("the template is valid");
            self.bar = Some(ProgressBar::new(self.steps).with_style(style));
            if let Some(bar) = &self.bar {
                bar.set_message(self.phase);
            }
        }
        if let Some(bar) = &self.bar {
            bar.set_position(self.done);
        }
        !self.is_over()
    }

    /// Hides the progress bar while `print` runs.
    pub fn pause<R>(&self, print: impl FnOnce() -> R) -> R {
        match &self.bar {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
