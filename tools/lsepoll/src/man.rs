// SPDX-License-Identifier: GPL-2.0

//! The manual page, made from the text of --help.

use crate::args::{self, SECTIONS, Section};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};
use std::io::{self, Write};

pub fn print(out: &mut impl Write) -> io::Result<()> {
    let usage = args::command().render_usage().to_string();
    let man = Man::new(args::command());
    man.render_title(out)?;
    man.render_name_section(out)?;
    let mut roff = Roff::new();
    roff.control("SH", ["SYNOPSIS"]);
    roff.text([roman(usage.trim_start_matches("Usage: "))]);
    roff.to_writer(out)?;
    man.render_description_section(out)?;
    man.render_options_section(out)?;
    let mut roff = Roff::new();
    for Section { title, text, terms } in SECTIONS {
        roff.control("SH", [title.to_uppercase().as_str()]);
        if !text.is_empty() {
            roff.text([roman(*text)]);
        }
        for (term, meaning) in *terms {
            roff.control("TP", []);
            roff.text([bold(*term)]);
            roff.text([roman(*meaning)]);
        }
    }
    roff.control("SH", ["SEE ALSO"]);
    roff.text([roman(
        "epoll(7), kcmp(2), proc_pid_fdinfo(5), lsof(8), lsfd(1)",
    )]);
    roff.to_writer(out)
}
