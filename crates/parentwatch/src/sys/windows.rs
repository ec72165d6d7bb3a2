//! Windows.

mod job;
mod process;
mod stderr;

pub(crate) use super::not_posix::*;
pub(crate) use job::*;
pub(crate) use process::*;
pub(crate) use stderr::write_to_stderr;

use std::ffi::CStr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::time::Duration;

use windows_sys::Win32::Foundation::{GetLastError, WAIT_FAILED, WAIT_OBJECT_0};
use windows_sys::Win32::System::LibraryLoader::{
    GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS, GET_MODULE_HANDLE_EX_FLAG_PIN, GetModuleHandleExW,
};
use windows_sys::Win32::System::Threading::{
    INFINITE, Sleep, WaitForMultipleObjects, WaitForSingleObject,
};

use super::{OpenError, OwnTable};

pub(crate) const SUPPORTED: bool = true;
/// Descendants can be found here.
pub(crate) const HAS_TREE: bool = true;

fn last_error() -> u32 {
    // SAFETY: no arguments, no failure.
    unsafe { GetLastError() }
}

/// Whether `pid`, our direct parent, has ended.
pub(crate) fn parent_is_gone(pid: i32, _fired: bool) -> bool {
    parent_pid() != pid
}

/// A process handle to wait for. It is never closed, since its number may belong to the program by then.
#[derive(Clone, Copy)]
pub(crate) struct Handle(isize);

impl Handle {
    pub(crate) fn open_in(_: Option<&OwnTable>, pid: i32) -> Result<Handle, OpenError> {
        if cfg!(parentwatch_force_poll) {
            return Err(OpenError::Unavailable);
        }
        Process::open(pid).map(|process| Handle(process.into_raw() as isize))
    }

    /// Valid until `process` is dropped.
    pub(crate) fn of(process: &Process) -> Handle {
        Handle(process.raw() as isize)
    }

    pub(crate) fn has_ended(self) -> bool {
        // SAFETY: a number. An invalid handle only causes an error.
        unsafe { WaitForSingleObject(self.0 as _, 0) == WAIT_OBJECT_0 }
    }
}

/// Sleeps until a process has ended or the timeout is over. Returns which processes have ended. If the wait fails, it
/// sleeps for the timeout and returns `None`.
pub(crate) fn wait<const N: usize>(
    handles: [Option<Handle>; N],
    timeout: Option<Duration>,
) -> Option<[bool; N]> {
    // Rounded up: a short timeout must not become 0.
    let millis = match timeout {
        None => INFINITE,
        Some(time) => u32::try_from(time.as_micros().div_ceil(1_000)).unwrap_or(INFINITE - 1),
    };
    let mut waited_for = [ptr::null_mut(); N];
    let mut count = 0;
    for (to, handle) in waited_for.iter_mut().zip(handles.into_iter().flatten()) {
        *to = handle.0 as _;
        count += 1;
    }
    if count == 0 {
        // SAFETY: a number.
        unsafe { Sleep(millis) };
        return Some([false; N]);
    }
    // SAFETY: `count` numbers. An invalid handle only causes an error.
    if unsafe { WaitForMultipleObjects(count, waited_for.as_ptr(), 0, millis) } == WAIT_FAILED {
        // Waiting again would return at once.
        // SAFETY: a number.
        unsafe { Sleep(if timeout.is_some() { millis } else { 0 }) };
        return None;
    }
    Some(handles.map(|handle| handle.is_some_and(Handle::has_ended)))
}

/// Starts a detached thread. Returns the error number if that fails.
pub(crate) fn spawn_thread(
    name: &'static CStr,
    stack: usize,
    _blocked: &SignalsBlocked,
    body: impl FnOnce() + Send + 'static,
) -> Result<(), i32> {
    stay_loaded();
    let named = std::thread::Builder::new().name(name.to_string_lossy().into_owned());
    let spawned = named.stack_size(stack).spawn(|| {
        let _ = catch_unwind(AssertUnwindSafe(body));
    });
    spawned.map(drop).map_err(|error| error.raw_os_error().unwrap_or(0))
}

/// Keeps the library loaded until the process ends, since its threads run its code.
fn stay_loaded() {
    let flags = GET_MODULE_HANDLE_EX_FLAG_PIN | GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS;
    let mut module = ptr::null_mut();
    // SAFETY: an address within the module, as the flag requires, and room for the answer.
    unsafe { GetModuleHandleExW(flags, stay_loaded as *const u16, &raw mut module) };
}

/// The release of Windows. Uses RtlGetVersion, since the answer of other functions depends on the program's manifest.
#[cfg(feature = "doctor")]
pub(crate) fn kernel_release() -> String {
    use windows_sys::Wdk::System::SystemServices::RtlGetVersion;
    use windows_sys::Win32::System::SystemInformation::OSVERSIONINFOW;
    let mut version = OSVERSIONINFOW {
        // a few hundred bytes
        dwOSVersionInfoSize: size_of::<OSVERSIONINFOW>() as u32,
        ..Default::default()
    };
    // SAFETY: room for the answer, with its size set.
    unsafe { RtlGetVersion(&raw mut version) };
    let OSVERSIONINFOW { dwMajorVersion, dwMinorVersion, dwBuildNumber, .. } = version;
    format!("Windows {dwMajorVersion}.{dwMinorVersion}.{dwBuildNumber}")
}
