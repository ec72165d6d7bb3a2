//! Calls that are the same on Linux and macOS.

use std::ffi::{CStr, c_void};
use std::mem::MaybeUninit;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::sync::atomic::{AtomicI32, Ordering};

use super::name_this_thread;

pub(crate) const SUPPORTED: bool = true;

pub(crate) fn own_pid() -> i32 {
    // SAFETY: no arguments, no failure.
    unsafe { libc::getpid() }
}

pub(crate) fn parent_pid() -> i32 {
    // SAFETY: no arguments, no failure.
    unsafe { libc::getppid() }
}

pub(crate) fn process_group() -> i32 {
    // SAFETY: no arguments, no failure.
    unsafe { libc::getpgrp() }
}

/// Exits at once with status 1. Runs no exit handler and no destructor.
pub(crate) fn exit_now() -> ! {
    // SAFETY: ends the process.
    unsafe { libc::_exit(1) }
}

pub(crate) fn errno() -> i32 {
    std::io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

/// Sends SIGTERM to this process. A thread that does not block it takes it.
pub(crate) fn begin_graceful_stop() {
    // SAFETY: a signal to ourselves.
    unsafe { libc::kill(own_pid(), libc::SIGTERM) };
}

/// The disposition of a signal: `SIG_DFL`, `SIG_IGN` or a function.
pub(crate) fn disposition(signal: i32) -> libc::sighandler_t {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: room for the answer. All zeros are a valid one.
    unsafe {
        libc::sigaction(signal, ptr::null(), action.as_mut_ptr());
        action.assume_init().sa_sigaction
    }
}

/// Whether this process may ever have had a child, even before an exec (getrusage(2)). A child that the kernel reaps by
/// itself leaves no trace. So the answer is yes where SIGCHLD is ignored or has `SA_NOCLDWAIT`.
pub(crate) fn has_had_child() -> bool {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: room for both answers. All zeros are valid ones.
    let (action, usage) = unsafe {
        libc::sigaction(libc::SIGCHLD, ptr::null(), action.as_mut_ptr());
        libc::getrusage(libc::RUSAGE_CHILDREN, usage.as_mut_ptr());
        (action.assume_init(), usage.assume_init())
    };
    let reaps_itself =
        action.sa_sigaction == libc::SIG_IGN || action.sa_flags & libc::SA_NOCLDWAIT != 0;
    // No single field is reliable: a tiny program started by vfork(2) may leave nothing but its running time.
    let used = [usage.ru_maxrss, usage.ru_minflt, usage.ru_nvcsw, usage.ru_nivcsw];
    let times = [usage.ru_utime, usage.ru_stime].map(|time| (time.tv_sec, time.tv_usec));
    reaps_itself || used != [0; 4] || times != [(0, 0); 2] || super::has_child()
}

/// Whether no process has that id. Signal 0 only checks (kill(2)).
pub(crate) fn is_absent(pid: i32) -> bool {
    // SAFETY: sends nothing.
    unsafe { libc::kill(pid, 0) == -1 && errno() == libc::ESRCH }
}

/// Blocks signals in this thread until it is dropped. Threads and processes that are created meanwhile inherit the
/// mask.
///
/// The signals that a fault or a system call of this thread raises stay unblocked. Blocked, they would end the process
/// even if the program handles them (SIGSYS after a seccomp filter's `SECCOMP_RET_TRAP`, seccomp(2)).
///
/// Uses libc's `pthread_sigmask`, which leaves the signals alone that libc needs. With a raw `rt_sigprocmask`, glibc's
/// `setuid` would wait for this thread forever. A SIGPIPE or SIGXFSZ that one of our writes has raised meanwhile is
/// removed before the mask is restored: the program must not receive it.
pub(crate) struct SignalsBlocked {
    before: libc::sigset_t,
    pending: libc::sigset_t,
}

const SYNCHRONOUS: [i32; 6] =
    [libc::SIGSYS, libc::SIGTRAP, libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE];

impl SignalsBlocked {
    pub(crate) fn all() -> SignalsBlocked {
        let mut all = MaybeUninit::<libc::sigset_t>::zeroed();
        let mut before = MaybeUninit::<libc::sigset_t>::zeroed();
        let mut pending = MaybeUninit::<libc::sigset_t>::zeroed();
        // SAFETY: each call gets valid pointers. sigemptyset initialises the sets before anything can fail.
        unsafe {
            libc::sigemptyset(before.as_mut_ptr());
            libc::sigemptyset(pending.as_mut_ptr());
            libc::sigfillset(all.as_mut_ptr());
            // A signal that the program has blocked stays blocked: it may be pending, or a thread may wait for it.
            libc::pthread_sigmask(libc::SIG_BLOCK, ptr::null(), before.as_mut_ptr());
            for raised_here in SYNCHRONOUS {
                if libc::sigismember(before.as_ptr(), raised_here) == 0 {
                    libc::sigdelset(all.as_mut_ptr(), raised_here);
                }
            }
            libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), ptr::null_mut());
            libc::sigpending(pending.as_mut_ptr());
            SignalsBlocked { before: before.assume_init(), pending: pending.assume_init() }
        }
    }

    /// Removes the signals that our own writes may have raised, unless they were pending before.
    fn take_ours(&self) {
        let mut now = MaybeUninit::<libc::sigset_t>::zeroed();
        // SAFETY: the sets are initialised. The signal is blocked and pending, so the wait for it returns at once.
        unsafe {
            libc::sigemptyset(now.as_mut_ptr());
            libc::sigpending(now.as_mut_ptr());
            for signal in [libc::SIGPIPE, libc::SIGXFSZ] {
                if libc::sigismember(&raw const self.pending, signal) == 0
                    && libc::sigismember(now.as_ptr(), signal) == 1
                {
                    super::take_pending(signal);
                }
            }
        }
    }
}

