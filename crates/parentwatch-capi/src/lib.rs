//! The C library `liblocalai_parentwatch`. It only translates: it checks pointers, catches panics, and calls the crate
//! `parentwatch` for everything else.
//!
//! cbindgen copies the doc comments into `<localai_parentwatch.h>`.

use std::ffi::{CStr, c_char, c_void};
use std::mem::offset_of;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use parentwatch::{Config, Error, Exec, ExecError, Exit, Options, Scope, Status, Supervisor};

/// The supervisor is being watched.
pub const LOCALAI_PARENTWATCH_ARMED: i32 = 0;
/// Switched off by LOCALAI_BACKEND_PARENT_WATCH.
pub const LOCALAI_PARENTWATCH_DISABLED: i32 = 1;
/// There is nothing to watch: the parent is PID 1, or is outside this process's PID namespace.
pub const LOCALAI_PARENTWATCH_NO_PARENT: i32 = 2;
/// This operating system is not supported.
pub const LOCALAI_PARENTWATCH_UNSUPPORTED: i32 = 3;
/// The watcher was not started in this process, or another thread is still starting it.
pub const LOCALAI_PARENTWATCH_NOT_STARTED: i32 = 4;
/// The thread could not be created; one warning was printed. The program runs on; call again later.
pub const LOCALAI_PARENTWATCH_EXHAUSTED: i32 = -1;
/// A bad argument, or the watcher is already armed with other options. Nothing was changed.
pub const LOCALAI_PARENTWATCH_INVALID: i32 = -2;
/// A bug in this library. It was caught; the program runs on.
pub const LOCALAI_PARENTWATCH_INTERNAL: i32 = -127;

/// Nothing is watched.
pub const LOCALAI_PARENTWATCH_TIER_NONE: i32 = 0;
/// The watcher sleeps until the kernel wakes it.
pub const LOCALAI_PARENTWATCH_TIER_EVENT: i32 = 1;
/// At least one watched process is polled, once per interval.
pub const LOCALAI_PARENTWATCH_TIER_POLL: i32 = 2;

/// In options: use LOCALAI_BACKEND_PARENT_WATCH_SCOPE, or the tree if it is not set.
pub const LOCALAI_PARENTWATCH_SCOPE_DEFAULT: i32 = 0;
/// The worker, and its process group if the worker leads it.
pub const LOCALAI_PARENTWATCH_SCOPE_GROUP: i32 = 1;
/// The worker alone.
pub const LOCALAI_PARENTWATCH_SCOPE_PROCESS: i32 = 2;
/// As LOCALAI_PARENTWATCH_SCOPE_GROUP, and all descendants of the worker, in any process group or session.
pub const LOCALAI_PARENTWATCH_SCOPE_TREE: i32 = 3;

/// In `flags`: `grace_ns` counts even if it is 0.
pub const LOCALAI_PARENTWATCH_GRACE_IS_SET: u32 = 1;

/// In `flags`, for localai_parentwatch_exec() only: run the program in its own control group (cgroup v2), which no
/// descendant can leave. If the group cannot be created, one line on stderr says so.
pub const LOCALAI_PARENTWATCH_EXEC_IN_CGROUP: u32 = 2;
/// In `flags`, for localai_parentwatch_exec() only: print to stderr which process guards which.
pub const LOCALAI_PARENTWATCH_EXEC_VERBOSE: u32 = 4;

/// The value of localai_parentwatch_abi_version() in a library that matches this header. It changes when programs built
/// with an older header would stop working. Additions do not change it.
pub const LOCALAI_PARENTWATCH_ABI_VERSION: u32 = 1;

/// A hook: what to do when the supervisor has died, before the worker exits. It runs once, on its own thread, with at
/// least 1 MiB of stack and with signals blocked. The worker exits at the end of the grace even if the hook still runs.
///
/// It must not throw, nor longjmp out of itself. It may end the process itself (by exit, a signal or a crash): the exit
/// status is then the hook's, and the helpers still end. `user_data` must stay valid for the life of the process.
#[allow(non_camel_case_types)]
pub type localai_parentwatch_on_death_t = Option<unsafe extern "C" fn(user_data: *mut c_void)>;

