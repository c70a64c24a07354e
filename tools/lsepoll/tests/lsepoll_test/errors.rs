// SPDX-License-Identifier: GPL-2.0

//! Errors, and the messages for them.

use crate::lsepoll::{Ran, command, program, run, run_as};
use crate::scene::{self, Actor};
use crate::tap::{Outcome, contains, same, skip};
use crate::ways::{A, EPOLL, add_eventfd, create, one_entry};
use crate::{kcmp, process};
use std::error::Error;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::mpsc;
use std::time::Duration;

const NOBODY: u32 = 65534;
const KCMP_EPOLL_TFD: u32 = 7;

fn cvt(result: libc::c_int) -> io::Result<()> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

fn is_root() -> bool {
    // SAFETY: No memory is involved.
    unsafe { libc::geteuid() == 0 }
}

/// Makes a syscall fail, for any arguments or only if the third one has the given value.
fn refuse(syscall: libc::c_long, third: Option<u32>, errno: libc::c_int) -> io::Result<()> {
    let statement = |code: u32, k: u32| libc::sock_filter {
        code: code as u16,
        jt: 0,
        jf: 0,
        k,
    };
    let load = |offset| statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset);
    let skip_unless = |k, skipped| libc::sock_filter {
        jf: skipped,
        ..statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, k)
    };
    let give = |k| statement(libc::BPF_RET | libc::BPF_K, k);
    // struct seccomp_data: nr, arch, instruction_pointer, args. On little-endian machines, which
    // this is for, the low half of an argument comes first.
    let mut filter = vec![load(0)];
    match third {
        None => filter.push(skip_unless(syscall as u32, 1)),
        Some(value) => {
            filter.push(skip_unless(syscall as u32, 3));
            filter.push(load(16 + 2 * 8));
            filter.push(skip_unless(value, 1));
        }
    }
    filter.push(give(libc::SECCOMP_RET_ERRNO | errno as u32));
    filter.push(give(libc::SECCOMP_RET_ALLOW));
    let program = libc::sock_fprog {
        len: filter.len() as u16,
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: `program` is valid for the duration of the calls.
    unsafe {
        cvt(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))?;
        cvt(libc::prctl(
            libc::PR_SET_SECCOMP,
            libc::SECCOMP_MODE_FILTER,
            &raw const program,
        ))
    }
}

/// Runs lsepoll with a seccomp filter that makes a syscall fail.
fn run_without(
    syscall: libc::c_long,
    third: Option<u32>,
    errno: libc::c_int,
    args: &[&str],
) -> Result<Ran, Box<dyn Error>> {
    let mut command = command(&program(), args);
    // SAFETY: This process has no threads: the child may do anything.
    unsafe { command.pre_exec(move || refuse(syscall, third, errno)) };
    match run_as(command) {
        Err(e) if e.to_string().contains("os error 22") => skip("no CONFIG_SECCOMP_FILTER"),
        ran => ran,
    }
}

/// lsepoll on a kernel without the calls that it needs.
pub fn unsupported_kernel() -> Outcome {
    match kcmp::probe(process::own_pid()?) {
        Err(e) => run(&[])?.fails_with(&format!("lsepoll: {e}\n")),
        Ok(()) => skip("this kernel is supported"),
    }
}

pub fn no_kcmp() -> Outcome {
    run_without(libc::SYS_kcmp, None, libc::ENOSYS, &[])?.fails_with("build it with CONFIG_KCMP=y")
}

pub fn kcmp_not_permitted() -> Outcome {
    run_without(libc::SYS_kcmp, None, libc::EPERM, &[])?
        .fails_with("probably because of a seccomp filter")
}

pub fn old_kernel() -> Outcome {
    run_without(libc::SYS_kcmp, Some(KCMP_EPOLL_TFD), libc::EINVAL, &[])?
        .fails_with("kcmp(2) of this kernel has no KCMP_EPOLL_TFD")
}

pub fn no_epoll() -> Outcome {
    run_without(libc::SYS_epoll_create1, None, libc::ENOSYS, &[])?
        .fails_with("build it with CONFIG_EPOLL=y")
}

