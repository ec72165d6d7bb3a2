//! `localai-parentwatch doctor` on real processes: orphans whose supervisor was killed, and healthy workers.
#![cfg(target_os = "linux")]
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing)] // a failure is a failed test

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(30);

/// A program, without the contract's variables of the environment of the tests.
fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    for name in [
        parentwatch::ENV_PARENT_WATCH,
        parentwatch::ENV_PARENT_WATCH_INTERVAL,
        parentwatch::ENV_PARENT_WATCH_SCOPE,
        parentwatch::ENV_PARENT_WATCH_GRACE,
        parentwatch::ENV_PARENT_PID,
    ] {
        command.env_remove(name);
    }
    command
}

fn doctor(arguments: &[&str]) -> Command {
    let mut doctor = command(env!("CARGO_BIN_EXE_localai-parentwatch"));
    doctor.arg("doctor").args(arguments);
    doctor
}

fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}: not in time");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The output of `--json`. Its exit status must agree with it. There may be other orphans on this machine.
fn report() -> Value {
    let output = doctor(&["--json"]).output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let has_orphans = !report["orphans"].as_array().unwrap().is_empty();
    assert_eq!(output.status.code(), Some(i32::from(has_orphans)), "{report}");
    report
}

fn entry(report: &Value, list: &str, pid: i32) -> Option<Value> {
    let entries = report[list].as_array().unwrap();
    entries.iter().find(|entry| entry["pid"] == pid).cloned()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A process, held by its pidfd, and killed at the end.
struct Process {
    pid: i32,
    pidfd: OwnedFd,
}

impl Process {
    fn of(pid: i32) -> Process {
        let pidfd = pidfd_open(Pid::from_raw(pid).unwrap(), PidfdFlags::empty()).unwrap();
        Process { pid, pidfd }
    }

    /// Whether it is gone, or a zombie that its parent did not reap.
    fn is_gone(&self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid));
        stat.map_or(true, |stat| stat.rsplit(") ").next().unwrap().starts_with('Z'))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
    }
}

/// A worker that its supervisor left behind, and its helper, each in its own session.
struct Orphan {
    token: String,
    worker: Process,
    helper: Process,
}

