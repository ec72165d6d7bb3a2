//! The native part of the Python package `localai_parentwatch`. It only translates, and calls the crate `parentwatch`
//! for everything else. It is private: users import `localai_parentwatch`.
//!
//! # Python code and unwinding
//!
//! Python code may release the interpreter lock. If the interpreter shuts down meanwhile, CPython before 3.14 ends the
//! thread by pthread_exit(3), which must not unwind through a Rust frame. Where PyO3 acquires the lock, it makes the
//! thread sleep for ever instead (`HangThread` in pyo3-ffi). `hook.rs` does the same for the hook.
//!
//! With documented argument types, only the hook and the check for signals run Python code. Numbers, strings and
//! `timedelta` are read directly, whatever their subclasses override. (A value of another type can still run code, in
//! its `__class__`, `__index__` or metaclass.)

mod hook;

use std::ffi::{CStr, CString};
use std::time::Duration;

use parentwatch::{Config, Error, ExecError, Exit, Options, Scope, Status, Supervisor};
use pyo3::exceptions::{PyImportError, PyOSError, PyOverflowError, PyTypeError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyFloat, PyInt, PyString, PyTuple};

use crate::hook::OnDeath;

/// The number of the status, which is the same in every language.
fn code(outcome: Result<Status, Error>) -> i32 {
    match outcome {
        Ok(status) => status as i32,
        Err(error) => error.code(),
    }
}

/// Seconds, a `timedelta`, or a text such as `500ms`.
fn duration(name: &str, value: &Bound<'_, PyAny>) -> PyResult<Duration> {
    let or_invalid = |duration: Option<Duration>, expected: &str| {
        duration.ok_or_else(|| PyValueError::new_err(format!("{name}: expected {expected}")))
    };
    let seconds = |value: &Bound<'_, PyAny>| {
        value.extract().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
    };
    let number = "a finite number of seconds, 0 or more";
    if let Ok(text) = value.cast::<PyString>() {
        // Zero is allowed here, as it is for numbers. The options themselves check it.
        let duration = parentwatch::parse_duration_or_zero(&text.to_string_lossy());
        return or_invalid(duration, "a duration such as 500ms, 2s or 1m30s");
    }
    if value.is_instance_of::<PyFloat>() {
        return or_invalid(seconds(value), number);
    }
    if is_int(value) {
        return or_invalid(value.extract().ok().map(Duration::from_secs), number);
    }
    if let Some(total) = timedelta_seconds(value) {
        return or_invalid(seconds(&total), "a timedelta that is not negative");
    }
    Err(wrong_type(name, "a number of seconds, a timedelta or a str", value))
}

fn is_int(value: &Bound<'_, PyAny>) -> bool {
    value.is_instance_of::<PyInt>() && !value.is_instance_of::<PyBool>()
}

/// Returns `total_seconds()` of a timedelta. If `datetime` was never imported, the value is none. PyO3's `PyDelta`
/// would import `datetime`, and panics if another module has that name.
fn timedelta_seconds<'py>(value: &Bound<'py, PyAny>) -> Option<Bound<'py, PyAny>> {
    let name = PyString::intern(value.py(), "datetime");
    // SAFETY: this thread is attached, the name is a str, and the result is a new reference or null.
    let module =
        unsafe { Bound::from_owned_ptr_or_err(value.py(), ffi::PyImport_GetModule(name.as_ptr())) };
    let timedelta = module.and_then(|module| module.getattr("timedelta")).ok()?;
    let is_one = value.is_instance(&timedelta).is_ok_and(|is_one| is_one);
    is_one.then(|| timedelta.call_method1("total_seconds", (value,)).ok()).flatten()
}

/// A process id, or a token.
fn supervisor(value: &Bound<'_, PyAny>) -> PyResult<Supervisor> {
    let text = match value.cast::<PyString>() {
        Ok(text) => text.to_string_lossy().into_owned(),
        Err(_) if is_int(value) => value.extract::<i64>().unwrap_or(i64::MAX).to_string(),
        Err(_) => return Err(wrong_type("parent", "an int or a str", value)),
    };
    text.parse().map_err(|error| PyValueError::new_err(format!("parent: {error}")))
}

fn scope(value: &Bound<'_, PyAny>) -> PyResult<Scope> {
    let text = value.cast::<PyString>().map_err(|_| wrong_type("scope", "a str", value))?;
    let scope = text.to_string_lossy().parse();
    scope.map_err(|error| PyValueError::new_err(format!("scope: {error}")))
}

/// Any int is accepted. A number that does not fit is clamped: there is no such process either.
struct Pid(i32);

impl FromPyObject<'_, '_> for Pid {
    type Error = PyErr;

