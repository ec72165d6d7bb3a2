//! What Linux and macOS have in common.

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

/// Leaves at once: no exit handler, no destructor. The status is 1 in every case.
pub(crate) fn exit_now() -> ! {
    // SAFETY: ends the process.
    unsafe { libc::_exit(1) }
}

pub(crate) fn errno() -> i32 {
    std::io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

/// A SIGTERM to this process, for a thread that does not block it.
pub(crate) fn begin_graceful_stop() {
    // SAFETY: a signal to ourselves.
    unsafe { libc::kill(own_pid(), libc::SIGTERM) };
}

/// The disposition of a signal: `SIG_DFL`, `SIG_IGN` or a function.
pub(crate) fn disposition(signal: i32) -> libc::sighandler_t {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: room for the answer, which is valid when it is all zeros.
    unsafe {
        libc::sigaction(signal, ptr::null(), action.as_mut_ptr());
        action.assume_init().sa_sigaction
    }
}

/// Whether the process may ever have had a child, also before an exec (getrusage(2)). Those whom the kernel reaps
/// by itself leave no trace: where it may, the answer is yes.
pub(crate) fn has_had_child() -> bool {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: room for both answers, which are valid when they are all zeros.
    let (action, usage) = unsafe {
        libc::sigaction(libc::SIGCHLD, ptr::null(), action.as_mut_ptr());
        libc::getrusage(libc::RUSAGE_CHILDREN, usage.as_mut_ptr());
        (action.assume_init(), usage.assume_init())
    };
    let reaps_itself =
        action.sa_sigaction == libc::SIG_IGN || action.sa_flags & libc::SA_NOCLDWAIT != 0;
    // No field alone is sure: a child by vfork(2) of a tiny program may show nothing but the time that it ran.
    let used = [usage.ru_maxrss, usage.ru_minflt, usage.ru_nvcsw, usage.ru_nivcsw];
    let times = [usage.ru_utime, usage.ru_stime].map(|time| (time.tv_sec, time.tv_usec));
    reaps_itself || used != [0; 4] || times != [(0, 0); 2] || super::has_child()
}

/// Whether no process has the number. Signal 0 only asks (kill(2)).
pub(crate) fn is_absent(pid: i32) -> bool {
    // SAFETY: sends nothing.
    unsafe { libc::kill(pid, 0) == -1 && errno() == libc::ESRCH }
}

/// While it lives, signals are blocked in this thread, and in what it creates: all but those that a fault or
/// a system call of this very thread raises. These come whether blocked or not, but blocked they end the
/// process, also where the program handles them (a seccomp filter's `SECCOMP_RET_TRAP` and SIGSYS, seccomp(2)).
///
/// It goes through libc's `pthread_sigmask`, which leaves the signals that libc itself needs alone (with
/// a raw `rt_sigprocmask` glibc's `setuid` would wait for us for ever). A SIGPIPE or SIGXFSZ that a write
/// of ours raised meanwhile is taken away before the mask is restored: it is no business of the program.
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
        // SAFETY: each call gets valid pointers; the sets are initialised by sigemptyset before anything
        // could fail.
        unsafe {
            libc::sigemptyset(before.as_mut_ptr());
            libc::sigemptyset(pending.as_mut_ptr());
            libc::sigfillset(all.as_mut_ptr());
            // What the program itself has blocked stays so: it may be pending, or waited for.
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

    /// Takes away what our own writes may have raised and what was not pending before.
    fn take_ours(&self) {
        let mut now = MaybeUninit::<libc::sigset_t>::zeroed();
        // SAFETY: the sets are initialised; a signal that is taken is blocked and pending, so that the
        // wait for it returns at once.
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

/// While it lives, this thread cannot be cancelled (pthread_cancel(3)): poll(2), open(2) and others are
/// cancellation points, and an unwinding of that kind through Rust ends the process.
pub(crate) struct CancellationDisabled {
    before: i32,
}

unsafe extern "C" {
    /// POSIX; the crate libc does not declare it everywhere.
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
        // SAFETY: the state that this thread had, and room for ours.
        unsafe { pthread_setcancelstate(self.before, &raw mut ours) };
    }
}

/// Starts a detached thread, and returns the error number if none can be had (pthread_create(3): EAGAIN).
///
/// `std::thread` is not used: it allocates on the new thread, for which glibc maps 64 MiB of address space
/// (an arena of its own). `stack` is what the thread has for itself. The thread inherits the blocked signals.
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
        // SAFETY: the box that was made for this thread, and for nobody else.
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
    // SAFETY: the attributes are initialised before they are used, and `body` is given to one thread, or freed
    // when there is none.
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

/// What glibc takes of a thread's stack: its guard, and the static thread-local storage of the program and its
/// libraries, which may be large. std asks the same function (its pal/unix/thread.rs), and by name too, since it
/// is private to glibc. Other C libraries take none of it.
fn least_stack(attributes: *const libc::pthread_attr_t) -> usize {
    if !cfg!(target_env = "gnu") {
        return 0;
    }
    type LeastStack = unsafe extern "C" fn(*const libc::pthread_attr_t) -> usize;
    // SAFETY: a C string; what is found is that function, and gets valid attributes.
    unsafe {
        let found = libc::dlsym(libc::RTLD_DEFAULT, c"__pthread_get_minstack".as_ptr());
        let least_stack = std::mem::transmute::<*mut c_void, Option<LeastStack>>(found);
        least_stack.map_or(0, |least_stack| least_stack(attributes))
    }
}

fn whole_pages(size: usize) -> usize {
    // SAFETY: asks for a constant.
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
    // SAFETY: the caller gives back a mapping of `map_page` that nobody else knows.
    unsafe { libc::munmap(page.cast(), size) };
}

/// A number, 0 at first, that a forked child sets for its parent.
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
        // SAFETY: a page of ours, aligned, and zeros are a number.
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

/// The type of what is behind a descriptor; `None` when it is closed.
pub(crate) fn type_of(fd: i32) -> Option<libc::mode_t> {
    let mut stat = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: fstat initialises it when it succeeds.
    unsafe {
        (libc::fstat(fd, stat.as_mut_ptr()) == 0).then(|| stat.assume_init().st_mode & libc::S_IFMT)
    }
}

/// One attempt. A failure is ignored.
pub(crate) fn write_once(fd: i32, line: &[u8]) {
    // SAFETY: the buffer is valid for its length.
    unsafe { libc::write(fd, line.as_ptr().cast(), line.len()) };
}

/// One attempt on a socket, without waiting and without SIGPIPE.
pub(crate) fn send_once(fd: i32, line: &[u8], flags: i32) {
    // SAFETY: the buffer is valid for its length.
    unsafe { libc::send(fd, line.as_ptr().cast(), line.len(), flags) };
}

/// Becomes the program, looked for in `PATH` as a shell does; returns when that fails.
pub(crate) fn exec(command: &[&CStr], environment: Option<&[&CStr]>) -> std::io::Error {
    let pointers = |strings: &[&CStr]| -> Vec<*const libc::c_char> {
        strings.iter().map(|string| string.as_ptr()).chain([ptr::null()]).collect()
    };
    let arguments = pointers(command);
    let environment = environment.map(pointers);
    let Some(program) = command.first() else { return std::io::ErrorKind::InvalidInput.into() };
    // SAFETY: C strings, in lists that end with a null pointer. `environ` is restored before anybody else sees it.
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

/// Where `environ` is (environ(7)): POSIX has no execvp with an environment of its own.
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