/// On a kernel without pidfd_open(2) or pidfd_getfd(2), all but READY is known.
pub fn no_pidfd() -> Outcome {
    let way = one_entry()?;
    for syscall in [libc::SYS_pidfd_open, libc::SYS_pidfd_getfd] {
        let ran = run_without(
            syscall,
            None,
            libc::ENOSYS,
            &["--json", &way.pid.to_string()],
        )?;
        let (found, _) = ran.json()?;
        let entry = &found[0]["entries"][0];
        same(&entry["state"], &"in place".into())?;
        same(&entry["ready"], &serde_json::Value::Null)?;
    }
    Ok(())
}

/// Gives the caller its own mount namespace.
fn unshare_mounts(more: libc::c_int) -> io::Result<()> {
    // SAFETY: The strings are valid for the duration of the calls.
    unsafe {
        cvt(libc::unshare(libc::CLONE_NEWNS | more))?;
        let root = c"/".as_ptr();
        let flags = libc::MS_REC | libc::MS_PRIVATE;
        cvt(libc::mount(
            root,
            root,
            std::ptr::null(),
            flags,
            std::ptr::null(),
        ))
    }
}

/// Skips a test that changes mounts if that is not possible here.
fn need_mounts() -> Outcome {
    if !is_root() {
        return skip("needs root");
    }
    match Actor::start("mounts", || unshare_mounts(libc::CLONE_NEWPID).map(|()| 0)) {
        Err(_) => skip("mounts cannot be changed here"),
        Ok(_) => Ok(()),
    }
}

fn mount_proc(options: &std::ffi::CStr) -> io::Result<()> {
    let (name, path) = (c"proc".as_ptr(), c"/proc".as_ptr());
    // SAFETY: The strings are valid for the duration of the call.
    cvt(unsafe { libc::mount(name, path, name, 0, options.as_ptr().cast()) })
}

pub fn no_proc() -> Outcome {
    need_mounts()?;
    let mut command = command(&program(), &[]);
    // SAFETY: This process has no threads: the child may do anything.
    unsafe {
        command.pre_exec(|| {
            unshare_mounts(0)?;
            let (name, path) = (c"tmpfs".as_ptr(), c"/proc".as_ptr());
            cvt(libc::mount(name, path, name, 0, std::ptr::null()))
        });
    }
    run_as(command)?.fails_with("/proc is not mounted")
}

/// A copy of lsepoll that anybody may execute.
struct ForAnybody(PathBuf);

impl ForAnybody {
    fn new() -> io::Result<ForAnybody> {
        let path = std::env::temp_dir().join(format!("lsepoll-{}", std::process::id()));
        fs::copy(program(), &path)?;
        fs::set_permissions(&path, Permissions::from_mode(0o755))?;
        Ok(ForAnybody(path))
    }

    fn run_as_nobody(&self, args: &[&str]) -> Result<Ran, Box<dyn Error>> {
        let mut command = command(&self.0, args);
        command.uid(NOBODY).gid(NOBODY);
        run_as(command)
    }
}

