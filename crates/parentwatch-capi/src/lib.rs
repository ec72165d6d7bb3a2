//! The C library `liblocalai_parentwatch`. It only translates: pointers are checked, panics are caught,
//! and everything is asked of the crate `parentwatch`.
//!
//! The doc comments are the text of `<localai_parentwatch.h>`.

use std::ffi::{CStr, c_char, c_void};
use std::mem::offset_of;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use parentwatch::{Config, Error, Exec, ExecError, Exit, Options, Scope, Status, Supervisor};

/// The supervisor is being watched.
pub const LOCALAI_PARENTWATCH_ARMED: i32 = 0;
/// Switched off by LOCALAI_BACKEND_PARENT_WATCH.
pub const LOCALAI_PARENTWATCH_DISABLED: i32 = 1;
/// There is nothing to watch: this process was started by PID 1, or from outside its PID namespace.
pub const LOCALAI_PARENTWATCH_NO_PARENT: i32 = 2;
/// This operating system is not supported.
pub const LOCALAI_PARENTWATCH_UNSUPPORTED: i32 = 3;
/// Nobody has started the watcher in this process, or another thread is still at it.
pub const LOCALAI_PARENTWATCH_NOT_STARTED: i32 = 4;
/// No thread could be had; one warning line was written. The program runs on; call again later.
pub const LOCALAI_PARENTWATCH_EXHAUSTED: i32 = -1;
/// A bad argument, or the watcher is armed with other options. Nothing was changed.
pub const LOCALAI_PARENTWATCH_INVALID: i32 = -2;
/// A bug of this library, kept from the program.
pub const LOCALAI_PARENTWATCH_INTERNAL: i32 = -127;

/// Nothing is watched.
pub const LOCALAI_PARENTWATCH_TIER_NONE: i32 = 0;
/// The kernel wakes the watcher; it sleeps until then.
pub const LOCALAI_PARENTWATCH_TIER_EVENT: i32 = 1;
/// At least one watched process is looked at every interval.
pub const LOCALAI_PARENTWATCH_TIER_POLL: i32 = 2;

/// In options: what the environment says, else the tree.
pub const LOCALAI_PARENTWATCH_SCOPE_DEFAULT: i32 = 0;
/// The worker, and its process group when it leads that group.
pub const LOCALAI_PARENTWATCH_SCOPE_GROUP: i32 = 1;
/// The worker alone.
pub const LOCALAI_PARENTWATCH_SCOPE_PROCESS: i32 = 2;
/// As LOCALAI_PARENTWATCH_SCOPE_GROUP, and every process that is still a descendant of the worker, whatever its
/// group or session.
pub const LOCALAI_PARENTWATCH_SCOPE_TREE: i32 = 3;

/// In `flags`: `grace_ns` is set, also when it is 0.
pub const LOCALAI_PARENTWATCH_GRACE_IS_SET: u32 = 1;

/// In `flags`, for localai_parentwatch_exec() alone: begin the program in a control group of its own (cgroup v2), which
/// nobody escapes. Where that is not to be had one line on stderr says so.
pub const LOCALAI_PARENTWATCH_EXEC_IN_CGROUP: u32 = 2;
/// In `flags`, for localai_parentwatch_exec() alone: say on stderr who guards whom.
pub const LOCALAI_PARENTWATCH_EXEC_VERBOSE: u32 = 4;

/// The number that localai_parentwatch_abi_version() returns for this header. It changes when a program
/// built with an older header would no longer work; what is only added does not change it.
pub const LOCALAI_PARENTWATCH_ABI_VERSION: u32 = 1;

/// What to do when the supervisor is gone, before the worker exits. It runs once, on a thread of its own
/// with at least 1 MiB of stack and signals blocked, and is cut off at the end of the grace. It must not throw
/// or longjmp out of itself. When it ends the process itself (exit, a signal, a crash), the exit status is its
/// own; the helpers go all the same. `user_data` must stay valid for the life of the process.
#[allow(non_camel_case_types)]
pub type localai_parentwatch_on_death_t = Option<unsafe extern "C" fn(user_data: *mut c_void)>;

