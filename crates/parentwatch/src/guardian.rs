//! The guardian: a process outside the worker. When the supervisor dies, it ends the worker. When the worker dies, it
//! ends the processes that the worker left behind.
//!
//! It is a fork of the program that is about to execute the worker. It makes only system calls, on its own stack: no
//! locks, no allocation.

use std::time::{Duration, Instant};

use crate::arm::{Naming, Whom, whom_to_watch};
use crate::config::{DEFAULT_GRACE, MIN_INTERVAL, Scope};
use crate::die::line::Line;
use crate::die::reaper::{HELPER_GRACE, Helpers};
use crate::identity::Worker;
use crate::state::Tier;
use crate::sys::{
    self, Cgroup, Handle, Mark, OwnTable, Pidfd, QuietChild, SignalsBlocked, WATCHER_NAME,
};
use crate::watch::{Gone, Kernel, Watched};

/// How long the line on the worker's stderr may take. A hung file system blocks its writer.
const LINE_PATIENCE: Duration = Duration::from_millis(200);

/// What the guardian has to do.
pub(crate) struct Plan {
    pub worker: Worker,
    pub naming: Naming,
    pub interval: Duration,
    pub scope: Scope,
    /// `None`: unset.
    pub grace: Option<Duration>,
    /// Identifies the worker's descendants; `None` if it could not be set.
    pub mark: Option<Mark>,
    pub cgroup: Option<Cgroup>,
}

/// The outcome of starting a guardian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Started {
    /// It watches.
    Ready { guardian: i32, tier: Tier, watches_parent: bool },
    /// This supervisor had died already.
    Orphaned { pid: i32, is_named: bool },
}

/// Starts the guardian of this process, which is about to execute the worker. Returns an error number if there is none.
///
/// It forks twice, so that the guardian is not a child of the worker: a worker that waits for all of its children would
/// wait for it.
pub(crate) fn start(plan: &Plan) -> Result<Started, i32> {
    if !sys::forks_in_its_own_pid_namespace() {
        // Our first child would be the init of another PID namespace. After its end, every fork would fail.
        return Err(libc::EINVAL);
    }
    // The process itself opens it, so it cannot refer to another one.
    let worker = Pidfd::open(plan.worker.pid).ok();
    let [from, to] = sys::pipe()?;
    let blocked = SignalsBlocked::all();
    // SAFETY: the bodies make system calls alone.
    let first = unsafe {
        QuietChild::fork(|| {
            QuietChild::fork(|| Guardian::begin(plan, worker, to));
        })
    };
    let code = sys::errno();
    sys::close(to);
    worker.inspect(|worker| worker.close());
    // Returns with the answer, or when no process is left that could write one.
    let answer = first.and_then(|_| sys::read_record(from));
    sys::close(from);
    if let Some(first) = first {
        first.reap_for_sure();
    }
    drop(blocked);
    answer.and_then(Started::decode).ok_or(code)
}

impl Started {
    fn encode(self) -> [u8; 16] {
        let words = match self {
            Started::Ready { guardian, tier, watches_parent } => {
                [0, guardian, tier as i32, i32::from(watches_parent)]
            }
            Started::Orphaned { pid, is_named } => [1, pid, i32::from(is_named), 0],
        };
        let mut record = [0; 16];
        for (bytes, word) in record.chunks_exact_mut(4).zip(words) {
            bytes.copy_from_slice(&word.to_ne_bytes());
        }
        record
    }

    fn decode(record: [u8; 16]) -> Option<Started> {
        let (words, _) = record.as_chunks::<4>();
        let mut words = words.iter().map(|word| i32::from_ne_bytes(*word));
        let (kind, pid, third, fourth) =
            (words.next()?, words.next()?, words.next()?, words.next()?);
        let tier = if third == Tier::Event as i32 { Tier::Event } else { Tier::Poll };
        Some(match kind {
            0 => Started::Ready { guardian: pid, tier, watches_parent: fourth != 0 },
            _ => Started::Orphaned { pid, is_named: third != 0 },
        })
    }
}