impl Drop for ForAnybody {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Where lsepoll runs.
#[derive(Clone, Copy, PartialEq)]
enum At {
    Inside,
    Outside,
}

/// Runs lsepoll as user nobody, inside or outside of a PID namespace. The first process of the
/// namespace has called `prepare` to set up /proc for both.
fn run_with_namespace(
    at: At,
    args: &[&str],
    prepare: impl Fn() -> io::Result<()>,
) -> Result<Ran, Box<dyn Error>> {
    need_mounts()?;
    let lsepoll = ForAnybody::new()?;
    let path = std::env::temp_dir().join(format!("lsepoll-out-{}", std::process::id()));
    let out = File::create(&path)?;
    // Returns the exit status in place of a pid.
    let run = || {
        let mut command = command(&lsepoll.0, args);
        command.uid(NOBODY).gid(NOBODY);
        command.stdout(out.try_clone()?).stderr(out.try_clone()?);
        Ok(command.status()?.code().unwrap_or(-1))
    };
    let outer = Actor::start("outer", || {
        unshare_mounts(0)?;
        let maker = Actor::start("maker", || {
            // SAFETY: No memory is involved.
            cvt(unsafe { libc::unshare(libc::CLONE_NEWPID) })?;
            let init = Actor::start("init", || {
                prepare()?;
                if at == At::Inside { run() } else { Ok(0) }
            })?;
            let status = init.told;
            init.leave();
            Ok(status)
        })?;
        if at == At::Inside {
            Ok(maker.told)
        } else {
            run()
        }
    })?;
    let err = fs::read_to_string(&path)?;
    fs::remove_file(&path)?;
    Ok(Ran {
        out: String::new(),
        err,
        status: Some(outer.told),
    })
}

pub fn proc_of_another_namespace() -> Outcome {
    let message = "/proc shows another PID namespace";
    run_with_namespace(At::Inside, &[], || Ok(()))?.fails_with(message)?;
    run_with_namespace(At::Outside, &[], || mount_proc(c""))?.fails_with(message)
}

pub fn hidden_proc() -> Outcome {
    let hide = || mount_proc(c"hidepid=2");
    run_with_namespace(At::Inside, &["1"], hide)?
        .fails_with("pid 1: hidden, /proc is mounted with hidepid")?;
    let all = run_with_namespace(At::Inside, &[], hide)?;
    same(all.status, Some(0))?;
    contains(
        &all.err,
        "lsepoll: /proc hides processes: it is mounted with hidepid",
    )
}

pub fn arguments() -> Outcome {
    run(&["--no-such-option"])?.fails_with("--no-such-option")?;
    run(&["0"])?.fails_with("0 is not in 1..")?;
    run(&["--fd", "-1"])?.fails_with("-1")?;
    run(&["--demo", "1"])?.fails_with("--demo")?;
    run(&["--output", "FD", "--json"])?.fails_with("cannot be used with '--json'")?;
    run(&["--output", "FD", "--summary"])?.fails_with("cannot be used with '--summary'")
}

pub fn no_such_process() -> Outcome {
    let message = "lsepoll: pid 2147483647: no such process\n";
    run(&["2147483647"])?.fails_with(message)?;
    // The others are listed, and an error is printed once.
    let way = Actor::start("way", || create().map(|()| 0))?;
    let found = run(&["2147483647", &way.pid.to_string(), "2147483647"])?;
    same((found.err.as_str(), found.status), (message, Some(2)))?;
    contains(
        &found.out,
        &format!("pid {} (way), fd {EPOLL}: 0 entries\n", way.pid),
    )
}

pub fn not_an_epoll_file() -> Outcome {
    let way = one_entry()?;
    let pid = way.pid.to_string();
    run(&[&pid, "--fd", "60"])?.fails_with(&format!(
        "pid {pid}: fd 60 is not an epoll file, but [eventfd"
    ))?;
    run(&[&pid, "--fd", "61"])?.fails_with(&format!("pid {pid}: fd 61 is not open"))?;

    let other = Actor::start("other", || {
        scene::place(scene::epoll_create()?, A).map(|()| 0)
    })?;
    let found = run(&[&pid, &other.pid.to_string(), "--fd", "60"])?;
    same(found.status, Some(2))?;
    contains(
        &found.err,
        &format!("pid {pid}: fd 60 is not an epoll file"),
    )?;
    contains(
        &found.out,
        &format!("pid {} (other), fd 60: 0 entries\n", other.pid),
    )
}

/// As in lsepoll | head, and on a full disk.
pub fn closed_output() -> Outcome {
    let way = one_entry()?;
    let pid = way.pid.to_string();
    let [reader, writer] = scene::pipe()?;
    scene::close(reader)?;
    let mut piped = command(&program(), &[&pid]);
    // SAFETY: No memory is involved.
    unsafe { piped.pre_exec(move || cvt(libc::dup2(writer, 1))) };
    let ran = run_as(piped);
    scene::close(writer)?;
    ran?.quiet()?;

    let mut full = command(&program(), &[&pid]);
    full.stdout(File::options().write(true).open("/dev/full")?)
        .stderr(Stdio::piped());
    Ran::from(full.spawn()?.wait_with_output()?).fails_with("No space left on device")
}

/// A process of user nobody, which that user can inspect.
fn nobody(setup: impl FnOnce() -> io::Result<()>) -> io::Result<Actor> {
    Actor::start("nobody", || {
        setup()?;
        // SAFETY: No memory is involved.
        unsafe {
            cvt(libc::setgroups(0, std::ptr::null()))?;
            cvt(libc::setresgid(NOBODY, NOBODY, NOBODY))?;
            cvt(libc::setresuid(NOBODY, NOBODY, NOBODY))?;
            cvt(libc::prctl(libc::PR_SET_DUMPABLE, 1, 0, 0, 0))?;
        }
        Ok(0)
    })
}

pub fn unprivileged() -> Outcome {
    if !is_root() {
        return skip("all tests are unprivileged");
    }
    let lsepoll = ForAnybody::new()?;
    same(lsepoll.run_as_nobody(&["--demo"])?.status, Some(0))?;

    let [ours, theirs] = scene::socketpair(libc::SOCK_STREAM)?;
    let nobody = nobody(|| {
        create()?;
        add_eventfd(A)?;
        scene::send_file(ours, A)?;
        scene::close(A)
    })?;
    let root = Actor::start("root", || {
        scene::place(scene::receive_file(theirs)?, A)?;
        Ok(0)
    });
    scene::close(ours)?;
    scene::close(theirs)?;
    let root = root?;

    let pid = nobody.pid.to_string();
    let found = lsepoll.run_as_nobody(&[&pid])?;
    same(found.status, Some(3))?;
    contains(&found.out, "nowhere  anon_inode\n")?;
    contains(&found.err, "in a process that was not inspected\n")?;
    contains(&found.err, "lsepoll: could not inspect pid ")?;
    contains(&found.err, ": this requires root or CAP_SYS_PTRACE\n")?;
    let (_, summary) = lsepoll.run_as_nobody(&["--json", &pid])?.json()?;
    let not_inspected = summary["not_inspected"].as_array().ok_or("not_inspected")?;
    same(not_inspected.contains(&root.pid.into()), true)?;

    let found = run(&[&pid])?.quiet()?;
    contains(&found, &format!("pid {} (root) fd {A}\n", root.pid))
}

pub fn not_permitted() -> Outcome {
    if !is_root() {
        return skip("needs root");
    }
    let lsepoll = ForAnybody::new()?;
    let root = Actor::start("root", || create().map(|()| 0))?;
    let pid = root.pid.to_string();
    let message = format!("pid {pid}: not permitted: this requires CAP_SYS_PTRACE");
    lsepoll.run_as_nobody(&[&pid])?.fails_with(&message)?;
    let (_, summary) = crate::schema::check(&lsepoll.run_as_nobody(&["--json", &pid])?.out)?;
    same(summary["complete"].as_bool(), Some(false))?;
    same(
        summary["not_inspected"].clone(),
        serde_json::json!([root.pid]),
    )?;
    // A thread stands for its process.
    let threads = Actor::start("threads", || {
        let (tell, told) = mpsc::channel();
        std::thread::spawn(move || {
            // SAFETY: No memory is involved.
            let _ = tell.send(unsafe { libc::gettid() });
            std::thread::sleep(Duration::MAX);
        });
        told.recv().map_err(io::Error::other)
    })?;
    let args = [threads.told, threads.pid].map(|pid| pid.to_string());
    let ran = lsepoll.run_as_nobody(&["--json", &args[0], &args[1]])?;
    let (_, summary) = crate::schema::check(&ran.out)?;
    same(summary["errors"].as_array().map(Vec::len), Some(1))?;
    same(
        summary["not_inspected"].clone(),
        serde_json::json!([threads.pid]),
    )?;
    let all = lsepoll.run_as_nobody(&[])?;
    same(all.out.contains(&format!("pid {pid} ")), false)
}

/// lsepoll runs as the same user, but in another user namespace.
pub fn user_namespace() -> Outcome {
    let outside = Actor::start("outside", || create().map(|()| 0))?;
    let pid = outside.pid.to_string();
    let mut inside = command(&program(), &[&pid]);
    // SAFETY: No memory is involved.
    unsafe { inside.pre_exec(|| cvt(libc::unshare(libc::CLONE_NEWUSER))) };
    match run_as(inside) {
        Err(_) => skip("no user namespaces"),
        Ok(ran) => ran.fails_with(&format!("pid {pid}: not permitted")),
    }
}
