//! The line on stderr.

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

/// How long the line may take. A console holds whoever writes to it while a user selects text in it, a pipe while it is
/// full.
const PATIENCE: Duration = Duration::from_secs(1);

struct Text {
    length: u32,
    bytes: [u8; 1024],
}

/// A thread of its own writes the line, and is left behind when that takes too long. Nothing else is sure not to
/// wait: even asking a pipe for its room waits for whoever writes to it.
pub(crate) fn write_to_stderr(line: &[u8], _table: Option<&OwnTable>) {
    let size = size_of::<Text>();
    // Not from the heap, whose lock may be held for good by a thread that was suspended.
    // SAFETY: fresh memory at an address of the system's choice, zeroed.
    let text = unsafe { VirtualAlloc(ptr::null(), size, MEM_RESERVE | MEM_COMMIT, PAGE_READWRITE) };
    let text = text.cast::<Text>();
    if text.is_null() {
        return;
    }
    // SAFETY: a valid Text, since zeros are one, that nobody else knows yet.
    let Text { length, bytes } = unsafe { &mut *text };
    for (to, from) in bytes.iter_mut().zip(line) {
        *to = *from;
        *length += 1;
    }
    // SAFETY: the text is the thread's from now on; it is ours when there is no thread.
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

/// One attempt. A failure is ignored.
unsafe extern "system" fn write(text: *mut c_void) -> u32 {
    let mut written = 0;
    // SAFETY: `text` is a Text of this thread's own.
    unsafe {
        let Text { length, bytes } = &*text.cast::<Text>();
        let stderr = GetStdHandle(STD_ERROR_HANDLE);
        WriteFile(stderr, bytes.as_ptr(), *length, &raw mut written, ptr::null_mut());
        VirtualFree(text, 0, MEM_RELEASE);
    }
    0
}
