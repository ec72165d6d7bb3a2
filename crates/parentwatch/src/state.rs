//! What this process knows about its watcher. The record is in a page that the kernel wipes in a forked child. So a
//! child starts with nothing: no watcher and no held lock, whatever its process id is.

use std::cell::UnsafeCell;
use std::fmt;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::config::Scope;
use crate::die::hook::HookIdentity;
use crate::identity::Supervisor;
use crate::options::Options;
use crate::sys::{self, Word};

/// The outcome of starting the watcher. The numbers are those of the C library; new ones are appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(i32)]
pub enum Status {
    /// The supervisor is being watched.
    Armed = 0,
    /// Switched off by `LOCALAI_BACKEND_PARENT_WATCH`.
    Disabled = 1,
    /// There is nothing to watch: the parent is PID 1, or is outside this process's PID namespace.
    NoParent = 2,
    /// This operating system is not supported.
    Unsupported = 3,
    /// The watcher was not started in this process (a forked child must start its own), or another thread is still
    /// starting it and this thread waits no longer.
    NotStarted = 4,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Status::Armed => "armed",
            Status::Disabled => "disabled",
            Status::NoParent => "no_parent",
            Status::Unsupported => "unsupported",
            Status::NotStarted => "not_started",
        })
    }
}

/// Why the watcher was not started. The program runs on without it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Error {
    /// The thread could not be created (pthread_create(3): EAGAIN). One warning was printed; a later call tries again.
    /// −1 in C.
    Exhausted,
    /// An option is out of range, or the watcher is already armed with other options. −2 in C.
    Invalid(&'static str),
    /// A bug in this library. It was caught; the program runs on. −127 in C.
    Internal,
}

impl Error {
    /// Its number in C.
    pub fn code(&self) -> i32 {
        match self {
            Error::Exhausted => -1,
            Error::Invalid(_) => -2,
            Error::Internal => -127,
        }
    }

    /// Its one word: `exhausted`, `invalid` or `internal`.
    pub fn word(&self) -> &'static str {
        match self {
            Error::Exhausted => "exhausted",
            Error::Invalid(_) => "invalid",
            Error::Internal => "internal",
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Invalid(what) => write!(f, "invalid: {what}"),
            other => f.write_str(other.word()),
        }
    }
}

impl std::error::Error for Error {}

/// How the supervisor is watched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "doctor", derive(serde::Serialize), serde(rename_all = "snake_case"))]
#[repr(i32)]
pub enum Tier {
    /// Not at all.
    #[default]
    None = 0,
    /// The watcher sleeps until the kernel wakes it.
    Event = 1,
    /// At least one watched process is polled, once per interval.
    Poll = 2,
}

impl Tier {
    /// Its one word: `none`, `event` or `poll`.
    pub fn word(&self) -> &'static str {
        match self {
            Tier::None => "none",
            Tier::Event => "event",
            Tier::Poll => "poll",
        }
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// How this process is being watched; see [`status`](crate::status).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Info {
    /// The outcome of the last attempt to start the watcher.
    pub state: Result<Status, Error>,
    /// How it watches. `Event` may change to `Poll` later, but `Poll` never to `Event`.
    pub tier: Tier,
    /// The parent, if it is watched.
    pub parent: Option<i32>,
    /// The supervisor, if it is watched and is not the parent.
    pub supervisor: Option<i32>,
    /// The polling interval: the armed one or, before that, the one in the environment.
    pub interval: Duration,
    /// What ends with the supervisor. Once armed, the scope in effect: it is [`Scope::Process`] for a worker that asked
    /// for [`Scope::Group`] but leads no process group. Before that, the scope in the environment.
    pub scope: Scope,
    /// The time that the worker has to exit. `None` if no grace was set and there is no hook.
    pub grace: Option<Duration>,
}

/// The phases of arming.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Phase {
    NotStarted = 0,
    Arming,
    Armed,
    Disabled,
    NoParent,
    Unsupported,
    Exhausted,
    Internal,
}

impl Phase {
    const ALL: [Phase; 8] = [
        Phase::NotStarted,
        Phase::Arming,
        Phase::Armed,
        Phase::Disabled,
        Phase::NoParent,
        Phase::Unsupported,
        Phase::Exhausted,
        Phase::Internal,
    ];

    pub(crate) fn outcome(self) -> Result<Status, Error> {
        match self {
            Phase::NotStarted | Phase::Arming => Ok(Status::NotStarted),
            Phase::Armed => Ok(Status::Armed),
            Phase::Disabled => Ok(Status::Disabled),
            Phase::NoParent => Ok(Status::NoParent),
            Phase::Unsupported => Ok(Status::Unsupported),
            Phase::Exhausted => Err(Error::Exhausted),
            Phase::Internal => Err(Error::Internal),
        }
    }
}

