// SPDX-License-Identifier: GPL-2.0

//! Generates the bindings with bindgen. In the environment,
//! `BINDGEN` names the program, and `KHDR_INCLUDES` has the flags to find other kernel headers than
//! those of the system.

use std::env;
use std::error::Error;
use std::fs;
use std::path::Path;
use std::process::Command;

const PARAMETERS: &str = "bindgen_parameters";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=bindings.h");
    println!("cargo::rerun-if-changed={PARAMETERS}");
    for name in ["BINDGEN", "KHDR_INCLUDES"] {
        println!("cargo::rerun-if-env-changed={name}");
    }

    let bindgen = env::var("BINDGEN").unwrap_or("bindgen".to_string());
    let parameters = fs::read_to_string(PARAMETERS)?;
    let parameters = parameters.lines().filter(|line| !line.starts_with('#'));
    let status = Command::new(&bindgen)
        .arg("bindings.h")
        .args(parameters.flat_map(str::split_whitespace))
        .arg("-o")
        .arg(Path::new(&env::var("OUT_DIR")?).join("bindings.rs"))
        .arg("--")
        .arg(format!("--target={}", env::var("TARGET")?))
        .args(
            env::var("KHDR_INCLUDES")
                .unwrap_or_default()
                .split_whitespace(),
        )
        .status()
        .map_err(|e| format!("{bindgen}: {e}: install bindgen, or set BINDGEN"))?;
    status
        .success()
        .then_some(())
        .ok_or_else(|| format!("{bindgen}: {status}").into())
}