/// Options. Zero the struct, then set `size`. Every other member that is zero is "not given": the environment decides,
/// then the default. An option overrides the environment, with one exception: LOCALAI_BACKEND_PARENT_WATCH can always
/// switch the watcher off.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types)]
pub struct localai_parentwatch_options_t {
    /// sizeof(localai_parentwatch_options_t). A program built with a later header may pass a larger struct, if all the
    /// members that this library does not know are zero.
    pub size: usize,
    /// The polling interval in nanoseconds: 10 ms to 1 h. Default: 2 s.
    pub interval_ns: u64,
    /// The grace in nanoseconds, at most 1 h: the time to exit once the supervisor has died.
    ///
    /// The worker has this time for on_death. Without on_death it gets SIGTERM, and has this time for its own graceful
    /// stop. After that, the helpers have this time between SIGTERM and SIGKILL. Default: 5 s for on_death, no time for
    /// a worker without on_death, 1 s for helpers. For no time at all, set 0 and the flag
    /// LOCALAI_PARENTWATCH_GRACE_IS_SET. On Windows it limits on_death only.
    pub grace_ns: u64,
    /// The supervisor: "PID" or "PID@STARTTIME@PIDNS", as in LOCALAI_BACKEND_PARENT_PID. The library copies it.
    pub parent: *const c_char,
    /// The hook, or NULL.
    pub on_death: localai_parentwatch_on_death_t,
    /// The argument of on_death.
    pub user_data: *mut c_void,
    /// LOCALAI_PARENTWATCH_SCOPE_*.
    pub scope: i32,
    /// LOCALAI_PARENTWATCH_GRACE_IS_SET or 0. For localai_parentwatch_exec() also LOCALAI_PARENTWATCH_EXEC_*.
    pub flags: u32,
}

/// How this process is being watched.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types)]
pub struct localai_parentwatch_info_t {
    /// The caller sets it to sizeof(localai_parentwatch_info_t). The library writes no more bytes than that.
    pub size: usize,
    /// A status: the outcome of the last attempt to start the watcher.
    pub state: i32,
    /// LOCALAI_PARENTWATCH_TIER_*. EVENT may change to POLL later, but POLL never to EVENT.
    pub tier: i32,
    /// The process ids of the watched parent and of the watched supervisor, if that is not the parent; 0 for none.
    pub watched_pids: [i32; 2],
    /// LOCALAI_PARENTWATCH_SCOPE_TREE, _GROUP or _PROCESS. Once armed, the scope in effect: it is _PROCESS for a worker
    /// that asked for _GROUP but leads no process group. Before that, the scope in the environment.
    pub scope: i32,
    /// 0, or LOCALAI_PARENTWATCH_GRACE_IS_SET.
    pub flags: u32,
    /// The polling interval in nanoseconds: the armed one or, before that, the one in the environment.
    pub interval_ns: u64,
    /// How long the worker may take to exit, in nanoseconds. It is 0 without the flag LOCALAI_PARENTWATCH_GRACE_IS_SET:
    /// then no grace was set and there is no on_death.
    pub grace_ns: u64,
}

/// Runs an entry point. A panic becomes `fallback`, and never unwinds into the caller.
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

/// Starts the watcher of this process, with the settings in the environment. Call it first thing in main().
///
/// Returns a status, which the caller may ignore: the program runs on in any case. If the supervisor is proven to have
/// died already, the call does not return: the process exits with status 1.
///
/// The call waits at most 1 s for the watcher's thread. If a hung file system delays that thread for longer, the call
/// returns LOCALAI_PARENTWATCH_ARMED, and the tier is LOCALAI_PARENTWATCH_TIER_NONE until the thread watches.
///
/// Any thread may call it, any number of times. Once armed, the watcher stays armed. A forked child has no watcher
/// until it calls this function itself (not between vfork and exec). Another thread must not call setenv() meanwhile.
/// Each bad value costs one warning line on stderr, which never blocks.
#[unsafe(no_mangle)]
pub extern "C" fn start_parent_death_watcher() -> i32 {
    guarded(LOCALAI_PARENTWATCH_INTERNAL, || code(parentwatch::start()))
}

