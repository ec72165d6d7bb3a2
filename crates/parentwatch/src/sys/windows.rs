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
/// Descendants can be found.
pub(crate) const HAS_TREE: bool = true;

fn last_error() -> u32 {
    // SAFETY: no arguments, no failure.
    unsafe { GetLastError() }
}

/// Whether `pid`, once our direct parent, no longer lives.
pub(crate) fn parent_is_gone(pid: i32, _fired: bool) -> bool {
    parent_pid() != pid
}

/// A process to be waited for. It is never closed: what has its number by then may be the program's.
#[derive(Clone, Copy)]
pub(crate) struct Handle(isize);

impl Handle {
    pub(crate) fn open_in(_: Option<&OwnTable>, pid: i32) -> Result<Handle, OpenError> {
        if cfg!(parentwatch_force_poll) {
            return Err(OpenError::Unavailable);
        }
        Process::open(pid).map(|process| Handle(process.into_raw() as isize))
    }

    /// Valid as long as the process is held.
    pub(crate) fn of(process: &Process) -> Handle {
        Handle(process.raw() as isize)
    }

    pub(crate) fn has_ended(self) -> bool {
        // SAFETY: a number; one that is no handle is an error.
        unsafe { WaitForSingleObject(self.0 as _, 0) == WAIT_OBJECT_0 }
    }
}

/// Sleeps until one of the processes has ended, or the timeout is over; which of them have. `None`: the wait failed,
/// after a sleep of that time.
pub(crate) fn wait<const N: usize>(
    handles: [Option<Handle>; N],
    timeout: Option<Duration>,
) -> Option<[bool; N]> {
    // Rounded up, so that a short time is never a wait that returns at once.
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
    // SAFETY: so many numbers; one that is no handle is an error.
    if unsafe { WaitForMultipleObjects(count, waited_for.as_ptr(), 0, millis) } == WAIT_FAILED {
        // Waiting again would return at once.
        // SAFETY: a number.
        unsafe { Sleep(if timeout.is_some() { millis } else { 0 }) };
        return None;
    }
    Some(handles.map(|handle| handle.is_some_and(Handle::has_ended)))
}

/// Starts a detached thread, and returns the error number if none can be had.
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

/// Our threads run this code for the life of the process: the library is never unloaded.
fn stay_loaded() {
    let flags = GET_MODULE_HANDLE_EX_FLAG_PIN | GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS;
    let mut module = ptr::null_mut();
    // SAFETY: an address within the module, as the flag says, and room for the answer.
    unsafe { GetModuleHandleExW(flags, stay_loaded as *const u16, &raw mut module) };
}

/// The release of Windows. What programs are told elsewhere depends on their manifest.
#[cfg(feature = "doctor")]
pub(crate) fn kernel_release() -> String {
    use windows_sys::Wdk::System::SystemServices::RtlGetVersion;
    use windows_sys::Win32::System::SystemInformation::OSVERSIONINFOW;
    let mut version = OSVERSIONINFOW {
        // a few hundred bytes
        dwOSVersionInfoSize: size_of::<OSVERSIONINFOW>() as u32,
        ..Default::default()
    };
    // SAFETY: room for the answer, which knows its size.
    unsafe { RtlGetVersion(&raw mut version) };
    let OSVERSIONINFOW { dwMajorVersion, dwMinorVersion, dwBuildNumber, .. } = version;
    format!("Windows {dwMajorVersion}.{dwMinorVersion}.{dwBuildNumber}")
}
