//! A Python callable as the hook.

use std::ffi::c_void;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parentwatch::Options;
use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::ffi;
use pyo3::prelude::*;

/// A callable without arguments, to be called when the supervisor is gone.
///
/// The watcher gets the bare object, by which a repeated call is recognised. No thread but one that holds the
/// interpreter lock touches its count, so that a forked child has nothing to put right.
pub(crate) struct OnDeath(Py<PyAny>);

impl OnDeath {
    pub(crate) fn new(callable: &Bound<'_, PyAny>) -> PyResult<OnDeath> {
        if !callable.is_callable() {
            return Err(PyTypeError::new_err("on_death: expected a callable without arguments"));
        }
        IS_FINALIZING.get_or_init(find_is_finalizing);
        notice_the_end()?;
        GIVEN.fetch_add(1, Ordering::SeqCst);
        Ok(OnDeath(callable.clone().unbind()))
    }

    pub(crate) fn add_to(&self, options: Options) -> Options {
        // SAFETY: `call` may be called from any thread and does not unwind. The object is there for as long as
        // the interpreter is, after which `call` leaves it alone: the caller keeps it unless the watcher was
        // not armed with it.
        unsafe { options.on_death_function(call, self.0.as_ptr().cast()) }
    }

    /// It is armed: the object stays for the life of this interpreter.
    pub(crate) fn keep(self) {
        std::mem::forget(self);
    }
}

impl Drop for OnDeath {
    fn drop(&mut self) {
        GIVEN.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The hooks that the watcher has, or is being given.
static GIVEN: AtomicUsize = AtomicUsize::new(0);

/// The interpreter that the hook belongs to is gone, its objects with it, whatever has been kept of them: a
/// host that embeds Python can take it down and start another.
static ENDED: AtomicBool = AtomicBool::new(false);

/// The interpreter that there is will call `at_end`, after which it is another one's turn.
static NOTICING: AtomicBool = AtomicBool::new(false);

extern "C" fn at_end() {
    NOTICING.store(false, Ordering::SeqCst);
    if GIVEN.load(Ordering::SeqCst) > 0 {
        ENDED.store(true, Ordering::SeqCst);
    }
}

fn notice_the_end() -> PyResult<()> {
    // SAFETY: this thread is attached; the function takes nothing and calls nothing of Python's.
    if !NOTICING.swap(true, Ordering::SeqCst) && unsafe { ffi::Py_AtExit(Some(at_end)) } != 0 {
        NOTICING.store(false, Ordering::SeqCst);
        return Err(PyRuntimeError::new_err(
            "on_death: Python has no room for another exit function",
        ));
    }
    Ok(())
}

/// Python is not there any more, is being taken down, or is not the one that the hook belongs to.
fn is_over() -> bool {
    // SAFETY: always safe to ask.
    let is_initialized = unsafe { ffi::Py_IsInitialized() } != 0;
    !is_initialized || is_finalizing() || ENDED.load(Ordering::SeqCst)
}

/// What the hook's thread runs. Python that is over is no reason to wait: there is no hook then.
unsafe extern "C" fn call(callable: *mut c_void) {
    if is_over() {
        return;
    }
    // SAFETY: Python is initialised; a thread that comes too late sleeps for ever (PyO3's promise for this
    // function, ours for the others). The object is alive, see `OnDeath::add_to`: it is asked again with the
    // lock held, without which no interpreter is taken down.
    unsafe {
        ffi::PyGILState_Ensure();
        let never_unwound = SleepForEver;
        if !is_over() && unwinding::PyObject_CallNoArgs(callable.cast()).is_null() {
            unwinding::PyErr_WriteUnraisable(callable.cast());
        }
        std::mem::forget(never_unwound);
        // Lets go of the lock and of nothing else: to give back the thread's state, or the result, may run
        // Python code, and the process ends now.
        ffi::PyEval_SaveThread();
    }
}

/// The functions that run Python code. They are declared as what they are before CPython 3.14: when the
/// interpreter is taken down meanwhile, the thread is ended by pthread_exit(3), which unwinds.
mod unwinding {
    use pyo3::ffi::PyObject;

    unsafe extern "C-unwind" {
        pub(super) fn PyObject_CallNoArgs(callable: *mut PyObject) -> *mut PyObject;
        pub(super) fn PyErr_WriteUnraisable(object: *mut PyObject);
    }
}

/// Stops an unwinding of CPython's before it leaves the frame that this is in: the thread sleeps, as it
/// does from CPython 3.14 on. The grace ends the process.
struct SleepForEver;

impl Drop for SleepForEver {
    fn drop(&mut self) {
        loop {
            std::thread::park();
        }
    }
}

type IsFinalizing = extern "C" fn() -> i32;

/// Whether the interpreter is being taken down, as far as it tells.
fn is_finalizing() -> bool {
    IS_FINALIZING.get().copied().flatten().is_some_and(|ask| ask() != 0)
}

/// Looked up when a hook is given: the hook's thread must not wait for the lock of the dynamic loader.
static IS_FINALIZING: OnceLock<Option<IsFinalizing>> = OnceLock::new();

/// The function is public since CPython 3.13; before, it had another name, and the stable ABI of 3.10 has
/// neither.
fn find_is_finalizing() -> Option<IsFinalizing> {
    // SAFETY: the names are C strings; a function that is found takes nothing and returns an int, in every
    // release that has it, and may be called without the interpreter lock.
    [c"Py_IsFinalizing", c"_Py_IsFinalizing"].into_iter().find_map(|name| unsafe {
        let found = libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr());
        std::mem::transmute::<*mut c_void, Option<IsFinalizing>>(found)
    })
}
