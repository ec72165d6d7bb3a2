//! macOS. It has never run on a Mac. For tests its logic runs on Linux: see macos/shim.rs.

mod kqueue;
mod processes;
mod reaping;
#[cfg(parentwatch_macos_shim)]
mod shim;

pub(crate) use kqueue::{Handle, wait};
pub(crate) use processes::*;
pub(crate) use reaping::*;

pub(crate) use super::posix::*;

use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::ptr;
use std::time::Duration;

use super::OwnTable;
/// The calls that exist only on macOS.
#[cfg(target_os = "macos")]
use libc as darwin;
#[cfg(parentwatch_macos_shim)]
use shim as darwin;

/// Whether `pid` is no longer our direct parent. `getppid()` alone is not enough: a debugger that attaches becomes the
/// parent. So one more condition must hold: the new parent is launchd, the old parent has ended, or we are not being
/// debugged. The last is checked twice, since a debugger may just have detached.
pub(crate) fn parent_is_gone(pid: i32, _fired: bool) -> bool {
    let parent = parent_pid();
    parent != pid
        && (parent == 1
            || looks_gone(pid, None)
            || (has_other_parent_than(pid) && has_other_parent_than(pid)))
}

/// Sleeps once. A signal may end the sleep early.
fn sleep(time: Duration) {
    let time = libc::timespec {
        tv_sec: time.as_secs() as _,
        // below 10⁹
        tv_nsec: time.subsec_nanos() as _,
    };
    // SAFETY: a valid time, and a null pointer for the remaining time.
    unsafe { libc::nanosleep(&raw const time, ptr::null_mut()) };
}

pub(crate) fn name_this_thread(name: &CStr) {
    // SAFETY: a C string.
    unsafe { darwin::pthread_setname_np(name.as_ptr()) };
}

/// Keeps the library loaded until the process ends, since its threads run its code. On Linux the linker flag `-z
/// nodelete` does this; macOS has no such flag. If the library is linked into the program, this has no effect.
#[cfg(target_os = "macos")]
pub(crate) fn keep_loaded() {
    let mut image = MaybeUninit::<libc::Dl_info>::uninit();
    // SAFETY: an address in our code, and room for the answer, whose name is a C string. The call loads nothing.
    unsafe {
        if libc::dladdr((keep_loaded as fn() as *const ()).cast(), image.as_mut_ptr()) != 0 {
            libc::dlopen(image.assume_init().dli_fname, RTLD_LAZY_NOLOAD_NODELETE);
        }
    }
}

/// `<dlfcn.h>`
#[cfg(target_os = "macos")]
const RTLD_LAZY_NOLOAD_NODELETE: i32 = 0x1 | 0x10 | 0x80;

/// Whether a SIGTERM to this process would end it at once.
pub(crate) fn sigterm_ends_this_process() -> bool {
    disposition(libc::SIGTERM) == libc::SIG_DFL
}

/// A page that a forked child finds zeroed (minherit(2), `VM_INHERIT_ZERO`).
pub(crate) fn page_wiped_on_fork(size: usize) -> Option<*mut u8> {
    /// `<mach/vm_inherit.h>`
    const VM_INHERIT_ZERO: i32 = 3;
    let page = map_page(size)?;
    // SAFETY: the mapping was just made. A failure is harmless: the caller also compares the process id.
    unsafe { darwin::minherit(page.cast(), size, VM_INHERIT_ZERO) };
    Some(page)
}

/// Writes the line to a regular file or a socket. macOS has no write to a pipe or a terminal that surely does not
/// block.
pub(crate) fn write_to_stderr(line: &[u8], _table: Option<&OwnTable>) {
    let _blocked = SignalsBlocked::all();
    match type_of(2) {
        Some(libc::S_IFREG) => write_once(2, line),
        Some(libc::S_IFSOCK) => send_once(2, line, libc::MSG_DONTWAIT),
        _ => {}
    }
}

/// Removes a pending, blocked signal.
///
/// # Safety
/// The signal must be blocked in this thread and pending: macOS has no sigtimedwait(2), so this waits without a bound.
pub(crate) unsafe fn take_pending(signal: i32) {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    let mut taken = 0;
    // SAFETY: a valid set, and room for the number.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), signal);
        libc::sigwait(set.as_ptr(), &raw mut taken);
    }
}