impl Drop for SignalsBlocked {
    fn drop(&mut self) {
        self.take_ours();
        // SAFETY: `before` is the mask that this thread had.
        unsafe {
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.before, ptr::null_mut());
        }
    }
}

/// Keeps this thread from being cancelled (pthread_cancel(3)) until it is dropped. poll(2), open(2) and others are
/// cancellation points, and a cancellation that unwinds through Rust ends the process.
pub(crate) struct CancellationDisabled {
    before: i32,
}

unsafe extern "C" {
    /// POSIX. The libc crate does not declare it on every system.
    fn pthread_setcancelstate(state: i32, before: *mut i32) -> i32;
}

#[cfg(target_os = "linux")]
const PTHREAD_CANCEL_DISABLE: i32 = 1;
#[cfg(target_os = "macos")]
const PTHREAD_CANCEL_DISABLE: i32 = 0;

impl CancellationDisabled {
    pub(crate) fn here() -> CancellationDisabled {
        let mut before = PTHREAD_CANCEL_DISABLE;
        // SAFETY: a valid state, and room for the old one.
        unsafe { pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &raw mut before) };
        CancellationDisabled { before }
    }
}

impl Drop for CancellationDisabled {
    fn drop(&mut self) {
        let mut ours = PTHREAD_CANCEL_DISABLE;
        // SAFETY: the state that this thread had, and room for the current one.
        unsafe { pthread_setcancelstate(self.before, &raw mut ours) };
    }
}

/// Starts a detached thread with `stack` bytes for its own use. Returns the error number if that fails
/// (pthread_create(3): EAGAIN). The thread inherits the signal mask.
///
/// Does not use `std::thread`, which allocates on the new thread: for that, glibc maps 64 MiB of address space (an
/// arena of its own).
pub(crate) fn spawn_thread(
    name: &'static CStr,
    stack: usize,
    _blocked: &SignalsBlocked,
    body: impl FnOnce() + Send + 'static,
) -> Result<(), i32> {
    struct Body<F> {
        name: &'static CStr,
        run: F,
    }
    extern "C" fn begin<F: FnOnce()>(body: *mut c_void) -> *mut c_void {
        // SAFETY: the box was made for this thread alone.
        let body = unsafe { Box::from_raw(body.cast::<Body<F>>()) };
        name_this_thread(body.name);
        // A panic must not unwind into libc.
        let _ = catch_unwind(AssertUnwindSafe(body.run));
        ptr::null_mut()
    }
    fn begin_of<F: FnOnce()>(_: &F) -> extern "C" fn(*mut c_void) -> *mut c_void {
        begin::<F>
    }
    #[cfg(target_os = "macos")]
    super::keep_loaded();
    let begin = begin_of(&body);
    let body = Box::into_raw(Box::new(Body { name, run: body }));
    let mut attributes = MaybeUninit::<libc::pthread_attr_t>::uninit();
    let mut thread = MaybeUninit::<libc::pthread_t>::uninit();
    // SAFETY: the attributes are initialised before they are used. `body` goes to one thread, or is freed here if no
    // thread was started.
    unsafe {
        let mut failed = libc::pthread_attr_init(attributes.as_mut_ptr());
        if failed == 0 {
            let attributes = attributes.as_mut_ptr();
            libc::pthread_attr_setdetachstate(attributes, libc::PTHREAD_CREATE_DETACHED);
            libc::pthread_attr_setstacksize(
                attributes,
                whole_pages(stack + least_stack(attributes)),
            );
            failed = libc::pthread_create(thread.as_mut_ptr(), attributes, begin, body.cast());
            libc::pthread_attr_destroy(attributes);
        }
        if failed != 0 {
            drop(Box::from_raw(body));
            return Err(failed);
        }
    }
    Ok(())
}

