//! A control group (cgroup v2) for one guarded program: whoever is in it cannot leave it unnoticed, and all of them
//! are ended at once (`cgroup.kill`, Linux 5.14).

use std::ffi::CStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

use super::super::nap;
use super::guarded::{close, write_record};
use super::own_pid;

/// The longest path that is taken, with the name of a file in it.
const LONGEST: usize = 1024;

/// Its path is kept without the heap, which a guardian has let go.
pub(crate) struct Cgroup {
    path: [u8; LONGEST],
    length: usize,
}

impl Cgroup {
    /// Makes one below that of this process. It is empty.
    pub(crate) fn make() -> io::Result<Cgroup> {
        let path = own_cgroup()?.join(format!("localai-parentwatch.{}", own_pid()));
        let bytes = path.as_os_str().as_bytes();
        let mut cgroup = Cgroup { path: [0; LONGEST], length: bytes.len() };
        // Room for the longest name of a file in it, and for the zero.
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

    /// SIGKILL for whoever is in it; then it is removed. System calls alone.
    pub(crate) fn end(&self) {
        const MOMENT: Duration = Duration::from_millis(10);
        self.write(c"/cgroup.kill", b"1");
        // Those that the kernel has not seen off yet are still in it.
        for _ in 0..500 {
            if self.remove() {
                break;
            }
            nap(MOMENT);
        }
    }

    /// Whether it is gone. One with somebody in it cannot be removed.
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
            // SAFETY: a C string; the descriptor is closed below.
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

/// Where the control group of this process is (cgroups(7)).
fn own_cgroup() -> io::Result<PathBuf> {
    let line = fs::read_to_string("/proc/self/cgroup")?;
    let name = line.lines().find_map(|line| line.strip_prefix("0::/"));
    let name = name.ok_or(io::ErrorKind::Unsupported)?;
    // Beside the older hierarchies it has a folder of its own.
    ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"]
        .map(|mount| PathBuf::from(mount).join(name))
        .into_iter()
        .find(|folder| {
            folder.join("cgroup.procs").exists() && folder.join("cgroup.controllers").exists()
        })
        .ok_or(io::ErrorKind::Unsupported.into())
}
