//! Finds the workers and the orphans in `/proc`.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::iter;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use super::{EndError, Ended, Orphan, Worker};
use crate::config::{Config, Scope};
use crate::die::reaper::{HELPER_GRACE, Helpers};
use crate::identity::Supervisor;
use crate::state::Tier;
use crate::sys::{self, Stat};

/// How long the kernel may take to end an orphan after SIGKILL. It frees the orphan's memory meanwhile.
const KERNEL_PATIENCE: Duration = Duration::from_secs(10);

#[derive(Default)]
pub(super) struct Found {
    pub workers: Vec<Worker>,
    pub orphans: Vec<Orphan>,
    pub hidden: usize,
}

pub(super) fn look() -> Found {
    let mut found = Found::default();
    if !sys::procfs_is_ours() {
        return found;
    }
    let mut pids: Vec<i32> = sys::processes().filter(|pid| *pid != sys::own_pid()).collect();
    pids.sort_unstable();
    let guardians: Vec<Guardian> = pids.iter().copied().filter_map(Guardian::of).collect();
    for pid in pids {
        let Some(stat) = living(pid) else { continue };
        let config = match environment(pid) {
            Ok(bytes) => Some(read_config(&bytes)),
            Err(error) => {
                let is_denied = error.kind() == io::ErrorKind::PermissionDenied;
                // Kernel threads do not count: they have neither a command line nor an environment.
                found.hidden += usize::from(is_denied && command_line(pid).is_some());
                None
            }
        };
        // A worker is older than its guardian. A younger process has reused its id.
        let guardian = guardians.iter().find(|it| it.worker == pid && stat.start <= it.start);
        found.workers.extend(worker(pid, &stat, config.as_ref(), guardian));
        found.orphans.extend(config.as_ref().and_then(|config| orphan(pid, config)));
    }
    found
}

/// A process that runs a program: not a zombie, a guardian or a reaper.
fn living(pid: i32) -> Option<Stat> {
    sys::stat(pid).filter(|stat| !stat.has_ended() && !stat.is_reaper)
}

struct Guardian {
    pid: i32,
    start: u64,
    worker: i32,
    supervisor: Option<i32>,
}

impl Guardian {
    /// Recognises a guardian by its name and its title.
    fn of(pid: i32) -> Option<Guardian> {
        let stat = sys::stat(pid).filter(|stat| stat.is_reaper && !stat.has_ended())?;
        let title = command_line(pid)?;
        let title = title.strip_prefix("localai-parentwatch: guarding ")?;
        let (worker, supervisor) = match title.split_once(" for ") {
            Some((worker, supervisor)) => (worker, Some(supervisor.parse().ok()?)),
            None => (title, None),
        };
        Some(Guardian { pid, start: stat.start, worker: worker.parse().ok()?, supervisor })
    }

    fn tier(&self) -> Tier {
        match pidfds(&format!("/proc/{}", self.pid)) {
            None => Tier::None,
            Some(open) => {
                let mut targets = iter::once(self.worker).chain(self.supervisor);
                if targets.all(|pid| open.contains(&pid)) { Tier::Event } else { Tier::Poll }
            }
        }
    }
}

fn worker(
    pid: i32,
    stat: &Stat,
    config: Option<&Config>,
    guardian: Option<&Guardian>,
) -> Option<Worker> {
    let watcher = sys::watcher_of(pid);
    let (supervisor, tier) = match (guardian, watcher) {
        (Some(guardian), _) => (guardian.supervisor, guardian.tier()),
        (None, Some(thread)) => {
            let open = pidfds(&format!("/proc/{pid}/task/{thread}"));
            let others: Option<Vec<i32>> =
                open.map(|open| open.into_iter().filter(|it| *it != pid).collect());
            let tier = match &others {
                None => Tier::None,
                Some(others) if others.is_empty() => Tier::Poll,
                Some(_) => Tier::Event,
            };
            (Some(watched(pid, stat.parent, config, &others.unwrap_or_default())), tier)
        }
        (None, None) => return None,
    };
    Some(Worker {
        pid,
        command: command(pid),
        supervisor,
        tier,
        scope: config.map(|config| config.scope),
        guardian: guardian.map(|guardian| guardian.pid),
        is_linked: watcher.is_some(),
    })
}