/// The options of the armed watcher. Written once, before the phase becomes `Armed`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Armed {
    pub interval: Duration,
    pub scope: Scope,
    /// This process led its process group.
    pub led: bool,
    pub grace: Option<Duration>,
    pub named: Option<Supervisor>,
    pub hook: Option<HookIdentity>,
}

impl Armed {
    /// Refuses a call with other options than the armed ones.
    pub(crate) fn agrees_with(&self, options: &Options) -> Result<Status, Error> {
        fn same<T: PartialEq>(asked: Option<T>, armed: T) -> bool {
            asked.is_none_or(|asked| asked == armed)
        }
        let same_hook = match &options.on_death {
            None => true,
            Some(hook) => hook.identity().is_some() && hook.identity() == self.hook,
        };
        let agrees = same(options.interval, self.interval)
            && same(options.scope, self.scope)
            && (options.parent.is_none() || options.parent == self.named)
            && (options.grace.is_none() || options.grace == self.grace)
            && same_hook;
        match agrees {
            true => Ok(Status::Armed),
            false => Err(Error::Invalid("already armed with other options")),
        }
    }
}

fn somebody(pid: &AtomicI32) -> Option<i32> {
    Some(pid.load(Ordering::Relaxed)).filter(|pid| *pid > 0)
}

/// The record. There is one per process.
pub(crate) struct State {
    /// The process id in the upper half, the phase in the lower half. A word with another process id was inherited from
    /// the parent, and is ignored.
    ///
    /// This is the second guard against a fork, for systems that cannot wipe the page (Linux before 4.14). It misses
    /// only a child that has the same process id in a new PID namespace.
    word: AtomicU64,
    /// What the watcher's thread answers.
    pub(crate) answer: Word,
    /// The thread that waits for the parent, for [`crate::wait_for_exit`].
    pub(crate) sentry: Word,
    tier: AtomicU32,
    /// The watched processes, and the leader of the process group that ends too; 0 for none.
    parent: AtomicI32,
    supervisor: AtomicI32,
    group_leader: AtomicI32,
    armed: UnsafeCell<MaybeUninit<Armed>>,
}

/// The answers of the watcher's thread to the call that started it.
pub(crate) const NO_ANSWER: u32 = 0;
/// The process is about to exit.
pub(crate) const DYING: u32 = 1;
pub(crate) const WATCHING: u32 = 2;
/// There is nothing to watch, and the thread has ended.
pub(crate) const NOBODY: u32 = 3;

/// How long a call waits for the watcher's thread to answer.
const PATIENCE: Duration = Duration::from_secs(1);

// SAFETY: only the thread that claimed the phase `Arming` writes `armed`. It is read only after the phase `Armed` was
// loaded with acquire. That phase is stored with release, and never changes again.
unsafe impl Sync for State {}

/// Used if no page can be mapped.
static FALLBACK: State = State {
    word: AtomicU64::new(0),
    answer: Word::new(0),
    sentry: Word::new(0),
    tier: AtomicU32::new(0),
    parent: AtomicI32::new(0),
    supervisor: AtomicI32::new(0),
    group_leader: AtomicI32::new(0),
    armed: UnsafeCell::new(MaybeUninit::uninit()),
};

/// The page, once it is mapped. A forked child inherits it, wiped.
static PAGE: AtomicPtr<State> = AtomicPtr::new(std::ptr::null_mut());

/// The result of claiming the phase `Arming`.
pub(crate) enum Claim {
    /// The caller has the claim, and must settle it.
    Ours,
    /// The watcher is already armed with these options.
    Armed(Armed),
    /// Another thread had the claim, and this was the outcome.
    Settled(Phase),
    /// Another thread has the claim, and did not settle it in time.
    Busy,
}

