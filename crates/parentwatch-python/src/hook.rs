//! A Python callable as the hook.

use std::ffi::c_void;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parentwatch::Options;
use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::ffi;
use pyo3::prelude::*;

/// A callable without arguments, called when the supervisor has died.
///
/// The watcher gets the bare object pointer, by which it recognises a repeated call. Only threads that hold the
/// interpreter lock change the reference count, so a forked child has nothing to repair.
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
        // SAFETY: `call` may be called from any thread and does not unwind. If the watcher is armed with the object,
        // the caller keeps the object alive as long as the interpreter. After that, `call` does not touch it.
        unsafe { options.on_death_function(call, self.0.as_ptr().cast()) }
    }

    /// Keeps the object for the life of this interpreter: the watcher is armed with it.
    pub(crate) fn keep(self) {
        std::mem::forget(self);
    }
}

impl Drop for OnDeath {
    fn drop(&mut self) {
        GIVEN.fetch_sub(1, Ordering::SeqCst);
    }
}

/// How many hooks the watcher has or is being given.
static GIVEN: AtomicUsize = AtomicUsize::new(0);

/// The hook's interpreter has ended, and its objects with it, whatever references are left. A host that embeds Python
/// can end an interpreter and start another.
static ENDED: AtomicBool = AtomicBool::new(false);

/// The current interpreter will call `at_end`. Then the flag is reset for the next interpreter.
static NOTICING: AtomicBool = AtomicBool::new(false);

extern "C" fn at_end() {
    NOTICING.store(false, Ordering::SeqCst);
    if GIVEN.load(Ordering::SeqCst) > 0 {
        ENDED.store(true, Ordering::SeqCst);
    }
}

fn notice_the_end() -> PyResult<()> {
    // SAFETY: this thread is attached. `at_end` takes no arguments and calls nothing of Python.
    if !NOTICING.swap(true, Ordering::SeqCst) && unsafe { ffi::Py_AtExit(Some(at_end)) } != 0 {
        NOTICING.store(false, Ordering::SeqCst);
        return Err(PyRuntimeError::new_err(
            "on_death: Python has no room for another exit function",
        ));
    }
    Ok(())
}

/// Whether Python has ended, is shutting down, or is another interpreter than the hook's.
fn is_over() -> bool {
    // SAFETY: always safe to ask.
    let is_initialized = unsafe { ffi::Py_IsInitialized() } != 0;
    !is_initialized || is_finalizing() || ENDED.load(Ordering::SeqCst)
}

/// What the hook's thread runs. It does not wait for an interpreter that has shut down: then there is no hook.
unsafe extern "C" fn call(callable: *mut c_void) {
    if is_over() {
        return;
    }
    // SAFETY: Python is initialised. A thread that comes too late sleeps for ever: PyO3 promises it for
    // PyGILState_Ensure, and `SleepForEver` does it for the others. The object is alive (see `OnDeath::add_to`):
    // `is_over` is checked again with the lock held, without which no interpreter shuts down.
    unsafe {
        ffi::PyGILState_Ensure();
        let never_unwound = SleepForEver;
        if !is_over() && unwinding::PyObject_CallNoArgs(callable.cast()).is_null() {
            unwinding::PyErr_WriteUnraisable(callable.cast());
        }
        std::mem::forget(never_unwound);
        // Release the lock only. Releasing the thread state or the result could run Python code, and the process ends
        // now.
        ffi::PyEval_SaveThread();
    }
}

/// The functions that run Python code. They are declared as functions that can unwind: before CPython 3.14, a shutdown
/// of the interpreter meanwhile ends the thread by pthread_exit(3), which unwinds.
mod unwinding {
    use pyo3::ffi::PyObject;

    unsafe extern "C-unwind" {
        pub(super) fn PyObject_CallNoArgs(callable: *mut PyObject) -> *mut PyObject;
        pub(super) fn PyErr_WriteUnraisable(object: *mut PyObject);
    }
}

/// Stops CPython's unwinding before it leaves the current frame: the thread sleeps, as it does from CPython 3.14 on.
/// The process exits at the end of the grace.
struct SleepForEver;

impl Drop for SleepForEver {
    fn drop(&mut self) {
        loop {
            std::thread::park();
        }
    }
}

type IsFinalizing = extern "C" fn() -> i32;

/// Whether the interpreter is shutting down, as far as it tells.
fn is_finalizing() -> bool {
    IS_FINALIZING.get().copied().flatten().is_some_and(|ask| ask() != 0)
}

/// Looked up when a hook is set: the hook's thread must not wait for the lock of the dynamic loader.
static IS_FINALIZING: OnceLock<Option<IsFinalizing>> = OnceLock::new();

/// The function is public since CPython 3.13. Before, it had another name. The stable ABI of 3.10 has neither.
fn find_is_finalizing() -> Option<IsFinalizing> {
    // SAFETY: the names are C strings. In every release that has it, the function takes nothing, returns an int, and
    // may be called without the interpreter lock.
    [c"Py_IsFinalizing", c"_Py_IsFinalizing"].into_iter().find_map(|name| unsafe {
        let found = libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr());
        std::mem::transmute::<*mut c_void, Option<IsFinalizing>>(found)
    })
}