/// The supervisor of a watcher that has these pidfds open.
fn watched(pid: i32, parent: i32, config: Option<&Config>, open: &[i32]) -> i32 {
    let named = config
        .and_then(|config| config.supervisor)
        .filter(|supervisor| named(*supervisor, Some(pid)) == Named::Alive)
        .map(|supervisor| supervisor.pid());
    let mut candidates = named.into_iter().chain([parent]);
    let seen = candidates.find(|pid| open.contains(pid)).or(open.first().copied());
    seen.or(named).unwrap_or(parent)
}

/// The processes on which a process or thread has pidfds open. `None` if this user may not read that.
///
/// Empty if other files are open too: then the table is the program's, and a watcher keeps nothing in that.
fn pidfds(of: &str) -> Option<Vec<i32>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(format!("{of}/fdinfo")).ok()? {
        // The descriptor may have been closed meanwhile.
        let Ok(about) = fs::read_to_string(entry.ok()?.path()) else { continue };
        let Some(pid) = about.lines().find_map(|line| line.strip_prefix("Pid:")) else {
            return Some(Vec::new());
        };
        // −1 if the process is gone, 0 if it is in another PID namespace.
        found.extend(pid.trim().parse().ok().filter(|pid: &i32| *pid > 0));
    }
    Some(found)
}

/// The state of the supervisor that an environment names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Named {
    Alive,
    Gone,
    /// Its state cannot be found out, for this reason.
    Unknown(&'static str),
}

/// Finds out the state of a supervisor. `bearer` is the process whose environment names it, `None` for this process.
pub(super) fn named(supervisor: Supervisor, bearer: Option<i32>) -> Named {
    let namespace = |pid: Option<i32>, kind: &str| {
        let pid = pid.map_or("self".to_owned(), |pid| pid.to_string());
        fs::metadata(format!("/proc/{pid}/ns/{kind}")).map(|it| it.ino()).ok()
    };
    let own = sys::pid_namespace();
    let state =
        |start| if sys::looks_gone(supervisor.pid(), start) { Named::Gone } else { Named::Alive };
    match supervisor.pid_namespace() {
        _ if own.is_none() || !sys::procfs_is_ours() => {
            Named::Unknown("/proc is of another namespace")
        }
        None if namespace(bearer, "pid") != own => {
            Named::Unknown("a plain process id, in another PID namespace")
        }
        None => match state(None) {
            Named::Gone if own != Some(sys::INITIAL_PID_NAMESPACE) => Named::Unknown(
                "a plain process id proves nothing outside the initial PID namespace",
            ),
            state => state,
        },
        Some(other) if Some(other) != own => Named::Unknown("it is in another PID namespace"),
        Some(_) => {
            // Start times can only be compared if they are by the same clock.
            let clock = namespace(None, "time");
            let is_comparable = sys::clock_is_initial() && namespace(bearer, "time") == clock;
            state(supervisor.start_time().filter(|_| is_comparable))
        }
    }
}

fn orphan(pid: i32, config: &Config) -> Option<Orphan> {
    let supervisor = config.supervisor?;
    (named(supervisor, Some(pid)) == Named::Gone).then(|| Orphan {
        pid,
        command: command(pid),
        supervisor: supervisor.to_string(),
        resident: resident(pid),
        gpu: None,
    })
}

pub(super) fn end(pids: &[i32]) -> Result<Vec<Ended>, EndError> {
    let ancestors: Vec<i32> =
        iter::successors(Some(sys::own_pid()), |pid| sys::stat(*pid).map(|stat| stat.parent))
            .take_while(|pid| *pid > 0)
            .collect();
    let mut orphans: Vec<(Orphan, u64)> = Vec::new();
    for pid in pids.iter().copied() {
        if orphans.iter().any(|(orphan, _)| orphan.pid == pid) {
            continue;
        }
        let start = living(pid).filter(|_| sys::procfs_is_ours()).map(|stat| stat.start);
        let config = environment(pid).ok().map(|bytes| read_config(&bytes));
        let orphan = config.and_then(|config| orphan(pid, &config)).zip(start);
        let orphan = orphan.ok_or(EndError::NotAnOrphan(pid))?;
        if ancestors.contains(&pid) {
            return Err(EndError::Ancestor(pid));
        }
        orphans.push(orphan);
    }
    Ok(orphans.into_iter().map(|(orphan, start)| end_one(orphan, start)).collect())
}