impl State {
    /// This process's record. Safe from any thread and after a fork. Never blocks.
    pub(crate) fn of_this_process() -> &'static State {
        let known = PAGE.load(Ordering::Acquire);
        let page = if known.is_null() { State::make_page() } else { known };
        // SAFETY: it points to `FALLBACK`, or to a page that is never unmapped once it is in `PAGE`. A page is aligned,
        // and its zeros are a valid State (`armed` is uninitialised then).
        unsafe { &*page }
    }

    /// Never null. The first choice stays: with a second record, a second watcher could be armed.
    fn make_page() -> *mut State {
        let fallback = (&raw const FALLBACK).cast_mut();
        let page = sys::page_wiped_on_fork(size_of::<State>());
        let ours = page.map_or(fallback, |page| page.cast::<State>());
        let chosen =
            PAGE.compare_exchange(std::ptr::null_mut(), ours, Ordering::AcqRel, Ordering::Acquire);
        match (chosen, page) {
            (Ok(_), _) => ours,
            (Err(others), Some(page)) => {
                sys::release_page(page, size_of::<State>());
                others
            }
            (Err(others), None) => others,
        }
    }

    fn word_of(phase: Phase) -> u64 {
        State::own_half() | phase as u64
    }

    fn own_half() -> u64 {
        // A pid_t is positive.
        u64::from(sys::own_pid().unsigned_abs()) << 32
    }

    pub(crate) fn phase(&self) -> Phase {
        State::phase_in(self.word.load(Ordering::Acquire))
    }

    fn phase_in(word: u64) -> Phase {
        let phase = word ^ State::own_half();
        let known = Phase::ALL.into_iter().find(|known| *known as u64 == phase);
        known.unwrap_or(Phase::NotStarted)
    }

    /// Claims the phase `Arming`.
    ///
    /// A second caller waits for the outcome of the first one, at most 1 s: it may be a signal handler that interrupted
    /// the first one. A caller without options takes that outcome. A caller with options tries again.
    pub(crate) fn claim(&self, asks_for_nothing: bool) -> Claim {
        const PATIENCE: u32 = 1_000;
        const NAP: Duration = Duration::from_millis(1);
        let mut waited = false;
        for _ in 0..PATIENCE {
            let seen = self.word.load(Ordering::Acquire);
            match State::phase_in(seen) {
                Phase::Armed => return Claim::Armed(self.armed()),
                Phase::Arming => {
                    waited = true;
                    sys::nap(NAP);
                }
                settled if waited && asks_for_nothing => return Claim::Settled(settled),
                _ => {
                    let arming = State::word_of(Phase::Arming);
                    let taken = self.word.compare_exchange(
                        seen,
                        arming,
                        Ordering::AcqRel,
                        Ordering::Acquire,
                    );
                    if taken.is_ok() {
                        return Claim::Ours;
                    }
                }
            }
        }
        Claim::Busy
    }

    /// Ends the phase `Arming`. Only the thread with the claim may call it.
    pub(crate) fn settle(&self, phase: Phase) {
        self.word.store(State::word_of(phase), Ordering::Release);
    }

    /// Only the thread with the claim may call it, before it starts the watcher's thread.
    pub(crate) fn record(&self, armed: Armed) {
        // SAFETY: only the thread with the claim writes `armed`, and no thread reads it before the phase is `Armed`.
        unsafe { (*self.armed.get()).write(armed) };
        self.answer.replace(NO_ANSWER);
        self.set_tier(Tier::None);
        self.set_watched(None, None, None);
    }

    /// Waits at most 1 s for the watcher's answer. While the answer is `DYING`, it waits for the end of the process.
    pub(crate) fn wait_for_answer(&self) -> u32 {
        let began = Instant::now();
        loop {
            let answer = self.answer.get();
            let left = match answer {
                NO_ANSWER => PATIENCE.saturating_sub(began.elapsed()),
                DYING => PATIENCE,
                _ => return answer,
            };
            if left.is_zero() {
                return answer;
            }
            self.answer.wait(answer, Some(left));
        }
    }

    /// The options of the armed watcher. Only after the phase `Armed` was loaded.
    fn armed(&self) -> Armed {
        // SAFETY: the phase `Armed` was loaded with acquire, so `record` happened before. No thread writes it
        // afterwards, since the phase `Armed` never changes.
        unsafe { (*self.armed.get()).assume_init() }
    }

    pub(crate) fn when_armed(&self) -> Option<Armed> {
        (self.phase() == Phase::Armed).then(|| self.armed())
    }

    pub(crate) fn tier(&self) -> Tier {
        match self.tier.load(Ordering::Relaxed) {
            1 => Tier::Event,
            2 => Tier::Poll,
            _ => Tier::None,
        }
    }

    pub(crate) fn set_tier(&self, tier: Tier) {
        self.tier.store(tier as u32, Ordering::Relaxed);
    }

    pub(crate) fn parent(&self) -> Option<i32> {
        somebody(&self.parent)
    }

    pub(crate) fn supervisor(&self) -> Option<i32> {
        somebody(&self.supervisor)
    }

    pub(crate) fn group_leader(&self) -> Option<i32> {
        somebody(&self.group_leader)
    }

    pub(crate) fn set_watched(
        &self,
        parent: Option<i32>,
        supervisor: Option<i32>,
        group_leader: Option<i32>,
    ) {
        self.parent.store(parent.unwrap_or(0), Ordering::Relaxed);
        self.supervisor.store(supervisor.unwrap_or(0), Ordering::Relaxed);
        self.group_leader.store(group_leader.unwrap_or(0), Ordering::Relaxed);
    }
}
