//! Processes, their parents, and their creation times.

use std::mem::MaybeUninit;
use std::os::windows::io::{IntoRawHandle, OwnedHandle};
use std::ptr;

use windows_sys::Wdk::System::Threading::{NtQueryInformationProcess, ProcessBasicInformation};
use windows_sys::Win32::Foundation::{
    CloseHandle, ERROR_INVALID_PARAMETER, FILETIME, HANDLE, INVALID_HANDLE_VALUE, WAIT_OBJECT_0,
};
use windows_sys::Win32::System::Diagnostics::ToolHelp::{
    CreateToolhelp32Snapshot, PROCESSENTRY32W, Process32FirstW, Process32NextW, TH32CS_SNAPPROCESS,
};
use windows_sys::Win32::System::Threading::{
    GetCurrentProcess, GetCurrentProcessId, GetExitCodeProcess, GetProcessId, GetProcessTimes,
    OpenProcess, PROCESS_BASIC_INFORMATION, PROCESS_QUERY_LIMITED_INFORMATION, PROCESS_SET_QUOTA,
    PROCESS_SYNCHRONIZE, PROCESS_TERMINATE, TerminateProcess, WaitForSingleObject,
};

use super::super::{OpenError, Stat};
use super::last_error;

/// An open handle on a process. While it is open, the process id cannot be reused.
pub(crate) struct Process(HANDLE);

impl Process {
    /// Opens a process to query it and to wait for it.
    pub(crate) fn open(pid: i32) -> Result<Process, OpenError> {
        Process::open_for(PROCESS_QUERY_LIMITED_INFORMATION | PROCESS_SYNCHRONIZE, pid)
    }

    /// Opens a process also to end it and to add it to a job (AssignProcessToJobObject).
    pub(crate) fn open_to_end(pid: i32) -> Result<Process, OpenError> {
        let look = PROCESS_QUERY_LIMITED_INFORMATION | PROCESS_SYNCHRONIZE;
        Process::open_for(look | PROCESS_TERMINATE | PROCESS_SET_QUOTA, pid)
    }

    fn open_for(access: u32, pid: i32) -> Result<Process, OpenError> {
        let number = u32::try_from(pid).map_err(|_| OpenError::Gone)?;
        // SAFETY: three numbers.
        let handle = unsafe { OpenProcess(access, 0, number) };
        if handle.is_null() {
            // The error for an id that no process has.
            let is_gone = last_error() == ERROR_INVALID_PARAMETER;
            return Err(if is_gone { OpenError::Gone } else { OpenError::Unavailable });
        }
        let process = Process(handle);
        // The kernel ignores the two lowest bits of the id.
        if process.number() == number { Ok(process) } else { Err(OpenError::Gone) }
    }

    /// A process that we have started.
    pub(super) fn of(child: OwnedHandle) -> Process {
        Process(child.into_raw_handle())
    }

    pub(super) fn number(&self) -> u32 {
        // SAFETY: an open handle.
        unsafe { GetProcessId(self.0) }
    }

    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.number()).unwrap_or(i32::MAX)
    }

    /// The exit status. Only valid once the process has ended.
    pub(crate) fn exit_status(&self) -> u32 {
        let mut status = 1;
        // SAFETY: an open handle, and room for the answer.
        unsafe { GetExitCodeProcess(self.0, &raw mut status) };
        status
    }

    /// The handle, which stays open until this process ends.
    pub(super) fn into_raw(self) -> HANDLE {
        std::mem::ManuallyDrop::new(self).0
    }

    pub(super) fn raw(&self) -> HANDLE {
        self.0
    }

    pub(crate) fn has_ended(&self) -> bool {
        // SAFETY: an open handle.
        unsafe { WaitForSingleObject(self.0, 0) == WAIT_OBJECT_0 }
    }

    pub(crate) fn stat(&self) -> Option<Stat> {
        Some(Stat {
            parent: parent_number(self.0)?,
            start: creation_time(self.0)?,
            state: if self.has_ended() { b'X' } else { b'R' },
            threads: 1,
            is_exiting: false,
            group: 0,
            is_reaper: false,
        })
    }

    pub(crate) fn terminate(&self) {
        // SAFETY: an open handle. If its process has ended, the call only fails.
        unsafe { TerminateProcess(self.0, 1) };
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // SAFETY: opened by us and closed once.
        unsafe { CloseHandle(self.0) };
    }
}

/// When the process was created, by the wall clock, in units of 100 ns since 1601.
fn creation_time(process: HANDLE) -> Option<u64> {
    let mut created = FILETIME::default();
    let mut unused = [FILETIME::default(); 3];
    let [exited, kernel, user] = &mut unused;
    // SAFETY: a handle, and room for the answers.
    let is_known = unsafe {
        GetProcessTimes(
            process,
            &raw mut created,
            &raw mut *exited,
            &raw mut *kernel,
            &raw mut *user,
        )
    };
    (is_known != 0)
        .then(|| u64::from(created.dwHighDateTime) << 32 | u64::from(created.dwLowDateTime))
}