/// What a program asks for. Set it to zero, then `size`; every other zero means "not given": the
/// environment decides, else the default. It beats the environment, except that a watcher switched off
/// stays off.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types)]
pub struct localai_parentwatch_options_t {
    /// sizeof(localai_parentwatch_options_t). A larger one, of a later header, is accepted as long as
    /// everything beyond what this library knows is zero.
    pub size: usize,
    /// How often the polling tier looks, in nanoseconds: from 10 ms to 1 h. Default: 2 s.
    pub interval_ns: u64,
    /// How long the worker, and after it its helpers, may take to end by themselves once the supervisor is gone, in
    /// nanoseconds: at most 1 h. The worker has that time for on_death or, without on_death, for its own graceful
    /// stop, which a SIGTERM to itself begins. The helpers have it between SIGTERM and SIGKILL. Default: 5 s for
    /// on_death, none for a worker without, 1 s for helpers. On Windows it is the time of on_death alone. For none at all, 0 with the flag
    /// LOCALAI_PARENTWATCH_GRACE_IS_SET.
    pub grace_ns: u64,
    /// Who the supervisor is, "PID" or "PID@STARTTIME@PIDNS" as in LOCALAI_BACKEND_PARENT_PID. Copied;
    /// need not outlive the call.
    pub parent: *const c_char,
    /// What to do before the worker exits; may be NULL.
    pub on_death: localai_parentwatch_on_death_t,
    /// Given to on_death.
    pub user_data: *mut c_void,
    /// LOCALAI_PARENTWATCH_SCOPE_*.
    pub scope: i32,
    /// LOCALAI_PARENTWATCH_GRACE_IS_SET and, in localai_parentwatch_exec(), LOCALAI_PARENTWATCH_EXEC_*.
    pub flags: u32,
}

/// The watcher of this process as it stands.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types)]
pub struct localai_parentwatch_info_t {
    /// Set by the caller to sizeof(localai_parentwatch_info_t); no more than that is written.
    pub size: usize,
    /// A status: what came of the last attempt to start the watcher.
    pub state: i32,
    /// LOCALAI_PARENTWATCH_TIER_*. EVENT may become POLL later, never the other way round.
    pub tier: i32,
    /// The watched direct parent, then the supervisor further up; 0 for none.
    pub watched_pids: [i32; 2],
    /// LOCALAI_PARENTWATCH_SCOPE_TREE, _GROUP or _PROCESS: what will be acted on once it is armed (a worker that leads no
    /// process group has _PROCESS for _GROUP), else the environment's.
    pub scope: i32,
    /// 0, or LOCALAI_PARENTWATCH_GRACE_IS_SET.
    pub flags: u32,
    /// The interval of the polling tier in nanoseconds: the armed one, else the environment's.
    pub interval_ns: u64,
    /// How long the worker may take to end by itself, in nanoseconds. 0 without the flag
    /// LOCALAI_PARENTWATCH_GRACE_IS_SET: nothing was asked for, and there is no on_death.
    pub grace_ns: u64,
}

/// Runs what an entry does; a panic of ours becomes a status and never reaches the caller.
fn guarded<T>(fallback: T, entry: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(entry)).unwrap_or(fallback)
}

