//! What a guarded program and its guardian have that others do not: the mark, and a guardian's name and session.

use std::ffi::{CStr, OsStr};
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;

use super::procfs::{self, parse_integer, stat_field, status_line};
use super::{errno, own_pid};

/// What the descendants of a guarded program are known by: their soft `RLIMIT_RTTIME`, which every process inherits
/// and which means nothing to one that is not real-time (getrlimit(2)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark(u64);

impl Mark {
    /// 2^61 microseconds: no limit that somebody means is that long. What follows tells guarded programs apart.
    const FIRST: u64 = 1 << 61;

    /// A number of its own for this process.
    pub(crate) fn new() -> Mark {
        let mut random = [0; 4];
        // SAFETY: room for as many bytes. Without them (EAGAIN, early at boot) the process id has to do.
        unsafe {
            libc::syscall(
                libc::SYS_getrandom,
                random.as_mut_ptr(),
                random.len(),
                libc::GRND_NONBLOCK,
            )
        };
        let pid = u64::try_from(own_pid()).unwrap_or(0);
        Mark(Mark::FIRST | pid << 32 | u64::from(u32::from_ne_bytes(random)))
    }

    /// Whether the process carries it.
    pub(crate) fn is_carried_by(self, pid: i32) -> bool {
        match Limit::of(pid) {
            Ok(limit) => limit.soft == self.0,
            Err(libc::ESRCH) => false,
            // Another user's, or a filter of system calls. `/proc/PID/limits` (proc(5)) shows it to everybody, but
            // takes forty times as long.
            Err(_) => Mark::shown(pid) == Some(self.0),
        }
    }

    fn shown(pid: i32) -> Option<u64> {
        let path = procfs::Path::new(format_args!("/proc/{pid}/limits"));
        status_line(path.as_c_str()?, b"Max realtime timeout", |values| {
            let soft = values.split(|b| *b == b' ').find(|word| !word.is_empty());
            soft.and_then(parse_integer)
        })
    }

    /// Gives it to this process, and so to all that it starts from now on. Returns the limit before.
    ///
    /// `None`: a limit is in force here that somebody may mean. It is left as it is.
    pub(crate) fn put_on(self) -> Option<Limit> {
        let before = Limit::of(0).ok()?;
        let is_meant = before.soft < Mark::FIRST;
        let marked = Limit { soft: self.0, ..before };
        (!is_meant && before.hard >= self.0 && marked.set()).then_some(before)
    }
}

/// The limits on real-time (`RLIMIT_RTTIME`).
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Limit {
    soft: u64,
    hard: u64,
}

impl Limit {
    /// Those of a process, 0 for this one; or the error number.
    fn of(pid: i32) -> Result<Limit, i32> {
        let mut found = MaybeUninit::<Limit>::uninit();
        let nothing = ptr::null::<Limit>();
        let limit = libc::RLIMIT_RTTIME;
        // SAFETY: room for the answer: two 64-bit numbers, on every processor (prlimit(2)).
        unsafe {
            match libc::syscall(libc::SYS_prlimit64, pid, limit, nothing, found.as_mut_ptr()) {
                0 => Ok(found.assume_init()),
                _ => Err(errno()),
            }
        }
    }

    /// Sets them for this process; whether that worked.
    pub(crate) fn set(self) -> bool {
        let nothing = ptr::null_mut::<Limit>();
        // SAFETY: reads the two numbers.
        unsafe {
            libc::syscall(libc::SYS_prlimit64, 0, libc::RLIMIT_RTTIME, &raw const self, nothing)
                == 0
        }
    }
}

/// Takes the mark of a program further up off this process.
pub(crate) fn take_off_mark() {
    if let Ok(limit) = Limit::of(0) {
        Limit { soft: limit.hard, ..limit }.set();
    }
}

/// Leaves session, process group and terminal (setsid(2)).
pub(crate) fn begin_session() {
    // SAFETY: no arguments.
    unsafe { libc::syscall(libc::SYS_setsid) };
}