/// Starts the watcher with options. start_parent_death_watcher() is the same with NULL.
///
/// `options` may be NULL. The library reads it during the call only. Returns LOCALAI_PARENTWATCH_INVALID, and changes
/// nothing, when `size` is too small, a value is out of range, an unknown member or flag is set, or the watcher is
/// already armed with other options.
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

/// Executes the program `argv[0]` under a guardian, as `localai-parentwatch exec` does; see docs/contract.md. The
/// program replaces this process and keeps its process id, parent, process group, terminal, descriptors and signals.
///
/// The guardian is a separate process, not a child of the program. When the supervisor dies, it ends the program. When
/// the program dies, it ends the processes that the program left behind.
///
/// `envp` is the program's environment; NULL means the environment of this process. The program is looked up in that
/// environment's PATH. `options` may be NULL; `on_death` must be NULL.
///
/// The call returns only if the program could not be executed. This process is then unchanged and there is no guardian.
/// It returns 127 when there is no such program and 126 when it cannot be executed, and sets errno;
/// LOCALAI_PARENTWATCH_INVALID for a bad argument. If the supervisor is proven to have died already, the process exits
/// with status 1. If there can be no guardian, one line on stderr says so and the program runs without one.
///
/// Another thread must not call setenv() meanwhile.
///
/// On Windows this process stays and is the guardian. The program is its child, and this process exits with the
/// program's exit status. Strings are UTF-8, and errno is not set. On systems other than Linux and Windows the program
/// runs without a guardian.
///
/// # Safety
/// `argv`, and `envp` if it is not NULL, point to NUL-terminated strings, and NULL follows the last one. `options` is as
/// in localai_parentwatch_start().
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

/// Reads a NULL-terminated list of strings; `None` for NULL.
///
/// # Safety
/// As localai_parentwatch_exec. The strings must outlive the result.
unsafe fn strings<'a>(list: *const *mut c_char) -> Option<Vec<&'a CStr>> {
    if list.is_null() {
        return None;
    }
    let mut found = Vec::new();
    loop {
        // SAFETY: the caller's promise; NULL was not yet reached.
        let string = unsafe { *list.add(found.len()) };
        if string.is_null() {
            return Some(found);
        }
        // SAFETY: the caller's promise.
        found.push(unsafe { CStr::from_ptr(string) });
    }
}

