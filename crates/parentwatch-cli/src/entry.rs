//! The program's entry point, without the runtime of Rust's standard library.
//!
//! Before `main`, that runtime ignores SIGPIPE and opens those of the first three descriptors that are closed. A
//! program that `exec` runs would inherit both.

#![allow(unsafe_code)]

use std::ffi::{CStr, OsStr, OsString, c_char, c_int};
use std::os::unix::ffi::OsStrExt;

#[unsafe(no_mangle)]
extern "C" fn main(count: c_int, arguments: *const *const c_char) -> c_int {
    let count = usize::try_from(count).unwrap_or(0);
    let argument = |number: usize| -> OsString {
        // SAFETY: C promises `count` strings.
        let text = unsafe { CStr::from_ptr(*arguments.add(number)) };
        OsStr::from_bytes(text.to_bytes()).to_owned()
    };
    c_int::from(crate::run((0..count).map(argument)))
}
