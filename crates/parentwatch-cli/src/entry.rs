//! The program's entry, without the runtime of Rust's standard library.
//!
//! That ignores SIGPIPE and opens what is closed of the first three descriptors, before `main`. A program that `exec`
//! becomes would inherit both.

#![allow(unsafe_code)]

use std::ffi::{CStr, OsStr, OsString, c_char, c_int};
use std::os::unix::ffi::OsStrExt;

#[unsafe(no_mangle)]
extern "C" fn main(count: c_int, arguments: *const *const c_char) -> c_int {
    let count = usize::try_from(count).unwrap_or(0);
    let argument = |number: usize| -> OsString {
        // SAFETY: C's promise for main: so many strings.
        let text = unsafe { CStr::from_ptr(*arguments.add(number)) };
        OsStr::from_bytes(text.to_bytes()).to_owned()
    };
    c_int::from(crate::run((0..count).map(argument)))
}
