//! Portable replacements for facilities that only Linux has.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A number that threads can wait for. Nothing is allocated.
#[derive(Default)]
pub(crate) struct Word {
    value: Mutex<u32>,
    changed: Condvar,
}

impl Word {
    pub(crate) const fn new(value: u32) -> Word {
        Word { value: Mutex::new(value), changed: Condvar::new() }
    }

    /// Nothing panics while it holds this lock.
    fn value(&self) -> MutexGuard<'_, u32> {
        self.value.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn get(&self) -> u32 {
        *self.value()
    }

    /// Stores a value and wakes all waiting threads. Returns the previous value.
    pub(crate) fn replace(&self, value: u32) -> u32 {
        let before = std::mem::replace(&mut *self.value(), value);
        self.changed.notify_all();
        before
    }

    /// Stores `new` if the value is `old`. Returns whether it was.
    pub(crate) fn replace_if(&self, old: u32, new: u32) -> bool {
        let mut value = self.value();
        let is_old = *value == old;
        if is_old {
            *value = new;
        }
        is_old
    }

    /// Sleeps once if the value is `while_it_is`, until the value changes or the timeout is over.
    pub(crate) fn wait(&self, while_it_is: u32, timeout: Option<Duration>) {
        let value = self.value();
        if *value != while_it_is {
            return;
        }
        match timeout {
            Some(timeout) => drop(self.changed.wait_timeout(value, timeout)),
            None => drop(self.changed.wait(value)),
        }
    }
}

/// Only on Linux can the watcher have its own descriptor table.
pub(crate) struct OwnTable(std::convert::Infallible);

impl OwnTable {
    pub(crate) fn take() -> Option<OwnTable> {
        None
    }
}

/// Hooks of another copy of this library are only detected on Linux.
pub(crate) struct HookMark;

impl HookMark {
    pub(crate) fn new() -> Option<HookMark> {
        None
    }

    pub(crate) fn exists() -> bool {
        false
    }
}
