//! What this process knows of its watcher. It lives in a page that a fork wipes, so that a child
//! starts with nothing: no watcher, no lock left held, whatever its process id is.

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

/// What came of starting the watcher. The numbers are those of the C library; new ones are appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(i32)]
pub enum Status {
    /// The supervisor is being watched.
    Armed = 0,
    /// Switched off by `LOCALAI_BACKEND_PARENT_WATCH`.
    Disabled = 1,
    /// There is nothing to watch: this process was started by PID 1, or from outside its PID namespace.
    NoParent = 2,
    /// This operating system is not supported.
    Unsupported = 3,
    /// Nobody has started it in this process (a forked child has to start its own), or another thread
    /// has been starting it for longer than this one was willing to wait.
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
    /// No thread could be had (pthread_create(3): EAGAIN). One warning line was written; a later call
    /// tries again. −1 in C.
    Exhausted,
    /// An option is out of range, or the watcher is armed with other options. −2 in C.
    Invalid(&'static str),
    /// A bug of this library, kept from the program. −127 in C.
    Internal,
}

impl Error {
    /// The number that stands for it in C.
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
    /// The kernel wakes the watcher; it sleeps until then.
    Event = 1,
    /// At least one watched process is looked at every interval.
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

/// The watcher of this process as it stands; see [`status`](crate::status).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Info {
    /// What came of the last attempt to start it.
    pub state: Result<Status, Error>,
    /// How it watches. `Event` may become `Poll` later, never the other way round.
    pub tier: Tier,
    /// The direct parent, when it is watched.
    pub parent: Option<i32>,
    /// The supervisor further up, when it is watched as well.
    pub supervisor: Option<i32>,
    /// The interval of the polling tier: the armed one, else what the environment asks for.
    pub interval: Duration,
    /// What ends with the supervisor: what will be acted on once it is armed (a worker that leads no process group has
    /// [`Scope::Process`] for [`Scope::Group`]), else what the environment asks for.
    pub scope: Scope,
    /// How long the worker may take to end by itself. `None` when nothing was asked for and there is no hook.
    pub grace: Option<Duration>,
}

/// Where this process is on its way to a watcher.
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

/// What the watcher was armed with. Written once, before the phase says `Armed`.
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
    /// A call with other options than the armed ones must not be ignored.
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

/// The one record of a process.
pub(crate) struct State {
    /// The process id in the upper half, the phase in the lower one. A word with another process's id
    /// is a parent's: it says nothing here. That is the second guard against a fork, where the page
    /// cannot be wiped (Linux before 4.14); it misses only a child with the same number in a new PID
    /// namespace.
    word: AtomicU64,
    /// What the watcher's thread says of itself.
    pub(crate) answer: Word,
    /// The thread that waits for the parent on behalf of [`crate::wait_for_exit`].
    pub(crate) sentry: Word,
    tier: AtomicU32,
    /// Whom it watches, and who leads the process group that ends too; 0 for nobody.
    parent: AtomicI32,
    supervisor: AtomicI32,
    group_leader: AtomicI32,
    armed: UnsafeCell<MaybeUninit<Armed>>,
}

/// What the watcher's thread answers to the call that has started it.
pub(crate) const NO_ANSWER: u32 = 0;
/// The process exits.
pub(crate) const DYING: u32 = 1;
pub(crate) const WATCHING: u32 = 2;
/// Nobody is to be watched, and the thread has ended.
pub(crate) const NOBODY: u32 = 3;

/// How long a call waits for the watcher's thread to answer.
const PATIENCE: Duration = Duration::from_secs(1);

// SAFETY: `armed` is written only by the thread that claimed the phase `Arming`, and read only after the
// phase `Armed`, which is stored with release and never left, was loaded with acquire.
unsafe impl Sync for State {}

/// Used where no page is to be had.
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

/// The page, once made. It is inherited by a child, with nothing in it.
static PAGE: AtomicPtr<State> = AtomicPtr::new(std::ptr::null_mut());

/// What asking for the phase `Arming` came to.
pub(crate) enum Claim {
    /// Ours: the caller must settle it.
    Ours,
    /// Armed already, with this.
    Armed(Armed),
    /// Another thread was at it, and this is what came of it.
    Settled(Phase),
    /// Another thread is at it, and did not finish in time.
    Busy,
}

impl State {
    /// This process's record. Safe from any thread, also after a fork; never blocks.
    pub(crate) fn of_this_process() -> &'static State {
        let known = PAGE.load(Ordering::Acquire);
        let page = if known.is_null() { State::make_page() } else { known };
        // SAFETY: it points to `FALLBACK`, or to a mapping that is never unmapped once it is in `PAGE`, is
        // aligned to a page, and whose zeros are a valid State (`armed` is uninitialised then).
        unsafe { &*page }
    }

    /// Never null. Whatever is chosen first stays: a second record could arm a second watcher.
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
        // a pid_t is positive
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

    /// Takes the phase `Arming`, or tells who was first. A second caller waits for the outcome of the
    /// first, for at most a second: it may be a signal handler over the first. A caller without options takes that
    /// outcome. A caller with options tries again.
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

    /// Ends the phase `Arming`. Only the claimant may call it.
    pub(crate) fn settle(&self, phase: Phase) {
        self.word.store(State::word_of(phase), Ordering::Release);
    }

    /// Only the claimant may call it, before the watcher's thread is started.
    pub(crate) fn record(&self, armed: Armed) {
        // SAFETY: the claimant is alone with `armed`: nobody reads it before the phase is `Armed`.
        unsafe { (*self.armed.get()).write(armed) };
        self.answer.replace(NO_ANSWER);
        self.set_tier(Tier::None);
        self.set_watched(None, None, None);
    }

    /// Waits for the watcher's answer, for 1 s. One that is dying ends the process.
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

    /// What was armed. Only after the phase was seen to be `Armed`.
    fn armed(&self) -> Armed {
        // SAFETY: the phase `Armed` was loaded with acquire, so `record` happened before; nobody writes
        // it afterwards, since `Armed` is never left.
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