impl Orphan {
    /// The worker's shell first runs `before`.
    fn leave_behind(before: &str) -> Orphan {
        let script = format!(
            "read token; export LOCALAI_BACKEND_PARENT_PID=$token
            setsid sh -c '{before}; setsid sleep 300 >/dev/null 2>&1 & echo $$ $!; exec >/dev/null; wait' &
            wait"
        );
        let mut supervisor = command("sh")
            .args(["-c", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let token = token(supervisor.id());
        writeln!(supervisor.stdin.take().unwrap(), "{token}").unwrap();
        let mut said = String::new();
        BufReader::new(supervisor.stdout.take().unwrap()).read_line(&mut said).unwrap();
        let pids: Vec<i32> = said.split_whitespace().map(|pid| pid.parse().unwrap()).collect();
        let [worker, helper] = [pids[0], pids[1]].map(Process::of);
        until("the helper begins its session", || {
            session(helper.pid).filter(|it| *it == helper.pid)
        });
        supervisor.kill().unwrap();
        supervisor.wait().unwrap();
        Orphan { token, worker, helper }
    }
}

fn token(pid: u32) -> String {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let start = stat.rsplit(") ").next().unwrap().split(' ').nth(19).unwrap();
    let namespace = fs::metadata(format!("/proc/{pid}/ns/pid")).unwrap().ino();
    format!("{pid}@{start}@{namespace}")
}

fn session(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit(") ").next()?.split(' ').nth(3)?.parse().ok()
}

/// A worker of this process, which ends with its test.
struct Worker(Child);

impl Worker {
    fn pid(&self) -> i32 {
        i32::try_from(self.0.id()).unwrap()
    }

    /// `sleep` under a guardian.
    fn guarded() -> Worker {
        let program = env!("CARGO_BIN_EXE_localai-parentwatch");
        let worker = Worker(command(program).args(["exec", "--", "sleep", "300"]).spawn().unwrap());
        let name = format!("/proc/{}/comm", worker.pid());
        until("exec", || fs::read_to_string(&name).ok().filter(|name| name == "sleep\n"));
        worker
    }

    /// A worker that uses the library.
    fn linked() -> Worker {
        let program = std::env::current_exe().unwrap();
        let child = command(program.to_str().unwrap())
            .args(["--ignored", "--exact", "a_linked_worker"])
            .env(parentwatch::ENV_PARENT_PID, parentwatch::token())
            .env(parentwatch::ENV_PARENT_WATCH_SCOPE, "group")
            .stdout(Stdio::null())
            .spawn();
        Worker(child.unwrap())
    }

    fn lives(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Other tests run it in a separate process.
#[test]
#[ignore = "a worker for other tests"]
fn a_linked_worker() {
    parentwatch::start().unwrap();
    std::thread::sleep(Duration::from_secs(300));
}

#[test]
fn orphans_are_distinguished_from_healthy_workers() {
    let orphan = Orphan::leave_behind(":");
    let guarded = Worker::guarded();
    let linked = Worker::linked();
    let (report, watched) = until("the linked worker is watched", || {
        let report = report();
        let watched = entry(&report, "workers", linked.pid());
        let watched = watched.filter(|worker| worker["tier"] == report["host"]["tier"])?;
        Some((report, watched))
    });
    let own = std::process::id();
    assert_eq!(
        (&watched["supervisor"], &watched["scope"], &watched["guardian"], &watched["is_linked"]),
        (&own.into(), &"group".into(), &Value::Null, &true.into()),
        "{watched}"
    );

    let worker = entry(&report, "workers", guarded.pid()).unwrap();
    assert_eq!(
        (&worker["supervisor"], &worker["scope"], &worker["is_linked"], &worker["command"]),
        (&own.into(), &"tree".into(), &false.into(), &"sleep 300".into()),
        "{worker}"
    );
    assert_eq!(worker["tier"], report["host"]["tier"]);
    let guardian = worker["guardian"].as_i64().unwrap();
    let title = fs::read_to_string(format!("/proc/{guardian}/cmdline")).unwrap();
    assert!(title.contains(&format!("guarding {} for {own}", guarded.pid())), "{title}");

    for pid in [orphan.worker.pid, orphan.helper.pid] {
        let found = entry(&report, "orphans", pid).unwrap();
        assert_eq!(found["supervisor"], orphan.token.as_str());
        assert!(found["resident"].as_u64().unwrap() > 0, "{found}");
        assert!(entry(&report, "workers", pid).is_none(), "nobody watches it");
    }
    for worker in [guarded.pid(), linked.pid()] {
        assert!(entry(&report, "orphans", worker).is_none(), "{worker} is well: {report}");
    }

    let output = doctor(&[]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let table = text(&output.stdout);
    let row = |begin: String| {
        let row = table.lines().find(|line| line.trim_start().starts_with(&begin));
        row.unwrap_or_else(|| unreachable!("no row {begin:?} in\n{table}"))
    };
    assert!(row(format!("{} ", orphan.worker.pid)).contains(&orphan.token), "{table}");
    assert!(
        row(format!("{} ", guarded.pid())).contains(&format!("guardian {guardian}")),
        "{table}"
    );
    assert!(!table.contains('\x1b'), "colour is for a terminal: {table}");
}

#[test]
fn every_bad_value_is_explained() {
    let output = doctor(&["--json"])
        .env(parentwatch::ENV_PARENT_WATCH, "off")
        .env(parentwatch::ENV_PARENT_WATCH_SCOPE, "all")
        .env(parentwatch::ENV_PARENT_WATCH_GRACE, "-1s")
        .env(parentwatch::ENV_PARENT_WATCH_INTERVAL, "5 h")
        .env(parentwatch::ENV_PARENT_PID, "\x1b[1mme")
        .output()
        .unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(text(&output.stderr), "");
    let variables = report["environment"].as_array().unwrap();
    assert_eq!(variables.len(), 5);
    for (name, value, problem) in [
        (parentwatch::ENV_PARENT_WATCH, "off", None),
        (
            parentwatch::ENV_PARENT_WATCH_SCOPE,
            "all",
            Some("\"tree\", \"group\" or \"process\"; using tree"),
        ),
        (parentwatch::ENV_PARENT_WATCH_GRACE, "-1s", Some("at most 1h; using the default")),
        (parentwatch::ENV_PARENT_WATCH_INTERVAL, "5 h", Some("from 10ms to 1h; using 2s")),
        (
            parentwatch::ENV_PARENT_PID,
            "\\x1b[1mme",
            Some("in decimal digits; using the parent process"),
        ),
    ] {
        let variable = variables.iter().find(|variable| variable["name"] == name).unwrap();
        assert_eq!(variable["value"], value);
        match problem {
            None => assert_eq!(variable["problem"], Value::Null),
            Some(problem) => {
                let told = variable["problem"].as_str().unwrap();
                assert!(told.starts_with("expected ") && told.ends_with(problem), "{told}");
            }
        }
    }
    let output = doctor(&[]).env(parentwatch::ENV_PARENT_WATCH_SCOPE, "all").output().unwrap();
    let told = "bad value LOCALAI_BACKEND_PARENT_WATCH_SCOPE: expected \"tree\"";
    assert!(text(&output.stdout).contains(told), "{}", text(&output.stdout));
}

fn one_line(output: &Output) -> String {
    let line = text(&output.stderr);
    assert_eq!((line.lines().count(), text(&output.stdout).as_str()), (1, ""), "{line}");
    line
}

#[test]
fn no_process_is_ended_if_one_is_no_orphan() {
    let orphan = Orphan::leave_behind(":");
    let mut healthy = Worker::guarded();
    let pids = [orphan.worker.pid, healthy.pid()].map(|pid| pid.to_string());
    let output = doctor(&["--end", &pids[0], &pids[1]]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let line = one_line(&output);
    assert!(line.contains(&format!("{}: expected an orphan", pids[1])), "{line}");

    // An ancestor of doctor, although it names a supervisor that is gone.
    let output = command("sh")
        .args(["-c", "\"$0\" doctor --end $$; exit $?"])
        .arg(env!("CARGO_BIN_EXE_localai-parentwatch"))
        .env(parentwatch::ENV_PARENT_PID, &orphan.token)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(one_line(&output).contains("this program runs below it"));

    for bad in ["0", "-1", "all"] {
        let output = doctor(&["--end", bad]).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{bad}");
        one_line(&output);
    }
    assert!(healthy.lives() && !orphan.worker.is_gone() && !orphan.helper.is_gone());
}

#[test]
fn an_orphan_ends_with_its_helper_in_another_session() {
    // A worker that ends at once leaves its helper to another parent. Several of them show a race that one could hide.
    let mut orphans: Vec<Orphan> = (0..8).map(|_| Orphan::leave_behind(":")).collect();
    orphans.push(Orphan::leave_behind("trap \"\" TERM"));
    let other = Orphan::leave_behind(":");
    let pids = orphans.iter().map(|orphan| orphan.worker.pid.to_string());
    let output = doctor(&["--end"]).args(pids).output().unwrap();
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{said}{}", text(&output.stderr));
    for orphan in &orphans {
        assert!(orphan.worker.is_gone(), "{said}");
        // SIGKILL has been sent to it.
        until("the helper is gone", || orphan.helper.is_gone().then_some(()));
        let begin = format!("ended {} (sh -c ", orphan.worker.pid);
        let line = said.lines().find(|line| line.starts_with(&begin));
        assert!(line.is_some_and(|line| line.ends_with(" and 1 helper")), "{said}");
    }
    assert!(!other.worker.is_gone() && !other.helper.is_gone(), "nobody asked for it");
}

#[test]
fn gpu_memory_comes_from_nvidia_smi_unless_that_hangs() {
    let orphan = Orphan::leave_behind(":");
    let folder = tempfile::tempdir().unwrap();
    let gpu = |script: &str| {
        let text = folder.path().join("text");
        fs::write(&text, script).unwrap();
        // In a process of its own: a child of another test could inherit our descriptor, and a file that is open for
        // writing cannot be executed.
        let [program, mode] = [folder.path().join("nvidia-smi"), "--mode=755".into()];
        assert!(command("install").args([&mode, &text, &program]).status().unwrap().success());
        let path = format!("{}:/usr/bin:/bin", folder.path().display());
        let output = doctor(&["--json"]).env("PATH", path).output().unwrap();
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        entry(&report, "orphans", orphan.worker.pid).unwrap()["gpu"].clone()
    };
    let pid = orphan.worker.pid;
    assert_eq!(gpu(&format!("#!/bin/sh\necho '{pid}, 20480'\n")), 20_480_u64 << 20);
    assert_eq!(gpu("#!/bin/sh\nexec sleep 300\n"), Value::Null);
}
