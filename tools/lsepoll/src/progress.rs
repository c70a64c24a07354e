// SPDX-License-Identifier: GPL-2.0

//! A progress bar on stderr, shown after a second.

use indicatif::{ProgressBar, ProgressStyle};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(1);

pub struct Progress {
    started: Instant,
    phase: &'static str,
    steps: u64,
    done: u64,
    bar: Option<ProgressBar>,
}

impl Progress {
    pub fn new() -> Progress {
        Progress {
            started: Instant::now(),
            phase: "",
            steps: 0,
            done: 0,
            bar: None,
        }
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

    pub fn step(&mut self) {
        self.done += 1;
        if self.bar.is_none() && self.started.elapsed() >= PATIENCE {
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
    }
}

impl Default for Progress {
    fn default() -> Progress {
        Progress::new()
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