fn code(outcome: Result<Status, Error>) -> i32 {
    match outcome {
        Ok(status) => status as i32,
        Err(error) => error.code(),
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Starts the watcher of this process, as the environment asks for it. Call it first thing in main().
///
/// Returns a status, which may be ignored: whatever it is, the program runs on. When the supervisor is
/// proven to have died already, it does not return: the process exits with status 1.
///
/// It waits 1 s at most for the watcher's thread. While a hung file system holds that up, it returns
/// LOCALAI_PARENTWATCH_ARMED, and the tier is LOCALAI_PARENTWATCH_TIER_NONE until the thread watches.
///
/// May be called from any thread, any number of times; once armed it stays armed. A forked child has no
/// watcher of its own until it calls this itself (not between vfork and exec). Must not race with
/// setenv() in another thread. Warnings about bad values go to stderr, one line each, never blocking.
#[unsafe(no_mangle)]
pub extern "C" fn start_parent_death_watcher() -> i32 {
    guarded(LOCALAI_PARENTWATCH_INTERNAL, || code(parentwatch::start()))
}

/// Starts the watcher with options; everything else is as in start_parent_death_watcher(), which is this
/// with NULL.
///
/// `options` may be NULL (none); it is read during the call alone and stays the caller's. Returns
/// LOCALAI_PARENTWATCH_INVALID, with nothing armed or changed, when `size` is too small, a value is out
/// of range, something unknown is asked for, or the watcher is armed with other options already.
///
/// # Safety
/// `options` is NULL or points to `size` readable bytes; `parent` is NULL or a NUL-terminated string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn localai_parentwatch_start(
    options: *const localai_parentwatch_options_t,
) -> i32 {
    guarded(LOCALAI_PARENTWATCH_INTERNAL, || {
        if options.is_null() {
            return code(parentwatch::start());
        }
        // SAFETY: the caller's promise.
        match unsafe { read_options(options) } {
            Some((options, 0)) => code(options.start()),
            _ => LOCALAI_PARENTWATCH_INVALID,
        }
    })
}

/// Becomes the program `argv[0]` under a guardian, as `localai-parentwatch exec` does; see docs/contract.md. It is looked
/// for in the PATH of its environment.
///
/// The program keeps process id, parent, process group, terminal, descriptors and signals. The guardian, a process of its
/// own and no child, ends it with its supervisor, and ends what it leaves behind when it dies itself. `envp` is its
/// environment, NULL for that of this process. `options` may be NULL; `on_death` must be NULL.
///
/// Returns only when the program does not run, with this process as it was and no guardian left: 127 when there is no
/// such program, 126 when it cannot be run, both with errno; LOCALAI_PARENTWATCH_INVALID for a bad argument. When the
/// supervisor is proven to have died already, the process exits with status 1. A guardian that cannot be had costs one
/// line on stderr; the program runs all the same.
///
/// Must not race with setenv() in another thread.
///
/// On Windows this process stays: it is the guardian, its child is the program, and it ends with the program's exit
/// status. Strings are UTF-8, and errno is not set. On other systems than Linux and Windows the program runs unguarded.
///
/// # Safety
/// `argv`, and `envp` if it is not NULL, point to NUL-terminated strings, with NULL behind the last one. `options` as in
/// localai_parentwatch_start().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn localai_parentwatch_exec(
    argv: *const *mut c_char,
    envp: *const *mut c_char,
    options: *const localai_parentwatch_options_t,
) -> i32 {
    guarded(LOCALAI_PARENTWATCH_INTERNAL, || {
        let read = match options.is_null() {
            true => Some((Options::new(), 0)),
            // SAFETY: the caller's promise.
            false => unsafe { read_options(options) },
        };
        let Some((options, flags)) = read else { return LOCALAI_PARENTWATCH_INVALID };
        // SAFETY: as above.
        let (command, environment) = unsafe { (strings(argv), strings(envp)) };
        let exec = Exec::new(options)
            .cgroup(flags & LOCALAI_PARENTWATCH_EXEC_IN_CGROUP != 0)
            .verbose(flags & LOCALAI_PARENTWATCH_EXEC_VERBOSE != 0);
        let environment = environment.as_deref();
        match exec.run(command.as_deref().unwrap_or_default(), environment) {
            error @ ExecError::NotExecuted(_) => {
                set_errno(error.raw_os_error().unwrap_or(0));
                i32::from(error.exit_status())
            }
            _ => LOCALAI_PARENTWATCH_INVALID,
        }
    })
}

