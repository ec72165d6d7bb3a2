//! The watcher's wake-up: one kqueue for each watched process.

use std::ptr;
use std::time::Duration;

use super::super::{OpenError, OwnTable};
use super::processes::looks_gone_or;
use super::{darwin, errno, sleep, stat};

/// The longest wait for handles. The program shares its descriptor table with the watcher, so it may close or replace
/// our descriptor. Then nothing would wake us.
const LONGEST: Duration = Duration::from_secs(30);

/// A kqueue with one filter: the exit of one process (kqueue(2), `EVFILT_PROC`, `NOTE_EXIT`). A forked child does not
/// inherit a kqueue, and a kqueue can itself be polled.
///
/// It lies in the program's descriptor table. It is never closed, since its number may belong to the program by then.
/// For the same reason it is only a wake-up: whether the process has ended is then checked by its id and start time.
#[derive(Clone, Copy)]
pub(crate) struct Handle {
    kqueue: i32,
    pid: i32,
    /// `None` if we may not read it.
    start: Option<u64>,
}

impl Handle {
    pub(crate) fn open_in(_: Option<&OwnTable>, pid: i32) -> Result<Handle, OpenError> {
        if cfg!(parentwatch_force_poll) {
            return Err(OpenError::Unavailable);
        }
        let kqueue = open_kqueue().ok_or(OpenError::Unavailable)?;
        if let Err(error) = watch_exit(kqueue, pid) {
            // SAFETY: opened above and not used elsewhere.
            unsafe { libc::close(kqueue) };
            return Err(error);
        }
        // Read after the registration. So it is the start time of the watched process, or that process has ended.
        Ok(Handle { kqueue, pid, start: stat(pid).map(|stat| stat.start) })
    }

    /// Whether its process has ended or is exiting. The event comes after a process has begun to exit, and shortly
    /// before it becomes a zombie (`proc_exit` of xnu's bsd/kern/kern_exit.c).
    pub(crate) fn has_ended(self) -> bool {
        looks_gone_or(self.pid, self.start, |stat| stat.is_exiting)
    }
}

fn open_kqueue() -> Option<i32> {
    // SAFETY: no arguments. The descriptor is ours.
    let fd = unsafe { darwin::kqueue() };
    let fd = match fd {
        // If the program was started with a closed 0, 1 or 2, the kqueue must not take that number.
        // SAFETY: opened above. A kqueue may be duplicated within its process.
        0..=2 => unsafe {
            let high = libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 3);
            libc::close(fd);
            high
        },
        _ => fd,
    };
    // SAFETY: our own descriptor, or −1.
    unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
    (fd >= 0).then_some(fd)
}

/// Registers for the exit of a process. Any failure other than `Gone` leads to the poll tier.
fn watch_exit(kqueue: i32, pid: i32) -> Result<(), OpenError> {
    let change = darwin::kevent {
        ident: usize::try_from(pid).map_err(|_| OpenError::Gone)?,
        filter: darwin::EVFILT_PROC,
        flags: darwin::EV_ADD | darwin::EV_ONESHOT,
        fflags: darwin::NOTE_EXIT,
        data: 0,
        udata: ptr::null_mut(),
    };
    // SAFETY: one valid change, and no room for events.
    let added =
        unsafe { darwin::kevent(kqueue, &raw const change, 1, ptr::null_mut(), 0, ptr::null()) };
    match added {
        0 => Ok(()),
        _ if errno() == libc::ESRCH => Err(OpenError::Gone),
        _ => Err(OpenError::Unavailable),
    }
}

/// Sleeps until a handle is ready, the timeout is over, or a signal arrives. It may end early. Returns which handles
/// are ready. If the wait fails, it sleeps for the timeout and returns `None`.
pub(crate) fn wait(handles: [Option<Handle>; 2], timeout: Option<Duration>) -> Option<[bool; 2]> {
    // The kernel ignores a negative descriptor (poll(2)).
    let mut entries = handles.map(|handle| libc::pollfd {
        fd: handle.map_or(-1, |handle| handle.kqueue),
        events: libc::POLLIN,
        revents: 0,
    });
    let longest = handles.iter().any(Option::is_some).then_some(LONGEST);
    // Milliseconds, rounded up: a short timeout must not become 0.
    let millis = match timeout.into_iter().chain(longest).min() {
        None => -1,
        Some(time) => i32::try_from(time.as_micros().div_ceil(1_000)).unwrap_or(i32::MAX),
    };
    // SAFETY: valid entries.
    let ready = unsafe { libc::poll(entries.as_mut_ptr(), entries.len() as libc::nfds_t, millis) };
    match ready {
        // The timeout is over. Checks the processes too, in case the program has replaced our descriptors.
        0 => Some(handles.map(|handle| handle.is_some_and(Handle::has_ended))),
        -1 if errno() != libc::EINTR => {
            // Waiting again would return at once.
            sleep(timeout.unwrap_or(Duration::ZERO));
            None
        }
        _ => Some(entries.map(|entry| ready > 0 && entry.revents != 0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;
    use std::process::{Command, Stdio};

    #[test]
    fn a_kqueue_that_the_program_replaces_neither_fakes_nor_hides_a_death() {
        let mut cat = Command::new("/bin/cat").stdin(Stdio::piped()).spawn().unwrap();
        let opened = Handle::open_in(None, i32::try_from(cat.id()).unwrap());
        if cfg!(parentwatch_force_poll) {
            assert!(opened.is_err());
            cat.kill().unwrap();
            cat.wait().unwrap();
            return;
        }
        let handle = opened.unwrap();
        let moment = Some(Duration::from_millis(20));
        let (quiet, writer) = std::io::pipe().unwrap();
        // SAFETY: two descriptors of this test.
        let put_over = |fd: i32| unsafe { libc::dup2(fd, handle.kqueue) };
        assert_eq!(put_over(quiet.as_raw_fd()), handle.kqueue);
        assert_eq!(wait([Some(handle), None], moment), Some([false; 2]));
        drop(writer);
        assert_eq!(wait([Some(handle), None], moment), Some([true, false]), "it hangs up");
        assert!(!handle.has_ended());
        let (quiet, _writer) = std::io::pipe().unwrap();
        put_over(quiet.as_raw_fd());
        cat.kill().unwrap();
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        while wait([Some(handle), None], moment) != Some([true, false]) {
            assert!(std::time::Instant::now() < deadline, "the death is not seen");
        }
        cat.wait().unwrap();
        // SAFETY: by now it is the test's own descriptor.
        unsafe { libc::close(handle.kqueue) };
    }
}
