//! Job objects: their processes end together, with everything that these start.

use std::io;
use std::os::windows::process::CommandExt;
use std::process::Command;
use std::ptr;

use windows_sys::Win32::Foundation::{CloseHandle, HANDLE, INVALID_HANDLE_VALUE};
use windows_sys::Win32::System::Console::{CTRL_BREAK_EVENT, CTRL_C_EVENT, SetConsoleCtrlHandler};
use windows_sys::Win32::System::Diagnostics::ToolHelp::{
    CreateToolhelp32Snapshot, TH32CS_SNAPTHREAD, THREADENTRY32, Thread32First, Thread32Next,
};
use windows_sys::Win32::System::JobObjects::{
    AssignProcessToJobObject, CreateJobObjectW, JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE,
    JOB_OBJECT_LIMIT_SILENT_BREAKAWAY_OK, JOBOBJECT_EXTENDED_LIMIT_INFORMATION,
    JobObjectExtendedLimitInformation, SetInformationJobObject, TerminateJobObject,
};
use windows_sys::Win32::System::Threading::{
    CREATE_SUSPENDED, INFINITE, OpenThread, ResumeThread, Sleep, THREAD_SUSPEND_RESUME,
};

use super::Process;

/// A job object whose only handle is in this process. However this process ends, Windows then ends all processes in the
/// job (`JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE`).
pub(crate) struct Job(HANDLE);

/// Which processes a job contains, besides those that were added to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Members {
    /// Everything that its processes start.
    AndDescendants,
    /// No others.
    Alone,
}

impl Job {
    pub(crate) fn new(members: Members) -> Option<Job> {
        let mut limits = JOBOBJECT_EXTENDED_LIMIT_INFORMATION::default();
        limits.BasicLimitInformation.LimitFlags = match members {
            Members::AndDescendants => JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE,
            Members::Alone => {
                JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE | JOB_OBJECT_LIMIT_SILENT_BREAKAWAY_OK
            }
        };
        // Without attributes its handle is not inherited, and without a name no other process can open it.
        // SAFETY: null pointers for the attributes and the name.
        let job = unsafe { CreateJobObjectW(ptr::null(), ptr::null()) };
        if job.is_null() {
            return None;
        }
        let job = Job(job);
        // SAFETY: a valid structure, and its size.
        let is_limited = unsafe {
            SetInformationJobObject(
                job.0,
                JobObjectExtendedLimitInformation,
                (&raw const limits).cast(),
                // below 10³
                size_of_val(&limits) as u32,
            )
        };
        (is_limited != 0).then_some(job)
    }

    /// Adds a process. Returns whether that worked. If the process is in another job, it stays in that one too; this
    /// fails if the two jobs cannot be nested.
    pub(crate) fn add(&self, process: &Process) -> bool {
        // SAFETY: two open handles.
        unsafe { AssignProcessToJobObject(self.0, process.raw()) != 0 }
    }

    /// Ends all processes in the job.
    pub(crate) fn end(&self) {
        // SAFETY: an open handle.
        unsafe { TerminateJobObject(self.0, 1) };
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        // SAFETY: opened by us and closed once.
        unsafe { CloseHandle(self.0) };
    }
}

/// Starts a program and adds it to the job. The program is suspended until then, so that it starts no process outside
/// of the job. Returns the process, and whether it is in the job.
pub(crate) fn spawn(command: &mut Command, job: Option<&Job>) -> io::Result<(Process, bool)> {
    let child = command.creation_flags(CREATE_SUSPENDED).spawn()?;
    let process = Process::of(child.into());
    let is_in_job = job.is_some_and(|job| job.add(&process));
    if resume(process.number()) {
        return Ok((process, is_in_job));
    }
    process.terminate();
    Err(io::Error::other("it cannot be resumed"))
}

/// Resumes a process that was started suspended. Looks at all its threads: a virus scanner, for example, may have added
/// one.
fn resume(pid: u32) -> bool {
    // SAFETY: two numbers.
    let snapshot = unsafe { CreateToolhelp32Snapshot(TH32CS_SNAPTHREAD, 0) };
    if snapshot == INVALID_HANDLE_VALUE {
        return false;
    }
    let mut entry = THREADENTRY32 {
        // a few dozen bytes
        dwSize: size_of::<THREADENTRY32>() as u32,
        ..Default::default()
    };
    let mut is_resumed = false;
    // SAFETY: an open snapshot, and an entry with its size set.
    let mut is_there = unsafe { Thread32First(snapshot, &raw mut entry) };
    while is_there != 0 {
        is_resumed |= entry.th32OwnerProcessID == pid && resume_thread(entry.th32ThreadID);
        // SAFETY: as above.
        is_there = unsafe { Thread32Next(snapshot, &raw mut entry) };
    }
    // SAFETY: opened above.
    unsafe { CloseHandle(snapshot) };
    is_resumed
}

/// Returns whether the thread was suspended and now runs.
fn resume_thread(id: u32) -> bool {
    // SAFETY: numbers, and a handle that is closed once.
    unsafe {
        let thread = OpenThread(THREAD_SUSPEND_RESUME, 0, id);
        if thread.is_null() {
            return false;
        }
        let before = ResumeThread(thread);
        CloseHandle(thread);
        before == 1
    }
}

/// Ignores the console's events: Ctrl-C, and that it is closed. The console sends them to every program in it, so the
/// guarded program gets them too. This process ends when that program has ended.
pub(crate) fn leave_console_events_to_others() {
    // SAFETY: a function that is never unloaded.
    unsafe { SetConsoleCtrlHandler(Some(ignore), 1) };
}

unsafe extern "system" fn ignore(event: u32) -> i32 {
    if event != CTRL_C_EVENT && event != CTRL_BREAK_EVENT {
        // The console is closed, or the user logs off. Windows ends this process as soon as this function returns.
        // SAFETY: a number.
        unsafe { Sleep(INFINITE) };
    }
    1
}