    fn extract(value: Borrowed<'_, '_, PyAny>) -> PyResult<Pid> {
        match value.extract::<i32>() {
            Err(error) if error.is_instance_of::<PyOverflowError>(value.py()) => {
                let is_negative = value.lt(0)?;
                Ok(Pid(if is_negative { i32::MIN } else { i32::MAX }))
            }
            pid => pid.map(Pid),
        }
    }
}

fn wrong_type(name: &str, expected: &str, value: &Bound<'_, PyAny>) -> PyErr {
    let found = value.get_type().name().map(|name| name.to_string());
    let found = found.unwrap_or_else(|_| "another type".to_owned());
    PyTypeError::new_err(format!("{name}: expected {expected}, not {found}"))
}

fn options(
    grace: Option<&Bound<'_, PyAny>>,
    scope: Option<&Bound<'_, PyAny>>,
    interval: Option<&Bound<'_, PyAny>>,
    parent: Option<&Bound<'_, PyAny>>,
) -> PyResult<Options> {
    let mut options = Options::new();
    if let Some(grace) = grace {
        options = options.grace(duration("grace", grace)?);
    }
    if let Some(scope) = scope {
        options = options.scope(self::scope(scope)?);
    }
    if let Some(interval) = interval {
        options = options.interval(duration("interval", interval)?);
    }
    if let Some(parent) = parent {
        options = options.parent(supervisor(parent)?);
    }
    Ok(options)
}

fn c_strings(name: &str, strings: Vec<Vec<u8>>) -> PyResult<Vec<CString>> {
    let strings = strings.into_iter().map(CString::new).collect::<Result<_, _>>();
    strings.map_err(|_| PyValueError::new_err(format!("{name}: expected no zero byte")))
}

/// While it lives, the signals that Python ignores have their default action, as with `restore_signals` of
/// `subprocess`. A program that is executed would inherit the ignored ones.
struct DefaultSignals {
    #[cfg(unix)]
    ignored: Vec<i32>,
}

impl DefaultSignals {
    #[cfg(unix)]
    fn set() -> DefaultSignals {
        // SAFETY: a signal that is ignored has no handler to lose.
        let is_ignored = |signal: &i32| unsafe {
            let before = libc::signal(*signal, libc::SIG_DFL);
            if before != libc::SIG_IGN {
                libc::signal(*signal, before);
            }
            before == libc::SIG_IGN
        };
        let ignored = [libc::SIGPIPE, libc::SIGXFSZ].into_iter().filter(is_ignored).collect();
        DefaultSignals { ignored }
    }

    #[cfg(not(unix))]
    fn set() -> DefaultSignals {
        DefaultSignals {}
    }
}

impl Drop for DefaultSignals {
    fn drop(&mut self) {
        #[cfg(unix)]
        for signal in &self.ignored {
            // SAFETY: as it was.
            unsafe { libc::signal(*signal, libc::SIG_IGN) };
        }
    }
}

/// See `_native.pyi`.
#[pymodule(gil_used = false)]
mod _native {
    use super::*;

    #[pymodule_export]
    const ENV_PARENT_WATCH: &str = parentwatch::ENV_PARENT_WATCH;
    #[pymodule_export]
    const ENV_PARENT_WATCH_INTERVAL: &str = parentwatch::ENV_PARENT_WATCH_INTERVAL;
    #[pymodule_export]
    const ENV_PARENT_WATCH_SCOPE: &str = parentwatch::ENV_PARENT_WATCH_SCOPE;
    #[pymodule_export]
    const ENV_PARENT_WATCH_GRACE: &str = parentwatch::ENV_PARENT_WATCH_GRACE;
    #[pymodule_export]
    const ENV_PARENT_PID: &str = parentwatch::ENV_PARENT_PID;
    #[pymodule_export]
    #[allow(non_upper_case_globals)]
    const __version__: &str = env!("CARGO_PKG_VERSION");

    /// There is one watcher per process, and the hook runs in the main interpreter. The module's slot is not enough:
    /// CPython reads it only since 3.12, and not if the check is switched off.
    #[pymodule_init]
    fn refuse_subinterpreters(module: &Bound<'_, PyModule>) -> PyResult<()> {
        // SAFETY: this thread is attached, so there is a current interpreter.
        let id = unsafe { ffi::PyInterpreterState_GetID(ffi::PyInterpreterState_Get()) };
        match id {
            0 => Ok(()),
            _ => Err(PyImportError::new_err(format!(
                "{} does not support subinterpreters",
                module.name()?
            ))),
        }
    }

