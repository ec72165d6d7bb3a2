//! macOS. Its logic also runs on Linux, for tests: see macos/shim.rs. It has never run on a Mac.

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
/// The calls that only macOS has.
#[cfg(target_os = "macos")]
use libc as darwin;
#[cfg(parentwatch_macos_shim)]
use shim as darwin;

/// Whether `pid`, once our direct parent, no longer is. `getppid()` alone does not tell: a debugger that
/// attaches becomes the parent. So it has to be launchd, or no debugger (asked twice: one may just have left), or the
/// old parent has to have ended.
pub(crate) fn parent_is_gone(pid: i32, _fired: bool) -> bool {
    let parent = parent_pid();
    parent != pid
        && (parent == 1
            || looks_gone(pid, None)
            || (has_other_parent_than(pid) && has_other_parent_than(pid)))
}

/// One sleep; a signal may end it early.
fn sleep(time: Duration) {
    let time = libc::timespec {
        tv_sec: time.as_secs() as _,
        // below 10⁹
        tv_nsec: time.subsec_nanos() as _,
    };
    // SAFETY: a valid time, and nothing to be written back.
    unsafe { libc::nanosleep(&raw const time, ptr::null_mut()) };
}

pub(crate) fn name_this_thread(name: &CStr) {
    // SAFETY: a C string.
    unsafe { darwin::pthread_setname_np(name.as_ptr()) };
}

/// Keeps the library in memory for as long as this process lives, since its threads run it: Linux's linker is told so
/// (`-z nodelete`), macOS's knows no such flag. Where it is linked into the program that is in memory anyway.
#[cfg(target_os = "macos")]
pub(crate) fn keep_loaded() {
    let mut image = MaybeUninit::<libc::Dl_info>::uninit();
    // SAFETY: an address of ours, and room for the answer, whose name is a C string. Nothing is loaded.
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

/// minherit(2), `VM_INHERIT_ZERO`: a child finds zeros.
pub(crate) fn page_wiped_on_fork(size: usize) -> Option<*mut u8> {
    /// `<mach/vm_inherit.h>`
    const VM_INHERIT_ZERO: i32 = 3;
    let page = map_page(size)?;
    // SAFETY: the mapping just made. Its failure is provided for by the process id in it.
    unsafe { darwin::minherit(page.cast(), size, VM_INHERIT_ZERO) };
    Some(page)
}

/// A regular file, or a socket; there is no write to a pipe or a terminal that is sure not to block.
pub(crate) fn write_to_stderr(line: &[u8], _table: Option<&OwnTable>) {
    let _blocked = SignalsBlocked::all();
    match type_of(2) {
        Some(libc::S_IFREG) => write_once(2, line),
        Some(libc::S_IFSOCK) => send_once(2, line, libc::MSG_DONTWAIT),
        _ => {}
    }
}

/// Takes a pending, blocked signal away.
///
/// # Safety
/// The signal is blocked in this thread and pending: there is no wait with a timeout here.
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