fn set_errno(code: i32) {
    #[cfg(target_os = "linux")]
    // SAFETY: the address of this thread's errno.
    unsafe {
        *libc::__errno_location() = code;
    }
    #[cfg(target_os = "macos")]
    // SAFETY: the address of this thread's errno.
    unsafe {
        *libc::__error() = code;
    }
    let _ = code;
}

/// A list of strings that ends with NULL; `None` for NULL.
///
/// # Safety
/// As localai_parentwatch_exec; the strings outlive what is returned.
unsafe fn strings<'a>(list: *const *mut c_char) -> Option<Vec<&'a CStr>> {
    if list.is_null() {
        return None;
    }
    let mut found = Vec::new();
    loop {
        // SAFETY: the caller's promise: NULL is not yet reached.
        let string = unsafe { *list.add(found.len()) };
        if string.is_null() {
            return Some(found);
        }
        // SAFETY: the caller's promise.
        found.push(unsafe { CStr::from_ptr(string) });
    }
}

/// The options, and the flags that are for localai_parentwatch_exec() alone. `None`: invalid.
///
/// # Safety
/// As localai_parentwatch_start; not NULL.
unsafe fn read_options(options: *const localai_parentwatch_options_t) -> Option<(Options, u32)> {
    const KNOWN: usize = size_of::<localai_parentwatch_options_t>();
    /// No later header will need more; a size beyond it is not one.
    const LARGEST: usize = 4096;
    if !options.is_aligned() {
        return None;
    }
    // SAFETY: the caller promises `size` bytes; the size itself comes first.
    let size = unsafe { (&raw const (*options).size).read() };
    if !(KNOWN..=LARGEST).contains(&size) {
        return None;
    }
    // What a later header added and this library does not know must not be asked for.
    // SAFETY: within the `size` bytes that the caller promises.
    let unknown =
        unsafe { std::slice::from_raw_parts(options.cast::<u8>().add(KNOWN), size - KNOWN) };
    if unknown.iter().any(|byte| *byte != 0) {
        return None;
    }
    // SAFETY: all of it is within `size`.
    let given = unsafe { options.read() };
    const FOR_EXEC: u32 = LOCALAI_PARENTWATCH_EXEC_IN_CGROUP | LOCALAI_PARENTWATCH_EXEC_VERBOSE;
    if given.flags & !(LOCALAI_PARENTWATCH_GRACE_IS_SET | FOR_EXEC) != 0 {
        return None;
    }
    let mut options = Options::new();
    if given.interval_ns != 0 {
        options = options.interval(Duration::from_nanos(given.interval_ns));
    }
    if given.grace_ns != 0 || given.flags & LOCALAI_PARENTWATCH_GRACE_IS_SET != 0 {
        options = options.grace(Duration::from_nanos(given.grace_ns));
    }
    options = match given.scope {
        LOCALAI_PARENTWATCH_SCOPE_DEFAULT => options,
        LOCALAI_PARENTWATCH_SCOPE_GROUP => options.scope(Scope::Group),
        LOCALAI_PARENTWATCH_SCOPE_PROCESS => options.scope(Scope::Process),
        LOCALAI_PARENTWATCH_SCOPE_TREE => options.scope(Scope::Tree),
        _ => return None,
    };
    if !given.parent.is_null() {
        // SAFETY: the caller promises a NUL-terminated string.
        let parent = unsafe { CStr::from_ptr(given.parent) };
        options = options.parent(parent.to_str().ok()?.parse::<Supervisor>().ok()?);
    }
    if let Some(on_death) = given.on_death {
        // SAFETY: the header asks the caller for it.
        options = unsafe { options.on_death_function(on_death, given.user_data) };
    }
    Some((options, given.flags & FOR_EXEC))
}