/// The options, and the flags that only localai_parentwatch_exec() accepts. `None`: invalid.
///
/// # Safety
/// As localai_parentwatch_start, and not NULL.
unsafe fn read_options(options: *const localai_parentwatch_options_t) -> Option<(Options, u32)> {
    const KNOWN: usize = size_of::<localai_parentwatch_options_t>();
    /// No later header will need more. A larger number is no size but garbage.
    const LARGEST: usize = 4096;
    if !options.is_aligned() {
        return None;
    }
    // SAFETY: the caller promises `size` bytes, and `size` is the first member.
    let size = unsafe { (&raw const (*options).size).read() };
    if !(KNOWN..=LARGEST).contains(&size) {
        return None;
    }
    // Members that a later header added must not be set: this library does not know them.
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
        // SAFETY: the header requires it of the caller.
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
        // SAFETY: the caller promises `size` bytes, and `size` is the first member.
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
        // SAFETY: `size` bytes are writable, and the answer is at least as large.
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

/// Returns 1 if the environment leaves the watcher on, else 0. It reads LOCALAI_BACKEND_PARENT_WATCH at every call, so
/// another thread must not call setenv() meanwhile. Prints nothing.
#[unsafe(no_mangle)]
pub extern "C" fn localai_parentwatch_enabled() -> i32 {
    guarded(0, || i32::from(Config::from_env().enabled))
}

/// Returns the polling interval in the environment, in nanoseconds: 10 ms to 1 h, 2 s unless set. Another thread must
/// not call setenv() meanwhile. Prints nothing.
#[unsafe(no_mangle)]
pub extern "C" fn localai_parentwatch_interval_ns() -> u64 {
    guarded(0, || nanos(Config::from_env().interval))
}

/// Blocks the calling thread until `pid` is no longer this process's parent, then returns 0. If `pid` is not the parent
/// to begin with, it returns 0 at once. If `pid` is 1 or less, nobody has died, and it returns
/// LOCALAI_PARENTWATCH_NO_PARENT at once. On a system without support it returns LOCALAI_PARENTWATCH_UNSUPPORTED.
///
/// It sleeps until the kernel wakes it. Where the kernel cannot, it polls every `interval_ns` nanoseconds, clamped to
/// 10 ms to 1 h. It needs no watcher and ignores the environment. Any thread may call it, repeatedly and after a fork.
/// Signal handlers run during the wait, and the wait goes on. It is not a cancellation point.
///
/// The first call creates a thread, one per process, which exits when the parent has died. It has its own descriptor
/// table, so that the program sees no new descriptor.
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

/// Returns 1 if `pid` is no longer this process's parent, or if the parent is PID 1; else 0. Safe from any thread and
/// after a fork.
#[unsafe(no_mangle)]
pub extern "C" fn localai_parentwatch_parent_died(pid: i32) -> i32 {
    guarded(0, || i32::from(parentwatch::parent_died(pid)))
}

/// Writes the token of this process, as a NUL-terminated string: the value of LOCALAI_BACKEND_PARENT_PID for the
/// workers that this process starts.
///
/// Returns the length of the token without the NUL, as snprintf does: if that is `len` or more, the text was truncated.
/// 64 bytes are always enough. `buf` may be NULL if `len` is 0, else the call returns LOCALAI_PARENTWATCH_INVALID. Safe
/// from any thread. A forked child has another token.
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

/// Writes "LOCALAI_BACKEND_PARENT_PID=TOKEN", the entry that names this process as the supervisor in a worker's
/// environment. Replace an entry of that name, if there is one.
///
/// Length and errors are those of localai_parentwatch_token(). 96 bytes are always enough.
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

/// Copies text as snprintf(3) does.
///
/// # Safety
/// `buf` is NULL or points to `len` writable bytes.
unsafe fn write_text(text: &str, buf: *mut c_char, len: usize) -> i32 {
    if buf.is_null() && len != 0 {
        return LOCALAI_PARENTWATCH_INVALID;
    }
    if let Some(room) = len.checked_sub(1) {
        let taken = room.min(text.len());
        // SAFETY: `taken` + 1 bytes are within `len`, and the text has at least `taken` bytes.
        unsafe {
            std::ptr::copy_nonoverlapping(text.as_ptr().cast(), buf, taken);
            buf.add(taken).write(0);
        }
    }
    i32::try_from(text.len()).unwrap_or(LOCALAI_PARENTWATCH_INTERNAL)
}

/// Returns the word for a status: "armed", "disabled", "no_parent", "unsupported", "not_started", "exhausted",
/// "invalid" or "internal"; "unknown" for any other number. The string is static and never NULL: do not free it.
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

/// Returns the version of the library, such as "0.1.0". The string is static and never NULL: do not free it.
#[unsafe(no_mangle)]
pub extern "C" fn localai_parentwatch_version() -> *const c_char {
    const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "\0");
    VERSION.as_ptr().cast()
}

/// Returns the LOCALAI_PARENTWATCH_ABI_VERSION that the loaded library was built with. A program that loads the library
/// with dlopen() must compare it with its own.
#[unsafe(no_mangle)]
pub extern "C" fn localai_parentwatch_abi_version() -> u32 {
    LOCALAI_PARENTWATCH_ABI_VERSION
}