    #[pyfunction]
    #[pyo3(signature = (on_death=None, grace=None, scope=None, interval=None, parent=None))]
    fn start(
        py: Python<'_>,
        on_death: Option<&Bound<'_, PyAny>>,
        grace: Option<&Bound<'_, PyAny>>,
        scope: Option<&Bound<'_, PyAny>>,
        interval: Option<&Bound<'_, PyAny>>,
        parent: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<i32> {
        let mut options = options(grace, scope, interval, parent)?;
        let on_death = on_death.map(OnDeath::new).transpose()?;
        if let Some(on_death) = &on_death {
            options = on_death.add_to(options);
        }
        // Read with the interpreter lock held: os.environ changes under that lock.
        let options = options.environment(Config::from_lookup(std::env::var_os));
        let outcome = py.detach(|| options.start());
        if let (Ok(Status::Armed), Some(on_death)) = (outcome, on_death) {
            on_death.keep();
        }
        match outcome {
            Err(Error::Invalid(what)) => Err(PyValueError::new_err(what)),
            outcome => Ok(code(outcome)),
        }
    }

    /// `argv` and `env` are bytes without NUL.
    #[pyfunction]
    #[pyo3(signature = (argv, env=None, grace=None, scope=None, parent=None, cgroup=false, verbose=false))]
    #[allow(clippy::too_many_arguments)]
    fn exec(
        argv: Vec<Vec<u8>>,
        env: Option<Vec<Vec<u8>>>,
        grace: Option<&Bound<'_, PyAny>>,
        scope: Option<&Bound<'_, PyAny>>,
        parent: Option<&Bound<'_, PyAny>>,
        cgroup: bool,
        verbose: bool,
    ) -> PyResult<()> {
        let options = options(grace, scope, None, parent)?;
        let options = options.environment(Config::from_lookup(std::env::var_os));
        let argv = c_strings("argv", argv)?;
        let env = env.map(|env| c_strings("env", env)).transpose()?;
        let argv: Vec<&CStr> = argv.iter().map(CString::as_c_str).collect();
        let env: Option<Vec<&CStr>> =
            env.as_ref().map(|env| env.iter().map(CString::as_c_str).collect());
        // With the interpreter lock held, as os.execv does.
        let _restored = DefaultSignals::set();
        let exec = parentwatch::Exec::new(options).cgroup(cgroup).verbose(verbose);
        match exec.run(&argv, env.as_deref()) {
            ExecError::Invalid(what) => Err(PyValueError::new_err(what)),
            error => Err(PyOSError::new_err((error.raw_os_error(), error.to_string()))),
        }
    }

    #[pyfunction]
    #[allow(clippy::type_complexity)]
    fn status(
        py: Python<'_>,
    ) -> PyResult<(i32, &'static str, Bound<'_, PyTuple>, f64, &'static str, Option<f64>)> {
        let info = parentwatch::status();
        let watched: Vec<i32> = info.parent.into_iter().chain(info.supervisor).collect();
        Ok((
            code(info.state),
            info.tier.word(),
            PyTuple::new(py, watched)?,
            info.interval.as_secs_f64(),
            info.scope.word(),
            info.grace.map(|grace| grace.as_secs_f64()),
        ))
    }

    /// Returns what `doctor` prints and its exit status, or raises an error with the line to print.
    #[pyfunction]
    fn doctor(py: Python<'_>, json: bool, end: Vec<i32>, styled: bool) -> PyResult<(String, u8)> {
        let read: Vec<(&str, _)> = parentwatch::doctor::VARIABLES
            .iter()
            .map(|name| (*name, std::env::var_os(name)))
            .collect();
        let lookup = |name: &'static str| {
            read.iter().find(|(read, _)| *read == name).and_then(|(_, value)| value.clone())
        };
        // It may take a second, and needs no interpreter lock.
        let outcome = py.detach(|| parentwatch::doctor::run(lookup, json, &end));
        let (text, status) = outcome.map_err(PyOSError::new_err)?;
        let text = if styled { text } else { parentwatch::doctor::plain(&text) };
        Ok((text, status))
    }

    #[pyfunction]
    fn enabled() -> bool {
        Config::from_env().enabled
    }

    #[pyfunction]
    fn interval() -> f64 {
        Config::from_env().interval.as_secs_f64()
    }

    #[pyfunction]
    fn token() -> String {
        parentwatch::token()
    }

    #[pyfunction]
    fn parent_died(pid: Pid) -> bool {
        parentwatch::parent_died(pid.0)
    }

    #[pyfunction]
    fn wait_for_exit(py: Python<'_>, pid: Pid, interval: &Bound<'_, PyAny>) -> PyResult<bool> {
        let interval = duration("interval", interval)?;
        // Without an interpreter there are no Python signal handlers to run.
        let signals = || Python::try_attach(|py| py.check_signals()).unwrap_or(Ok(()));
        py.detach(|| parentwatch::wait_for_exit_or(pid.0, interval, signals))
            .map(|exit| exit == Exit::Exited)
    }
}
