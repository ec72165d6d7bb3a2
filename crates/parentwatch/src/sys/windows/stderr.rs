//! Writes one line to stderr without waiting long.

use std::ffi::c_void;
use std::ptr;
use std::time::Duration;

use windows_sys::Win32::Foundation::CloseHandle;
use windows_sys::Win32::Storage::FileSystem::WriteFile;
use windows_sys::Win32::System::Console::{GetStdHandle, STD_ERROR_HANDLE};
use windows_sys::Win32::System::Memory::{
    MEM_COMMIT, MEM_RELEASE, MEM_RESERVE, PAGE_READWRITE, VirtualAlloc, VirtualFree,
};
use windows_sys::Win32::System::Threading::{CreateThread, WaitForSingleObject};

use super::super::OwnTable;

/// How long the write may take. A console blocks its writers while the user selects text in it. A full pipe blocks too.
const PATIENCE: Duration = Duration::from_secs(1);

struct Text {
    length: u32,
    bytes: [u8; 1024],
}

/// Starts a thread that writes the line, and abandons that thread if the write takes too long. Windows has no write
/// that surely does not block: even to ask how much room a pipe has waits for its other writers.
pub(crate) fn write_to_stderr(line: &[u8], _table: Option<&OwnTable>) {
    let size = size_of::<Text>();
    // Not the heap: a suspended thread may hold its lock forever.
    // SAFETY: new, zeroed memory at an address of the system's choice.
    let text = unsafe { VirtualAlloc(ptr::null(), size, MEM_RESERVE | MEM_COMMIT, PAGE_READWRITE) };
    let text = text.cast::<Text>();
    if text.is_null() {
        return;
    }
    // SAFETY: zeros are a valid Text, and no other thread has it yet.
    let Text { length, bytes } = unsafe { &mut *text };
    for (to, from) in bytes.iter_mut().zip(line) {
        *to = *from;
        *length += 1;
    }
    // SAFETY: the text now belongs to the thread. If there is no thread, it is freed here.
    unsafe {
        let thread = CreateThread(ptr::null(), 0, Some(write), text.cast(), 0, ptr::null_mut());
        if thread.is_null() {
            VirtualFree(text.cast(), 0, MEM_RELEASE);
            return;
        }
        // 10³
        WaitForSingleObject(thread, PATIENCE.as_millis() as u32);
        CloseHandle(thread);
    }
}

/// Tries once to write the text. Ignores a failure.
unsafe extern "system" fn write(text: *mut c_void) -> u32 {
    let mut written = 0;
    // SAFETY: `text` is a Text that belongs to this thread.
    unsafe {
        let Text { length, bytes } = &*text.cast::<Text>();
        let stderr = GetStdHandle(STD_ERROR_HANDLE);
        WriteFile(stderr, bytes.as_ptr(), *length, &raw mut written, ptr::null_mut());
        VirtualFree(text, 0, MEM_RELEASE);
    }
    0
}