/// The process id of its parent, which may have ended. A snapshot would look at all processes for the same answer.
fn parent_number(process: HANDLE) -> Option<i32> {
    let mut answer = MaybeUninit::<PROCESS_BASIC_INFORMATION>::uninit();
    // a few dozen bytes
    let size = size_of::<PROCESS_BASIC_INFORMATION>() as u32;
    // SAFETY: a handle, and room of that size for the answer. The answer is complete if the status is 0.
    let answer = unsafe {
        let room = answer.as_mut_ptr().cast();
        let status = NtQueryInformationProcess(
            process,
            ProcessBasicInformation,
            room,
            size,
            ptr::null_mut(),
        );
        (status == 0).then(|| answer.assume_init())
    };
    i32::try_from(answer?.InheritedFromUniqueProcessId).ok()
}

fn this_process() -> HANDLE {
    // SAFETY: no arguments, no failure. Returns a constant that means this process.
    unsafe { GetCurrentProcess() }
}

pub(crate) fn own_pid() -> i32 {
    // SAFETY: no arguments, no failure.
    i32::try_from(unsafe { GetCurrentProcessId() }).unwrap_or(i32::MAX)
}

pub(crate) fn own_start_time() -> Option<u64> {
    creation_time(this_process())
}

/// The process id of the parent, or 0 if the parent has ended. Another process may have reused that id: then it was
/// created after us.
pub(crate) fn parent_pid() -> i32 {
    let Some(parent) = parent_number(this_process()) else { return 0 };
    match Process::open(parent) {
        Ok(process) if process.has_ended() || is_younger(&process) => 0,
        Err(OpenError::Gone) => 0,
        // A process that we may not open lives.
        Ok(_) | Err(OpenError::Unavailable) => parent,
    }
}

fn is_younger(process: &Process) -> bool {
    match (creation_time(process.0), own_start_time()) {
        (Some(other), Some(own)) => other > own,
        _ => false,
    }
}

/// Whether no process has that id.
pub(crate) fn is_absent(pid: i32) -> bool {
    Process::open(pid).is_err_and(|error| error == OpenError::Gone)
}

pub(crate) fn stat(pid: i32) -> Option<Stat> {
    Process::open(pid).ok()?.stat()
}

pub(crate) fn looks_gone(pid: i32, start: Option<u64>) -> bool {
    match Process::open(pid) {
        Ok(process) => {
            let is_another = |start: u64| creation_time(process.0).is_some_and(|it| it != start);
            process.has_ended() || start.is_some_and(is_another)
        }
        Err(error) => error == OpenError::Gone,
    }
}

/// Always 0: there are no PID namespaces. On Linux no namespace has inode 0, so a token from Linux never matches here.
pub(crate) fn pid_namespace() -> Option<u64> {
    Some(0)
}

pub(crate) fn clock_is_initial() -> bool {
    true
}

/// Always true: there is only one set of process ids.
pub(crate) fn procfs_is_ours() -> bool {
    true
}

/// Calls `each` with the id of every process and that of its parent. Leaves out console hosts. A console host is a
/// child of the first program in its console, passes on the output of all of them, and ends with the last.
pub(crate) fn each_process(mut each: impl FnMut(i32, i32)) {
    // SAFETY: two numbers.
    let snapshot = unsafe { CreateToolhelp32Snapshot(TH32CS_SNAPPROCESS, 0) };
    if snapshot == INVALID_HANDLE_VALUE {
        return;
    }
    let mut entry = PROCESSENTRY32W {
        // a few hundred bytes
        dwSize: size_of::<PROCESSENTRY32W>() as u32,
        ..Default::default()
    };
    // SAFETY: an open snapshot, and an entry with its size set.
    let mut is_there = unsafe { Process32FirstW(snapshot, &raw mut entry) };
    while is_there != 0 {
        let numbers = [entry.th32ProcessID, entry.th32ParentProcessID].map(i32::try_from);
        if let [Ok(pid), Ok(parent)] = numbers
            && !is_console_host(&entry.szExeFile)
        {
            each(pid, parent);
        }
        // SAFETY: as above.
        is_there = unsafe { Process32NextW(snapshot, &raw mut entry) };
    }
    // SAFETY: opened above.
    unsafe { CloseHandle(snapshot) };
}

fn is_console_host(name: &[u16]) -> bool {
    let letters = name.iter().take_while(|letter| **letter != 0);
    let lower_case = letters.map(|letter| match u8::try_from(*letter) {
        Ok(letter) => u16::from(letter.to_ascii_lowercase()),
        Err(_) => *letter,
    });
    lower_case.eq("conhost.exe".encode_utf16())
}

/// Exits at once with status 1. Runs no exit handler and no `DllMain`.
pub(crate) fn exit_now() -> ! {
    exit_at_once(1)
}

/// Exits at once with that status. Runs no exit handler and no `DllMain`.
pub(crate) fn exit_at_once(status: u32) -> ! {
    // SAFETY: ends the process.
    unsafe { TerminateProcess(this_process(), status) };
    std::process::abort()
}
