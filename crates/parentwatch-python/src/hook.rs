//! A Python callable as the hook.

use std::ffi::c_void;
use std::sync::OnceLock;

use parentwatch::Options;
use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::prelude::*;

/// A callable without arguments, to be called when the supervisor is gone.
///
/// The watcher gets the bare object, by which a repeated call is recognised. No thread but one that holds the
/// interpreter lock touches its count, so that a forked child has nothing to put right.
pub(crate) struct OnDeath(Py<PyAny>);

impl OnDeath {
    pub(crate) fn new(callable: &Bound<'_, PyAny>) -> PyResult<OnDeath> {
        IS_FINALIZING.get_or_init(find_is_finalizing);
        match callable.is_callable() {
            true => Ok(OnDeath(callable.clone().unbind())),
            false => Err(PyTypeError::new_err("on_death: expected a callable without arguments")),
        }
    }

    pub(crate) fn add_to(&self, options: Options) -> Options {
        // SAFETY: `call` may be called from any thread and does not unwind. The object is there for as long as
        // it may be called: the caller keeps it unless the watcher was not armed with it.
        unsafe { options.on_death_function(call, self.0.as_ptr().cast()) }
    }

    /// It is armed: the object stays for the life of the process.
    pub(crate) fn keep(self) {
        std::mem::forget(self);
    }
}

/// What the hook's thread runs. Python that is not there any more, or is being taken down, is no reason to
/// wait: there is no hook then.
unsafe extern "C" fn call(callable: *mut c_void) {
    // SAFETY: always safe to ask.
    if unsafe { ffi::Py_IsInitialized() } == 0 || is_finalizing() {
        return;
    }
    // SAFETY: Python is initialised; a thread that comes too late sleeps for ever (PyO3's promise for this
    // function, ours for the others). The object is alive, see `OnDeath::add_to`.
    unsafe {
        ffi::PyGILState_Ensure();
        let never_unwound = SleepForEver;
        let result = unwinding::PyObject_CallNoArgs(callable.cast());
        if result.is_null() {
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