/// What ps(1) shows as the command line of this process from now on. The arguments and the environment of its program
/// are lost.
///
/// The kernel shows what is where the arguments were; when their last byte is no longer a zero, it goes on into the
/// environment (`get_mm_cmdline` of the kernel's fs/proc/base.c).
///
/// # Safety
/// Nobody in this process uses its arguments or its environment any more.
pub(crate) unsafe fn set_title(title: &[u8]) {
    let field = |number| stat_field(number).and_then(|address| usize::try_from(address).ok());
    // proc(5): arg_start, arg_end, env_start, env_end. 0 for what we may not know.
    let (Some(begin), Some(arguments_end), Some(end)) = (field(48), field(49), field(51)) else {
        return;
    };
    if begin == 0 || arguments_end <= begin || end < arguments_end {
        return;
    }
    let room = end - begin;
    let length = title.len().min(room - 1);
    let begin = ptr::with_exposed_provenance_mut::<u8>(begin);
    // SAFETY: the kernel put strings there, from the one address to the other, on the first stack.
    unsafe {
        begin.write_bytes(0, room);
        begin.copy_from_nonoverlapping(title.as_ptr(), length);
    }
}

/// A pipe, both ends closed by an exec; or the error number.
pub(crate) fn pipe() -> Result<[i32; 2], i32> {
    let mut ends = [-1; 2];
    // SAFETY: room for two descriptors.
    match unsafe { libc::syscall(libc::SYS_pipe2, ends.as_mut_ptr(), libc::O_CLOEXEC) } {
        0 => Ok(ends),
        _ => Err(errno()),
    }
}

pub(crate) fn close(fd: i32) {
    // SAFETY: the caller's own descriptor, which it uses no more.
    unsafe { libc::syscall(libc::SYS_close, fd) };
}

/// One attempt; whether the whole was written.
pub(crate) fn write_record(fd: i32, record: &[u8]) -> bool {
    // SAFETY: the record is valid for its length.
    let written = unsafe { libc::syscall(libc::SYS_write, fd, record.as_ptr(), record.len()) };
    usize::try_from(written) == Ok(record.len())
}

/// Reads a whole record that is written at once; `None` at the end of a pipe that nobody writes to.
pub(crate) fn read_record<const N: usize>(fd: i32) -> Option<[u8; N]> {
    let mut record = [0; N];
    loop {
        // SAFETY: the record is valid for its length.
        let got = unsafe { libc::syscall(libc::SYS_read, fd, record.as_mut_ptr(), N) };
        if got != -1 || errno() != libc::EINTR {
            return (usize::try_from(got) == Ok(N)).then_some(record);
        }
    }
}

/// Whether the program runs as a user whom this one cannot signal: it is another user's, and set-user-ID.
pub(crate) fn is_out_of_reach(program: &CStr) -> bool {
    use std::os::unix::fs::MetadataExt;
    let program = Path::new(OsStr::from_bytes(program.to_bytes()));
    let found = match program.components().count() {
        1 if !program.as_os_str().as_bytes().contains(&b'/') => std::env::var_os("PATH")
            .iter()
            .flat_map(std::env::split_paths)
            .find_map(|folder| folder.join(program).metadata().ok().filter(|it| it.is_file())),
        _ => program.metadata().ok(),
    };
    // SAFETY: asks about ourselves.
    let user = unsafe { libc::geteuid() };
    found.is_some_and(|it| it.mode() & libc::S_ISUID != 0 && it.uid() != user && user != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_inherited_and_both_ways_to_see_it_agree() {
        let mark = Mark::new();
        assert_ne!(mark, Mark::new());
        let own = Limit::of(0).unwrap();
        // It is a limit of the process: of this one only for as long as it takes to start a child.
        let before = mark.put_on().unwrap();
        let child = std::process::Command::new("/bin/sleep").arg("60").env_clear().spawn();
        before.set();
        let mut child = child.unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let seen = (mark.is_carried_by(pid), Mark::shown(pid));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(seen, (true, Some(mark.0)));
        assert!(!mark.is_carried_by(own_pid()) && !mark.is_carried_by(i32::MAX));
        let now = Limit::of(0).unwrap();
        assert_eq!((now.soft, now.hard), (own.soft, own.hard));
    }
}