/// Ends a guardian that is no longer needed.
pub(crate) fn dismiss(guardian: i32) {
    if let Ok(pidfd) = Pidfd::open(guardian) {
        // A process with that name is still the guardian.
        if sys::stat(guardian).is_some_and(|stat| stat.is_reaper) {
            pidfd.signal(libc::SIGKILL);
        }
        pidfd.close();
    }
}

/// The state of the guardian.
struct Guardian<'a> {
    plan: &'a Plan,
    table: OwnTable,
    /// Refers to the worker; `None`: the worker is polled.
    worker: Option<Pidfd>,
    /// The start time, which tells a polled worker from a later process with the same process id.
    worker_start: Option<u64>,
    /// Refers to the worker's parent.
    parent: Option<Pidfd>,
}

impl Guardian<'_> {
    /// The life of the guardian. The program waits for an answer on the pipe `answer_to`.
    fn begin(plan: &Plan, worker: Option<Pidfd>, answer_to: i32) {
        sys::begin_session();
        sys::name_this_thread(WATCHER_NAME);
        // A guarded program further up must not take this guardian for one of its helpers.
        sys::take_off_mark();
        let table = OwnTable::of_forked_process();
        let answer = |started: Started| {
            let is_heard = sys::write_record(answer_to, &started.encode());
            sys::close(answer_to);
            is_heard
        };
        let worker = worker.filter(|_| !cfg!(parentwatch_force_poll));
        // Its warning goes to stderr, which is still that of the program.
        let whom = whom_to_watch(Some(&table), plan.worker, plan.naming, None);
        let mut watched = match whom {
            Whom::Nobody => Watched { parent: None, supervisor: None },
            Whom::Watch { watched, .. } => watched,
            Whom::Orphaned(gone) => {
                answer(Started::Orphaned { pid: gone.pid, is_named: true });
                return;
            }
        };
        let start = sys::stat(plan.worker.pid).map(|stat| stat.start);
        let mut guardian = Guardian { plan, table, worker, worker_start: start, parent: None };
        if let Err(gone) = watched.begin(&mut guardian) {
            answer(Started::Orphaned { pid: gone.pid, is_named: guardian.is_named(gone) });
            return;
        }
        let raw = |handle: Option<Handle>| handle.map_or(-1, Pidfd::raw);
        let [parent, supervisor] =
            [watched.parent, watched.supervisor].map(|target| target.and_then(|it| it.handle));
        sys::close_all_but(&[raw(worker), raw(parent), raw(supervisor), answer_to]);
        sys::change_to_root();
        let title = match watched.supervisor.or(watched.parent) {
            Some(target) => Line::new(format_args!(
                "localai-parentwatch: guarding {} for {}",
                plan.worker.pid, target.pid
            )),
            None => Line::new(format_args!("localai-parentwatch: guarding {}", plan.worker.pid)),
        };
        // SAFETY: from here on there are only system calls, on this stack.
        unsafe {
            sys::set_title(title.as_bytes().trim_ascii_end());
            sys::release_memory();
        }
        let is_event = watched.tier() == Tier::Event && worker.is_some();
        let tier = if is_event { Tier::Event } else { Tier::Poll };
        let watches_parent = watched.parent.is_some();
        if !answer(Started::Ready { guardian: sys::own_pid(), tier, watches_parent }) {
            // The program has ended. Its process id may have been reused when we looked at it.
            return;
        }
        sys::release_code();

        let grace = plan.grace.unwrap_or(DEFAULT_GRACE);
        let gone = watched.until_death(&mut guardian, plan.interval, grace, |_| {});
        guardian.end_worker(gone);
    }

    fn is_named(&self, gone: Gone) -> bool {
        self.plan.naming.named.is_some_and(|named| named.pid() == gone.pid)
    }

    fn worker_has_ended(&self) -> bool {
        match self.worker {
            Some(worker) => worker.has_ended(),
            None => sys::looks_gone(self.plan.worker.pid, self.worker_start),
        }
    }

    /// The supervisor has died: ends the worker and its helpers.
    fn end_worker(&self, gone: Gone) -> ! {
        let Plan { worker: Worker { pid, group, .. }, scope, grace, mark, .. } = *self.plan;
        let leads = group == pid || sys::stat(pid).is_some_and(|stat| stat.group == pid);
        let group = Some(pid).filter(|_| scope != Scope::Process && leads);
        let time = grace.unwrap_or(HELPER_GRACE);
        let helpers = Helpers::of_living(pid, group, mark, scope, time);
        // Check this after the handles were opened: then they belong to the worker and its helpers.
        if self.worker_has_ended() {
            self.end_helpers();
        }
        if sys::watcher_of(pid).is_some() {
            // The worker uses the library too. It ends by itself, with its own line and hook.
            self.wait_for_worker(grace.unwrap_or(DEFAULT_GRACE));
        } else if !sys::is_ending(pid) {
            // The watcher of a worker that is ending may have written the line.
            self.tell(gone);
        }
        self.end(helpers)
    }

    fn wait_for_worker(&self, patience: Duration) {
        let until = sys::uptime().saturating_add(patience);
        while !self.worker_has_ended() && sys::uptime() < until {
            let left = until.saturating_sub(sys::uptime());
            let look = if self.worker.is_some() { left } else { left.min(MIN_INTERVAL) };
            sys::wait([self.worker], Some(look));
        }
    }

    /// The worker has ended, for whatever reason: ends the processes that it left behind. Others in its group live on:
    /// it may be the group of a shell's pipeline or of a script.
    fn end_helpers(&self) -> ! {
        let Plan { worker, scope, grace, mark, .. } = *self.plan;
        let time = grace.unwrap_or(HELPER_GRACE);
        self.end(Helpers::of_dead(worker.pid, mark, scope, time))
    }

    fn end(&self, mut helpers: Helpers) -> ! {
        helpers.terminate_all();
        helpers.finish();
        if let Some(cgroup) = &self.plan.cgroup {
            cgroup.end();
        }
        sys::exit_child()
    }

    /// Prints one line to the worker's stderr. A separate process writes it, because the write may hang.
    fn tell(&self, gone: Gone) {
        let worker = self.plan.worker.pid;
        let line = Line::gone(gone.pid, self.is_named(gone), worker, gone.tier);
        // SAFETY: system calls alone.
        let writer =
            unsafe { QuietChild::fork(|| sys::write_to_stderr_of(worker, line.as_bytes())) };
        if let Some(writer) = writer {
            writer.reap_within(LINE_PATIENCE);
        }
    }
}

