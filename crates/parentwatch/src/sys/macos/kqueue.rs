//! What wakes the watcher: a kqueue for each process that is watched.

use std::ptr;
use std::time::Duration;

use super::super::{OpenError, OwnTable};
use super::processes::looks_gone_or;
use super::{darwin, errno, sleep, stat};

/// How long a wait for handles is at most. The program shares its descriptor table with the watcher, and may close
/// our descriptor or put another one over it: then nothing would wake us.
const LONGEST: Duration = Duration::from_secs(30);

/// A kqueue with one filter: the exit of one process (kqueue(2), `EVFILT_PROC`, `NOTE_EXIT`). A kqueue is not inherited
/// by a fork, and can itself be polled. It lies in the program's descriptor table, and is never closed: what has its
/// number by then may be the program's. So it only wakes; what has happened is asked of the process.
#[derive(Clone, Copy)]
pub(crate) struct Handle {
    kqueue: i32,
    pid: i32,
    /// `None`: we may not know.
    start: Option<u64>,
}

impl Handle {
    pub(crate) fn open_in(_: Option<&OwnTable>, pid: i32) -> Result<Handle, OpenError> {
        if cfg!(parentwatch_force_poll) {
            return Err(OpenError::Unavailable);
        }
        let kqueue = open_kqueue().ok_or(OpenError::Unavailable)?;
        if let Err(error) = watch_exit(kqueue, pid) {
            // SAFETY: opened above, and nobody else has seen it.
            unsafe { libc::close(kqueue) };
            return Err(error);
        }
        // After the registration: it is that of the process that the kqueue is on, or that process has ended.
        Ok(Handle { kqueue, pid, start: stat(pid).map(|stat| stat.start) })
    }

    /// Whether its process has ended, or surely will: the event comes when a process is about to become a zombie
    /// (`proc_exit` of xnu's bsd/kern/kern_exit.c), some time after it has begun to exit.
    pub(crate) fn has_ended(self) -> bool {
        looks_gone_or(self.pid, self.start, |stat| stat.is_exiting)
    }
}

fn open_kqueue() -> Option<i32> {
    // SAFETY: no arguments. The descriptor is ours.
    let fd = unsafe { darwin::kqueue() };
    let fd = match fd {
        // A program that was started with a closed 0, 1 or 2 must not find it there.
        // SAFETY: opened above; a kqueue may be duplicated within its process.
        0..=2 => unsafe {
            let high = libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 3);
            libc::close(fd);
            high
        },
        _ => fd,
    };
    // SAFETY: our own descriptor, or none.
    unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
    (fd >= 0).then_some(fd)
}

/// Registers the exit of a process. Whatever fails, but for a process that is not there, leads to the poll tier.
fn watch_exit(kqueue: i32, pid: i32) -> Result<(), OpenError> {
    let change = darwin::kevent {
        ident: usize::try_from(pid).map_err(|_| OpenError::Gone)?,
        filter: darwin::EVFILT_PROC,
        flags: darwin::EV_ADD | darwin::EV_ONESHOT,
        fflags: darwin::NOTE_EXIT,
        data: 0,
        udata: ptr::null_mut(),
    };
    // SAFETY: one valid change, no room for events.
    let added =
        unsafe { darwin::kevent(kqueue, &raw const change, 1, ptr::null_mut(), 0, ptr::null()) };
    match added {
        0 => Ok(()),
        _ if errno() == libc::ESRCH => Err(OpenError::Gone),
        _ => Err(OpenError::Unavailable),
    }
}

/// Sleeps until one of the handles is ready, or the timeout is over, or a signal came; which of them were. It may end
/// early. `None`: the wait failed, after a sleep of that time.
pub(crate) fn wait(handles: [Option<Handle>; 2], timeout: Option<Duration>) -> Option<[bool; 2]> {
    // A negative descriptor is passed over (poll(2)).
    let mut entries = handles.map(|handle| libc::pollfd {
        fd: handle.map_or(-1, |handle| handle.kqueue),
        events: libc::POLLIN,
        revents: 0,
    });
    let longest = handles.iter().any(Option::is_some).then_some(LONGEST);
    // Milliseconds, rounded up, so that a short time is never a wait that returns at once.
    let millis = match timeout.into_iter().chain(longest).min() {
        None => -1,
        Some(time) => i32::try_from(time.as_micros().div_ceil(1_000)).unwrap_or(i32::MAX),
    };
    // SAFETY: valid entries.
    let ready = unsafe { libc::poll(entries.as_mut_ptr(), entries.len() as libc::nfds_t, millis) };
    match ready {
        // Nothing came. A process that has ended all the same has lost its descriptor.
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
    fn what_the_program_puts_over_a_kqueue_kills_nobody_and_hides_no_death() {
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
        // SAFETY: the test's own by now.
        unsafe { libc::close(handle.kqueue) };
    }
}
