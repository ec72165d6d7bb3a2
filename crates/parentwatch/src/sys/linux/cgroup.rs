//! A control group (cgroup v2) for one guarded program. All its processes can be killed at once (`cgroup.kill`, Linux
//! 5.14). Everything that they start is in the group too.

use std::ffi::CStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

use super::super::nap;
use super::guarded::{close, write_record};
use super::own_pid;

/// The longest path in bytes, including the name of a file in the group.
const LONGEST: usize = 1024;

/// The path lies outside of the heap, since a guardian has released its heap.
pub(crate) struct Cgroup {
    path: [u8; LONGEST],
    length: usize,
}

impl Cgroup {
    /// Makes an empty control group below that of this process.
    pub(crate) fn make() -> io::Result<Cgroup> {
        let path = own_cgroup()?.join(format!("localai-parentwatch.{}", own_pid()));
        let bytes = path.as_os_str().as_bytes();
        let mut cgroup = Cgroup { path: [0; LONGEST], length: bytes.len() };
        // Room for the longest file name that is used below, and for the NUL.
        let fits = bytes.len() + "/../cgroup.procs".len() < LONGEST;
        let room = cgroup.path.get_mut(..bytes.len()).filter(|_| fits);
        room.ok_or(io::ErrorKind::InvalidFilename)?.copy_from_slice(bytes);
        fs::create_dir(&path)?;
        match path.join("cgroup.kill").exists() {
            true => Ok(cgroup),
            false => {
                cgroup.remove();
                Err(io::ErrorKind::Unsupported.into())
            }
        }
    }

    /// Moves this process into it.
    pub(crate) fn enter(&self) -> io::Result<()> {
        self.write(c"/cgroup.procs", b"0").ok_or_else(io::Error::last_os_error)
    }

    /// Moves this process back to where it was, and removes it.
    pub(crate) fn leave(&self) {
        self.write(c"/../cgroup.procs", b"0");
        self.remove();
    }

    /// Kills all its processes by SIGKILL and removes it. Only makes system calls.
    pub(crate) fn end(&self) {
        const MOMENT: Duration = Duration::from_millis(10);
        self.write(c"/cgroup.kill", b"1");
        // The group cannot be removed until the kernel has finished with the killed processes: at most 5 s.
        for _ in 0..500 {
            if self.remove() {
                break;
            }
            nap(MOMENT);
        }
    }

    /// Removes the group. Returns whether that worked. A group with processes in it cannot be removed.
    pub(crate) fn remove(&self) -> bool {
        self.with_path(c"", |path| {
            // SAFETY: a C string.
            unsafe {
                libc::syscall(libc::SYS_unlinkat, libc::AT_FDCWD, path.as_ptr(), libc::AT_REMOVEDIR)
                    == 0
            }
        })
    }

    fn write(&self, file: &CStr, text: &[u8]) -> Option<()> {
        self.with_path(file, |path| {
            let flags = libc::O_WRONLY | libc::O_CLOEXEC;
            // SAFETY: a C string. The descriptor is closed below.
            let fd =
                unsafe { libc::syscall(libc::SYS_openat, libc::AT_FDCWD, path.as_ptr(), flags) };
            let fd = i32::try_from(fd).ok().filter(|fd| *fd >= 0)?;
            let written = write_record(fd, text);
            close(fd);
            written.then_some(())
        })
    }

    fn with_path<T>(&self, file: &CStr, use_it: impl FnOnce(&CStr) -> T) -> T {
        let mut path = [0; LONGEST];
        let used = self.path.iter().take(self.length).chain(file.to_bytes());
        for (to, from) in path.iter_mut().take(LONGEST - 1).zip(used) {
            *to = *from;
        }
        use_it(CStr::from_bytes_until_nul(&path).unwrap_or(c""))
    }
}

/// The path of this process's control group (cgroups(7)).
fn own_cgroup() -> io::Result<PathBuf> {
    let line = fs::read_to_string("/proc/self/cgroup")?;
    let name = line.lines().find_map(|line| line.strip_prefix("0::/"));
    let name = name.ok_or(io::ErrorKind::Unsupported)?;
    // cgroup v2 is mounted in a directory of its own where cgroup v1 is in use too.
    ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"]
        .map(|mount| PathBuf::from(mount).join(name))
        .into_iter()
        .find(|folder| {
            folder.join("cgroup.procs").exists() && folder.join("cgroup.controllers").exists()
        })
        .ok_or(io::ErrorKind::Unsupported.into())
}