/// The part of a thread's stack that glibc uses itself, in bytes: the guard, and the static thread-local storage of the
/// program and its libraries, which may be large. std calls the same function (its pal/unix/thread.rs), also by name,
/// since it is private to glibc. Other C libraries use no part of the stack.
fn least_stack(attributes: *const libc::pthread_attr_t) -> usize {
    if !cfg!(target_env = "gnu") {
        return 0;
    }
    type LeastStack = unsafe extern "C" fn(*const libc::pthread_attr_t) -> usize;
    // SAFETY: a C string. The symbol is that function, and it gets valid attributes.
    unsafe {
        let found = libc::dlsym(libc::RTLD_DEFAULT, c"__pthread_get_minstack".as_ptr());
        let least_stack = std::mem::transmute::<*mut c_void, Option<LeastStack>>(found);
        least_stack.map_or(0, |least_stack| least_stack(attributes))
    }
}

fn whole_pages(size: usize) -> usize {
    // SAFETY: only queries a constant.
    let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096);
    size.next_multiple_of(page.max(1))
}

/// A zeroed mapping of at least `size` bytes.
pub(crate) fn map_page(size: usize) -> Option<*mut u8> {
    // SAFETY: an anonymous mapping at an address of the kernel's choice.
    let page = unsafe {
        libc::mmap(
            ptr::null_mut(),
            size,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANON,
            -1,
            0,
        )
    };
    (page != libc::MAP_FAILED).then_some(page.cast())
}

pub(crate) fn release_page(page: *mut u8, size: usize) {
    // SAFETY: the caller returns a mapping of `map_page` that is used nowhere else.
    unsafe { libc::munmap(page.cast(), size) };
}

/// A number that a forked child sets for its parent. It starts as 0.
pub(crate) struct SharedNumber(*mut u8);

impl SharedNumber {
    const SIZE: usize = size_of::<AtomicI32>();

    pub(crate) fn new() -> Option<SharedNumber> {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let kind = libc::MAP_SHARED | libc::MAP_ANON;
        // SAFETY: an anonymous mapping at an address of the kernel's choice.
        let page = unsafe { libc::mmap(ptr::null_mut(), SharedNumber::SIZE, access, kind, -1, 0) };
        (page != libc::MAP_FAILED).then_some(SharedNumber(page.cast()))
    }

    fn number(&self) -> &AtomicI32 {
        // SAFETY: our own page, aligned. Zeros are a valid number.
        unsafe { &*self.0.cast::<AtomicI32>() }
    }

    pub(crate) fn set(&self, number: i32) {
        self.number().store(number, Ordering::Release);
    }

    pub(crate) fn get(&self) -> i32 {
        self.number().load(Ordering::Acquire)
    }
}

impl Drop for SharedNumber {
    fn drop(&mut self) {
        release_page(self.0, SharedNumber::SIZE);
    }
}

/// The file type of a descriptor. `None` if it is closed.
pub(crate) fn type_of(fd: i32) -> Option<libc::mode_t> {
    let mut stat = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: fstat initialises it when it succeeds.
    unsafe {
        (libc::fstat(fd, stat.as_mut_ptr()) == 0).then(|| stat.assume_init().st_mode & libc::S_IFMT)
    }
}

/// Tries once to write the line. Ignores a failure.
pub(crate) fn write_once(fd: i32, line: &[u8]) {
    // SAFETY: the buffer is valid for its length.
    unsafe { libc::write(fd, line.as_ptr().cast(), line.len()) };
}

/// Tries once to send the line to a socket. Ignores a failure.
pub(crate) fn send_once(fd: i32, line: &[u8], flags: i32) {
    // SAFETY: the buffer is valid for its length.
    unsafe { libc::send(fd, line.as_ptr().cast(), line.len(), flags) };
}

/// Executes the program in place of this one. Searches `PATH` as a shell does. Returns only if that fails.
pub(crate) fn exec(command: &[&CStr], environment: Option<&[&CStr]>) -> std::io::Error {
    let pointers = |strings: &[&CStr]| -> Vec<*const libc::c_char> {
        strings.iter().map(|string| string.as_ptr()).chain([ptr::null()]).collect()
    };
    let arguments = pointers(command);
    let environment = environment.map(pointers);
    let Some(program) = command.first() else { return std::io::ErrorKind::InvalidInput.into() };
    // SAFETY: C strings in null-terminated lists. `environ` is restored before anything else reads it.
    unsafe {
        let current = environ();
        let before = *current;
        if let Some(environment) = &environment {
            *current = environment.as_ptr();
        }
        libc::execvp(program.as_ptr(), arguments.as_ptr());
        let error = std::io::Error::last_os_error();
        *current = before;
        error
    }
}

/// The address of `environ` (environ(7)). POSIX has no execvp that takes an environment.
fn environ() -> *mut *const *const libc::c_char {
    #[cfg(target_os = "macos")]
    // SAFETY: no arguments, no failure.
    return unsafe { libc::_NSGetEnviron() }.cast();
    #[cfg(not(target_os = "macos"))]
    {
        unsafe extern "C" {
            static mut environ: *const *const libc::c_char;
        }
        &raw mut environ
    }
}
