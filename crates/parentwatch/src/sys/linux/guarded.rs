//! Calls for a guarded program and its guardian: the mark, the guardian's title and session, and their pipe.

use std::ffi::{CStr, OsStr, OsString};
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;

use super::procfs::{self, parse_integer, stat_field, status_line};
use super::{errno, own_pid};

/// A mark by which the descendants of a guarded program are recognised. It is their soft `RLIMIT_RTTIME`: every process
/// inherits that limit, and it has no effect on a process that is not real-time (getrlimit(2)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark(u64);

impl Mark {
    /// 2^61 microseconds. Nobody sets a real limit that long. The lower bits distinguish guarded programs.
    const FIRST: u64 = 1 << 61;

    /// A new mark for this process.
    pub(crate) fn new() -> Mark {
        let mut random = [0; 4];
        // Without random bytes (EAGAIN, early at boot) the process id alone must do.
        // SAFETY: room for that many bytes.
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

    /// Whether the process carries this mark.
    pub(crate) fn is_carried_by(self, pid: i32) -> bool {
        match Limit::of(pid) {
            Ok(limit) => limit.soft == self.0,
            Err(libc::ESRCH) => false,
            // Another user's process, or a seccomp filter. Everybody may read `/proc/PID/limits` (proc(5)), but that
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

    /// Marks this process, and so every process that it starts from now on. Returns the previous limit.
    ///
    /// Returns `None` and changes nothing if the process has a limit that may be a real one.
    pub(crate) fn put_on(self) -> Option<Limit> {
        let before = Limit::of(0).ok()?;
        let is_meant = before.soft < Mark::FIRST;
        let marked = Limit { soft: self.0, ..before };
        (!is_meant && before.hard >= self.0 && marked.set()).then_some(before)
    }
}

/// The limits on real-time computing (`RLIMIT_RTTIME`), in microseconds.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Limit {
    soft: u64,
    hard: u64,
}

impl Limit {
    /// The limits of a process, 0 for this one, or the error number.
    fn of(pid: i32) -> Result<Limit, i32> {
        let mut found = MaybeUninit::<Limit>::uninit();
        let nothing = ptr::null::<Limit>();
        let limit = libc::RLIMIT_RTTIME;
        // SAFETY: room for the answer, which is two 64-bit numbers on every processor (prlimit(2)).
        unsafe {
            match libc::syscall(libc::SYS_prlimit64, pid, limit, nothing, found.as_mut_ptr()) {
                0 => Ok(found.assume_init()),
                _ => Err(errno()),
            }
        }
    }

    /// Sets the limits of this process. Returns whether that worked.
    pub(crate) fn set(self) -> bool {
        let nothing = ptr::null_mut::<Limit>();
        // SAFETY: the call only reads the two numbers.
        unsafe {
            libc::syscall(libc::SYS_prlimit64, 0, libc::RLIMIT_RTTIME, &raw const self, nothing)
                == 0
        }
    }
}

/// Removes the mark that this process has inherited from another guarded program.
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

/// Sets the command line that ps(1) shows for this process. It overwrites the arguments and the environment.
///
/// The kernel shows the memory where the arguments were. If its last byte is no longer NUL, the kernel continues into
/// the environment (`get_mm_cmdline` of the kernel's fs/proc/base.c).
///
/// # Safety
/// This process must no longer use its arguments or its environment.
pub(crate) unsafe fn set_title(title: &[u8]) {
    let field = |number| stat_field(number).and_then(|address| usize::try_from(address).ok());
    // arg_start, arg_end and env_end (proc(5)). They are 0 if we may not read them.
    let (Some(begin), Some(arguments_end), Some(end)) = (field(48), field(49), field(51)) else {
        return;
    };
    if begin == 0 || arguments_end <= begin || end < arguments_end {
        return;
    }
    let room = end - begin;
    let length = title.len().min(room - 1);
    let begin = ptr::with_exposed_provenance_mut::<u8>(begin);
    // SAFETY: between these addresses, on the first stack, lie the strings that the kernel put there.
    unsafe {
        begin.write_bytes(0, room);
        begin.copy_from_nonoverlapping(title.as_ptr(), length);
    }
}

/// Makes a pipe whose ends are closed by an exec. Returns the error number if that fails.
pub(crate) fn pipe() -> Result<[i32; 2], i32> {
    let mut ends = [-1; 2];
    // SAFETY: room for two descriptors.
    match unsafe { libc::syscall(libc::SYS_pipe2, ends.as_mut_ptr(), libc::O_CLOEXEC) } {
        0 => Ok(ends),
        _ => Err(errno()),
    }
}

pub(crate) fn close(fd: i32) {
    // SAFETY: the caller owns the descriptor and no longer uses it.
    unsafe { libc::syscall(libc::SYS_close, fd) };
}

/// Tries once to write the record. Returns whether all of it was written.
pub(crate) fn write_record(fd: i32, record: &[u8]) -> bool {
    // SAFETY: the record is valid for its length.
    let written = unsafe { libc::syscall(libc::SYS_write, fd, record.as_ptr(), record.len()) };
    usize::try_from(written) == Ok(record.len())
}

/// Reads a whole record, which must be written in one call. Returns `None` once the pipe has no writer left.
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

/// Whether the program is setuid to a user whose processes we cannot signal. Searches the `PATH` of that environment.
pub(crate) fn is_out_of_reach(program: &CStr, environment: Option<&[&CStr]>) -> bool {
    // SAFETY: no arguments, no failure.
    let user = unsafe { libc::geteuid() };
    sets_another_user(OsStr::from_bytes(program.to_bytes()), &search_path(environment), user)
}

fn search_path(environment: Option<&[&CStr]>) -> OsString {
    let path = match environment {
        None => std::env::var_os("PATH"),
        Some(variables) => variables
            .iter()
            .find_map(|variable| variable.to_bytes().strip_prefix(b"PATH="))
            .map(|path| OsStr::from_bytes(path).to_owned()),
    };
    // The default of execvp(3).
    path.unwrap_or_else(|| "/bin:/usr/bin".into())
}

/// Never true for root, which may signal every process.
fn sets_another_user(program: &OsStr, path: &OsStr, user: libc::uid_t) -> bool {
    use std::os::unix::fs::MetadataExt;
    let look = |program: &Path| program.metadata().ok().filter(std::fs::Metadata::is_file);
    let found = match program.as_bytes().contains(&b'/') {
        true => look(Path::new(program)),
        false => std::env::split_paths(path).find_map(|folder| look(&folder.join(program))),
    };
    found.is_some_and(|it| it.mode() & libc::S_ISUID != 0 && it.uid() != user && user != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_inherited_and_both_ways_to_read_it_agree() {
        let mark = Mark::new();
        assert_ne!(mark, Mark::new());
        let own = Limit::of(0).unwrap();
        // The mark is a limit of the whole test process, so keep it only while a child is started.
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

    #[test]
    fn a_setuid_program_is_found_where_execvp_would_find_it() {
        use std::os::unix::fs::{MetadataExt, PermissionsExt};
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("program");
        std::fs::write(&program, "").unwrap();
        let sets_user = |mode, path: &str, user| {
            std::fs::set_permissions(&program, std::fs::Permissions::from_mode(mode)).unwrap();
            sets_another_user("program".as_ref(), path.as_ref(), user)
        };
        let owner = program.metadata().unwrap().uid();
        let path = format!("/nowhere:{}", folder.path().display());
        assert!(sets_user(0o4755, &path, owner + 1));
        assert!(!sets_user(0o755, &path, owner + 1));
        assert!(!sets_user(0o4755, &path, owner) && !sets_user(0o4755, &path, 0));
        assert!(!sets_user(0o4755, "/nowhere", owner + 1));
        assert!(sets_another_user(program.as_ref(), "/nowhere".as_ref(), owner + 1));
    }

    #[test]
    fn the_search_path_is_that_of_the_new_environment() {
        assert_eq!(search_path(Some(&[c"HOME=/", c"PATH=/a:/b"])), "/a:/b");
        assert_eq!(search_path(Some(&[c"HOME=/"])), "/bin:/usr/bin");
        assert_eq!(Some(search_path(None)), std::env::var_os("PATH"));
    }
}
