//! A futex: a number that threads can wait for.

use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// A number that threads can wait for (futex(2)). Zeroed memory is a valid `Word`.
#[derive(Default)]
pub(crate) struct Word(AtomicU32);

impl Word {
    pub(crate) const fn new(value: u32) -> Word {
        Word(AtomicU32::new(value))
    }

    pub(crate) fn get(&self) -> u32 {
        self.0.load(Ordering::Acquire)
    }

    /// Stores a value and wakes all waiting threads. Returns the previous value.
    pub(crate) fn replace(&self, value: u32) -> u32 {
        let before = self.0.swap(value, Ordering::AcqRel);
        let wake = libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG;
        // SAFETY: the word is ours. Waking does not access memory.
        unsafe { libc::syscall(libc::SYS_futex, self.0.as_ptr(), wake, i32::MAX) };
        before
    }

    /// Stores `new` if the value is `old`. Returns whether it was.
    pub(crate) fn replace_if(&self, old: u32, new: u32) -> bool {
        self.0.compare_exchange(old, new, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Sleeps once if the value is `while_it_is`, until the value changes or the timeout is over. A signal that is
    /// handled on this thread ends the sleep too. The caller can then read what the handler has stored.
    pub(crate) fn wait(&self, while_it_is: u32, timeout: Option<Duration>) {
        let wait = libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG;
        let time = timeout.map(|time| libc::timespec {
            tv_sec: time.as_secs() as _,
            // below 10⁹
            tv_nsec: time.subsec_nanos() as _,
        });
        let time = time.as_ref().map_or(ptr::null(), ptr::from_ref);
        // SAFETY: the word is ours. The time is valid or null.
        unsafe { libc::syscall(libc::SYS_futex, self.0.as_ptr(), wait, while_it_is, time) };
    }
}