/// Tells how this process is being watched. Writes the first `info->size` bytes of the answer, and sets `size` to how
/// many bytes that were.
///
/// Returns `info->state`, or LOCALAI_PARENTWATCH_INVALID, which is no state, when `info` is NULL or `size` does not
/// include `tier`. Prints nothing. Safe from any thread and after a fork: a forked child sees its own state.
///
/// # Safety
/// `info` is NULL or points to `size` writable bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn localai_parentwatch_status(info: *mut localai_parentwatch_info_t) -> i32 {
    const LEAST: usize = offset_of!(localai_parentwatch_info_t, watched_pids);
    guarded(LOCALAI_PARENTWATCH_INTERNAL, || {
        if info.is_null() || !info.is_aligned() {
            return LOCALAI_PARENTWATCH_INVALID;
        }
        // SAFETY: the caller promises `size` bytes; the size itself comes first.
        let size = unsafe { (&raw const (*info).size).read() };
        if size < LEAST {
            return LOCALAI_PARENTWATCH_INVALID;
        }
        let size = size.min(size_of::<localai_parentwatch_info_t>());
        let now = parentwatch::status();
        let answer = localai_parentwatch_info_t {
            size,
            state: code(now.state),
            tier: now.tier as i32,
            watched_pids: [now.parent.unwrap_or(0), now.supervisor.unwrap_or(0)],
            scope: now.scope as i32,
            flags: now.grace.map_or(0, |_| LOCALAI_PARENTWATCH_GRACE_IS_SET),
            interval_ns: nanos(now.interval),
            grace_ns: now.grace.map_or(0, nanos),
        };
        // SAFETY: `size` bytes are writable, and are no more than the answer has.
        unsafe {
            std::ptr::copy_nonoverlapping(
                (&raw const answer).cast::<u8>(),
                info.cast::<u8>(),
                size,
            );
        }
        answer.state
    })
}

/// Whether the environment leaves the watcher on: 1 or 0. Reads LOCALAI_BACKEND_PARENT_WATCH at every
/// call; must not race with setenv() in another thread. Prints nothing.
#[unsafe(no_mangle)]
pub extern "C" fn localai_parentwatch_enabled() -> i32 {
    guarded(0, || i32::from(Config::from_env().enabled))
}

/// The interval of the polling tier that the environment asks for, in nanoseconds: from 10 ms to 1 h, 2 s
/// unless set. Must not race with setenv() in another thread. Prints nothing.
#[unsafe(no_mangle)]
pub extern "C" fn localai_parentwatch_interval_ns() -> u64 {
    guarded(0, || nanos(Config::from_env().interval))
}

/// Blocks the calling thread until `pid` is no longer this process's parent, and returns 0 then.
///
/// The kernel wakes it where it can; else it looks every `interval_ns` nanoseconds, which are brought
/// into 10 ms to 1 h. Returns LOCALAI_PARENTWATCH_NO_PARENT at once when `pid` is 1 or less (nobody has
/// died), 0 at once when `pid` is not the parent to begin with, LOCALAI_PARENTWATCH_UNSUPPORTED where it
/// cannot wait. Needs no watcher, ignores the environment, may be called repeatedly, from any thread and
/// after a fork. A thread, one for the process, holds the descriptor that tells of the death in a table of its own;
/// it ends when the parent has. Signals are handled by their handlers; the wait goes on. It is not a cancellation point.
#[unsafe(no_mangle)]
pub extern "C" fn localai_parentwatch_wait_for_exit(pid: i32, interval_ns: u64) -> i32 {
    guarded(LOCALAI_PARENTWATCH_INTERNAL, || {
        match parentwatch::wait_for_exit(pid, Duration::from_nanos(interval_ns)) {
            Exit::Exited => 0,
            Exit::NoParent => LOCALAI_PARENTWATCH_NO_PARENT,
            Exit::Unsupported => LOCALAI_PARENTWATCH_UNSUPPORTED,
        }
    })
}

/// Whether `pid`, which was this process's parent, no longer is, or this process was adopted by PID 1: 1
/// or 0. Safe from any thread and after a fork.
#[unsafe(no_mangle)]
pub extern "C" fn localai_parentwatch_parent_died(pid: i32) -> i32 {
    guarded(0, || i32::from(parentwatch::parent_died(pid)))
}