fn end_one(orphan: Orphan, start: u64) -> Ended {
    let Orphan { pid, command, .. } = orphan;
    let is_the_one = |stat: &Stat| stat.start == start;
    let mut found = 0;
    if let Some(stat) = living(pid).filter(is_the_one) {
        let leads = stat.group == pid && sys::process_group() != pid;
        let group = Some(pid).filter(|_| leads);
        let mut helpers = Helpers::of_living(pid, group, None, Scope::Tree, HELPER_GRACE);
        // Checked once the pidfds are open. So they are on the orphan and its helpers, not on processes that have
        // reused their ids.
        if living(pid).filter(is_the_one).is_some() {
            helpers.terminate_all();
            helpers.finish();
            found = helpers.found();
        }
    }
    let until = sys::uptime().saturating_add(KERNEL_PATIENCE);
    let is_gone = || sys::looks_gone(pid, Some(start));
    while !is_gone() && sys::uptime() < until {
        sys::nap(Duration::from_millis(10));
    }
    Ended { pid, command, helpers: found, is_gone: is_gone() }
}

/// The environment with which the process was started. Once the main thread has ended, only the other threads show it.
fn environment(pid: i32) -> io::Result<Vec<u8>> {
    let bytes = fs::read(format!("/proc/{pid}/environ"))?;
    if !bytes.is_empty() {
        return Ok(bytes);
    }
    let threads = fs::read_dir(format!("/proc/{pid}/task"))?.filter_map(Result::ok);
    let mut environments =
        threads.filter_map(|thread| fs::read(thread.path().join("environ")).ok());
    Ok(environments.find(|bytes| !bytes.is_empty()).unwrap_or_default())
}

fn read_config(environment: &[u8]) -> Config {
    let lookup = |name: &str| {
        let mut entries = environment.split(|byte| *byte == 0);
        let value =
            entries.find_map(|entry| entry.strip_prefix(name.as_bytes())?.strip_prefix(b"="));
        value.map(OsStr::from_bytes)
    };
    Config::from_lookup(lookup).0
}

/// The command line as one printable line, without control characters. `None` for a kernel thread or a zombie.
fn command_line(pid: i32) -> Option<String> {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let line = printable(&bytes);
    (!line.is_empty()).then_some(line)
}

fn command(pid: i32) -> String {
    command_line(pid).unwrap_or_else(|| {
        let name = fs::read(format!("/proc/{pid}/comm")).unwrap_or_default();
        format!("[{}]", printable(name.trim_ascii_end()))
    })
}

fn printable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let text = text.trim_end_matches('\0').chars();
    text.map(|letter| match letter {
        '\0' => ' ',
        letter if letter.is_control() => '?',
        letter => letter,
    })
    .collect()
}

fn resident(pid: i32) -> Option<u64> {
    let status = fs::read(format!("/proc/{pid}/status")).ok()?;
    let status = String::from_utf8_lossy(&status);
    let kibibytes = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = kibibytes.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kibibytes << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_supervisor_and_an_unknown_one_are_different_states() {
        let own = Supervisor::this_process();
        let (pid, start, namespace) =
            (own.pid(), own.start_time().unwrap(), own.pid_namespace().unwrap());
        let token = |text: String| named(text.parse().unwrap(), None);
        assert_eq!(named(own, None), Named::Alive);
        assert_eq!(token(format!("{pid}@{}@{namespace}", start + 1)), Named::Gone);
        assert!(matches!(token(format!("{pid}@{start}@1")), Named::Unknown(_)));
        assert_eq!(token(format!("{pid}")), Named::Alive);
        // No process id is that high (proc(5), pid_max).
        let no_process = token(format!("{}", i32::MAX));
        match namespace == sys::INITIAL_PID_NAMESPACE {
            true => assert_eq!(no_process, Named::Gone),
            false => assert!(matches!(no_process, Named::Unknown(_))),
        }
        assert_eq!(token(format!("{}@1@{namespace}", i32::MAX)), Named::Gone);
    }

    #[test]
    fn a_command_line_is_shown_in_one_printable_line() {
        assert_eq!(printable(b"a\0b c\n\x1b[1m\xff\0"), "a b c??[1m\u{fffd}");
    }
}