/// The guardian looks at the worker's parent from outside. The end of the worker ends every wait.
impl Kernel for Guardian<'_> {
    type Handle = Handle;

    fn open(&mut self, pid: i32) -> Option<Handle> {
        self.parent = Handle::open_in(Some(&self.table), pid).ok();
        self.parent
    }

    /// When the parent's handle fires, the worker already has another parent.
    fn parent_is_gone(&mut self, pid: i32, _fired: bool) -> bool {
        let worker = sys::stat(self.plan.worker.pid)
            .filter(|stat| Some(stat.start) == self.worker_start && sys::procfs_is_ours());
        match (worker, self.parent) {
            (Some(worker), _) => worker.parent != pid,
            (None, Some(parent)) => parent.has_ended(),
            (None, None) => sys::is_absent(pid),
        }
    }

    fn has_ended(&mut self, handle: Handle) -> bool {
        handle.has_ended()
    }

    fn looks_gone(&mut self, pid: i32, start: Option<u64>) -> bool {
        sys::looks_gone(pid, start)
    }

    fn wait(
        &mut self,
        handles: [Option<Handle>; 2],
        timeout: Option<Duration>,
    ) -> Option<[bool; 2]> {
        let [parent, supervisor] = handles;
        let look = self.worker.is_none().then_some(self.plan.interval);
        let timeout = timeout.into_iter().chain(look).min();
        let fired = sys::wait([self.worker, parent, supervisor], timeout);
        // If the wait failed, check the worker too.
        let [worker, parent, supervisor] = fired.unwrap_or([true, false, false]);
        // If both die together, the supervisor is the reason.
        if !parent && !supervisor {
            if self.worker_has_ended() {
                self.end_helpers();
            }
            if worker {
                // The end is not confirmed. Waiting again could return at once.
                sys::nap(MIN_INTERVAL);
            }
        }
        fired.map(|_| [parent, supervisor])
    }

    fn now(&mut self) -> Instant {
        Instant::now()
    }
}