/// Writes the token of this process, a NUL-terminated string for LOCALAI_BACKEND_PARENT_PID in the
/// environment of the workers that it starts.
///
/// Returns its length without the NUL, as snprintf does: when that is `len` or more, it was cut to fit.
/// `buf` may be NULL when `len` is 0. LOCALAI_PARENTWATCH_INVALID when `buf` is NULL otherwise. 64 bytes
/// are always enough. Safe from any thread; a forked child has a token of its own.
///
/// # Safety
/// `buf` is NULL or points to `len` writable bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn localai_parentwatch_token(buf: *mut c_char, len: usize) -> i32 {
    guarded(LOCALAI_PARENTWATCH_INTERNAL, || {
        // SAFETY: the caller's promise.
        unsafe { write_text(&parentwatch::token(), buf, len) }
    })
}

/// Writes "LOCALAI_BACKEND_PARENT_PID=TOKEN", an entry for the environment of a worker that this process starts: it names
/// this process as the supervisor. Put it in the place of an entry of that name.
///
/// Length and errors as in localai_parentwatch_token(). 96 bytes are always enough.
///
/// # Safety
/// `buf` is NULL or points to `len` writable bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn localai_parentwatch_child_env(buf: *mut c_char, len: usize) -> i32 {
    guarded(LOCALAI_PARENTWATCH_INTERNAL, || {
        let entry = format!("{}={}", parentwatch::ENV_PARENT_PID, parentwatch::token());
        // SAFETY: the caller's promise.
        unsafe { write_text(&entry, buf, len) }
    })
}

/// As snprintf(3) does.
///
/// # Safety
/// `buf` is NULL or points to `len` writable bytes.
unsafe fn write_text(text: &str, buf: *mut c_char, len: usize) -> i32 {
    if buf.is_null() && len != 0 {
        return LOCALAI_PARENTWATCH_INVALID;
    }
    if let Some(room) = len.checked_sub(1) {
        let taken = room.min(text.len());
        // SAFETY: `taken` + 1 bytes are within `len`, and the text has no fewer than `taken`.
        unsafe {
            std::ptr::copy_nonoverlapping(text.as_ptr().cast(), buf, taken);
            buf.add(taken).write(0);
        }
    }
    i32::try_from(text.len()).unwrap_or(LOCALAI_PARENTWATCH_INTERNAL)
}

/// The one word for a status: "armed", "disabled", "no_parent", "unsupported", "not_started",
/// "exhausted", "invalid", "internal"; "unknown" for any other number. Never NULL; static storage, not to
/// be freed.
#[unsafe(no_mangle)]
pub extern "C" fn localai_parentwatch_status_text(status: i32) -> *const c_char {
    let text = match status {
        LOCALAI_PARENTWATCH_ARMED => c"armed",
        LOCALAI_PARENTWATCH_DISABLED => c"disabled",
        LOCALAI_PARENTWATCH_NO_PARENT => c"no_parent",
        LOCALAI_PARENTWATCH_UNSUPPORTED => c"unsupported",
        LOCALAI_PARENTWATCH_NOT_STARTED => c"not_started",
        LOCALAI_PARENTWATCH_EXHAUSTED => c"exhausted",
        LOCALAI_PARENTWATCH_INVALID => c"invalid",
        LOCALAI_PARENTWATCH_INTERNAL => c"internal",
        _ => c"unknown",
    };
    text.as_ptr()
}

/// The version of the library, such as "0.1.0". Never NULL; static storage, not to be freed.
#[unsafe(no_mangle)]
pub extern "C" fn localai_parentwatch_version() -> *const c_char {
    const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "\0");
    VERSION.as_ptr().cast()
}

/// LOCALAI_PARENTWATCH_ABI_VERSION of the library that is loaded; a program that loads it by name compares
/// the two.
#[unsafe(no_mangle)]
pub extern "C" fn localai_parentwatch_abi_version() -> u32 {
    LOCALAI_PARENTWATCH_ABI_VERSION
}
