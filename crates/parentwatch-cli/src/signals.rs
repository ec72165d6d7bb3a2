//! Waits for SIGINT, SIGTERM and SIGHUP, so that the program can end what it started before it exits.

use std::fmt;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use signal_hook::consts::{SIGHUP, SIGINT, SIGPIPE, SIGTERM};

/// The signals that ask this program to end, caught from [`StopSignals::install`] on.
#[derive(Debug)]
pub struct StopSignals {
    /// Becomes readable when a signal arrives, and stays so: nobody reads it.
    pipe: UnixStream,
    /// The signal that arrived, or 0.
    number: Arc<AtomicUsize>,
}

impl StopSignals {
    /// Installs the handlers.
    pub fn install() -> io::Result<Self> {
        let (pipe, writer) = UnixStream::pair()?;
        let number = Arc::new(AtomicUsize::new(0));
        // SIGPIPE must not kill this program while it has processes to end: writes fail instead.
        signal_hook::flag::register(SIGPIPE, Arc::default())?;
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            // Handlers run in the order of registration: the number is stored before the pipe becomes readable.
            let value = usize::try_from(signal).unwrap_or_default();
            signal_hook::flag::register_usize(signal, Arc::clone(&number), value)?;
            signal_hook::low_level::pipe::register(signal, writer.try_clone()?)?;
        }
        Ok(Self { pipe, number })
    }

    /// Blocks until `fd` is readable or its other end is closed (true), until `deadline` (false), or until a signal
    /// arrives (an error).
    pub fn wait_readable(&self, fd: BorrowedFd<'_>, deadline: Instant) -> anyhow::Result<bool> {
        loop {
            let mut fds = [
                PollFd::new(&self.pipe, PollFlags::IN),
                PollFd::from_borrowed_fd(fd, PollFlags::IN),
            ];
            let left = timespec(deadline.saturating_duration_since(Instant::now()));
            let ready = match poll(&mut fds, Some(&left)) {
                Ok(ready) => ready,
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(io::Error::from(error).into()),
            };
            let [stopped, readable] = fds.map(|fd| !fd.revents().is_empty());
            if stopped {
                return Err(Interrupted(self.number.load(Ordering::SeqCst)).into());
            }
            if readable {
                return Ok(true);
            }
            if ready == 0 {
                return Ok(false);
            }
        }
    }
}

/// A signal asked the program to end.
#[derive(Debug)]
pub struct Interrupted(usize);

impl Interrupted {
    /// The exit status that a shell reports for a process killed by this signal.
    pub fn exit_status(&self) -> u8 {
        u8::try_from(self.0).unwrap_or_default().wrapping_add(128)
    }
}

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = i32::try_from(self.0).ok().and_then(signal_hook::low_level::signal_name);
        write!(f, "stopped by {}", name.unwrap_or("a signal"))
    }
}

impl std::error::Error for Interrupted {}

fn timespec(time: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(time.subsec_nanos()),
    }
}
