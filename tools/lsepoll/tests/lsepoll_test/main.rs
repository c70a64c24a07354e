// SPDX-License-Identifier: GPL-2.0

//! Tests of lsepoll, run by cargo, or in a guest without it. Prints TAP.
//!
//! Looks for lsepoll beside itself, then where cargo has built it. Arguments select tests whose
//! names contain one of them. `--bench-entries NUMBER` prints a table of times instead.

mod bench;
mod busy;
mod calls;
mod cases;
mod changes;
mod ends;
mod errors;
mod fuzz;
mod held;
mod lsepoll;
mod names;
mod output;
mod scene;
mod schema;
mod shared;
mod tap;
mod ways;

// Parts of lsepoll, which has no library.
#[allow(dead_code, unused_imports)]
#[path = "../../src/bytes.rs"]
mod bytes;
#[allow(dead_code, unused_imports)]
#[path = "../../src/error.rs"]
mod error;
#[allow(dead_code, unused_imports)]
#[path = "../../src/fdinfo.rs"]
mod fdinfo;
#[allow(dead_code, unused_imports)]
#[path = "../../src/kcmp.rs"]
mod kcmp;
#[allow(dead_code, unused_imports)]
#[path = "../../src/name/mod.rs"]
mod name;
#[allow(dead_code, unused_imports)]
#[path = "../../src/process.rs"]
mod process;
#[allow(dead_code, unused_imports)]
#[path = "../../src/sockets/mod.rs"]
mod sockets;

use std::process::ExitCode;
use tap::Test;

/// The tests on a kernel without kcmp(2) or epoll(7).
const UNSUPPORTED: &[(&str, Test)] = &[("unsupported_kernel", errors::unsupported_kernel)];

const TESTS: &[(&str, Test)] = &[
    ("demo", output::demo),
    ("dup", ways::dup),
    ("fork", ways::fork),
    ("exec", ways::exec),
    ("exec_close_on_exec", ways::exec_close_on_exec),
    ("in_flight", ways::in_flight),
    ("received", ways::received),
    ("reused_fd", ways::reused_fd),
    ("reused_fd_in_flight", ways::reused_fd_in_flight),
    ("shared_epoll", ways::shared_epoll),
    ("thread_with_own_table", ways::thread_with_own_table),
    ("nested_epoll", ways::nested_epoll),
    ("two_entries_of_a_file", ways::two_entries_of_a_file),
    ("entries_with_the_same_fd", ways::entries_with_the_same_fd),
    ("many_places", ways::many_places),
    ("kinds_of_files", ways::kinds_of_files),
    ("events", ways::events),
    ("prefork_server", shared::prefork),
    ("stale_from_each_holder", shared::stale),
    ("held_by_system_call", held::system_call),
    ("held_by_mapping", held::mapping),
    ("file_with_own_inode", held::file_with_own_inode),
    ("json", output::json),
    ("selection", output::selection),
    ("stale", output::stale),
    ("terminal", output::terminal),
    ("odd_names", output::odd_names),
    ("forged_names", names::forged),
    ("tcp_states", names::tcp_states),
    ("other_sockets", names::other_sockets),
    ("unix_sockets", names::unix_sockets),
    (
        "unix_sockets_without_diag",
        names::unix_sockets_without_diag,
    ),
    ("details", names::details),
    ("targets", names::targets),
    ("paths", names::paths),
    ("many_sockets", names::many_sockets),
    ("manual_page", output::manual_page),
    ("no_kcmp", errors::no_kcmp),
    ("kcmp_not_permitted", errors::kcmp_not_permitted),
    ("old_kernel", errors::old_kernel),
    ("no_epoll", errors::no_epoll),
    ("no_pidfd", errors::no_pidfd),
    ("no_proc", errors::no_proc),
    (
        "proc_of_another_namespace",
        errors::proc_of_another_namespace,
    ),
    ("hidden_proc", errors::hidden_proc),
    ("arguments", errors::arguments),
    ("no_such_process", errors::no_such_process),
    ("not_an_epoll_file", errors::not_an_epoll_file),
    ("closed_output", errors::closed_output),
    ("unprivileged", errors::unprivileged),
    ("not_permitted", errors::not_permitted),
    ("user_namespace", errors::user_namespace),
    ("spin_after_fin", cases::spin_after_fin),
    ("spin_after_reset", cases::spin_after_reset),
    ("spin_before_connect", cases::spin_before_connect),
    ("inherited", cases::inherited),
    ("open_in_parent", cases::open_in_parent),
    ("open_in_sibling", cases::open_in_sibling),
    ("file_in_pid_namespace", cases::file_in_pid_namespace),
    ("closed_in_parent", cases::closed_in_parent),
    ("duplicated", cases::duplicated),
    ("causes_of_many", cases::causes_of_many),
    ("reused", cases::reused),
    ("ready", cases::ready),
    ("filters", cases::filters),
    ("completions", cases::completions),
    ("repair", cases::repair),
    ("node", cases::node),
    ("nothing_found", ends::nothing_found),
    ("zombie", ends::zombie),
    ("names", ends::names),
    ("process_ends", ends::process_ends),
    ("other_process_ends", ends::other_process_ends),
    ("interrupted", ends::interrupted),
    ("timeout", ends::timeout),
    (
        "demo_beside_unrelated_work",
        busy::demo_beside_unrelated_work,
    ),
    ("epoll_files_move", busy::epoll_files_move),
    ("many_files_come_and_go", busy::many_files_come_and_go),
    ("calls", calls::calls),
    ("changes", changes::changes),
    ("eventfd_passed_round", changes::eventfd_passed_round),
    ("socket_passed_round", changes::socket_passed_round),
    ("fuzzed_proc", fuzz::fuzzed_proc),
];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.first().is_some_and(|arg| arg == "--hold") {
        return ways::hold(args.get(1));
    }
    if args.len() == 2 && args[0] == "--bench-entries" {
        return match bench::run(&args[1]) {
            Ok(()) => ExitCode::SUCCESS,
            Err(e) => {
                eprintln!("{e}");
                ExitCode::FAILURE
            }
        };
    }
    // Ignore the options of libtest that cargo test passes on.
    let names: Vec<&String> = args.iter().filter(|arg| !arg.starts_with('-')).collect();
    let is_named = |name: &str| names.is_empty() || names.iter().any(|n| name.contains(n.as_str()));
    let is_supported = process::own_pid().and_then(kcmp::probe).is_ok();
    let tests = if is_supported { TESTS } else { UNSUPPORTED };
    let tests: Vec<_> = tests.iter().filter(|(name, _)| is_named(name)).collect();
    tap::run(&tests)
}
