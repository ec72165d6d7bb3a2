//! Kills the supervisor and watches its workers: one thread for each, which blocks on the worker's pidfd, so that
//! nothing competes with the workers for the processor.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{OnceLock, mpsc};
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use rustix::process::{WaitId, WaitIdOptions, waitid};

use super::tree::{Tree, Worker};
use crate::signals::StopSignals;

/// How long the port of a worker may stay in use after its end.
const PORT_LIMIT: Duration = Duration::from_secs(1);

/// How long a watching thread waits for the kill. There is no kill if another thread fails to start.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long to wait between two tries to listen on a port.
const PORT_RETRY: Duration = Duration::from_micros(50);

/// The outcome for a worker and its helpers.
#[derive(Debug)]
pub struct Outcome {
    /// The outcome for the worker.
    pub worker: Fate,
    /// The outcome for its descendants and the other processes in its group.
    pub helpers: Helpers,
}

/// The outcome for a worker.
#[derive(Debug)]
pub enum Fate {
    /// It was alive when the watch ended.
    Alive {
        /// How long it had outlived its supervisor by then.
        after: Duration,
    },
    /// It ended and was reaped.
    Gone {
        /// From the kill until it had ended and was reaped.
        after: Duration,
        /// How it ended.
        ending: Ending,
        /// From the kill until its port could be listened on again; `None` if it could not.
        port_free_after: Option<Duration>,
    },
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// With this exit status.
    Exited(i32),
    /// By this signal.
    Killed(i32),
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ending::Exited(status) => write!(f, "with status {status}"),
            Ending::Killed(signal) => write!(f, "by signal {signal}"),
        }
    }
}

/// The outcome for the helpers that a worker had before the kill.
#[derive(Debug)]
pub struct Helpers {
    /// How many there were.
    pub count: usize,
    /// How many were alive when the watch ended.
    pub alive: usize,
    /// From the kill until all of them were seen to have ended, which is checked once the worker has ended. `None` if
    /// one was alive or there were none.
    pub gone_after: Option<Duration>,
}

/// Kills the tree's supervisor with SIGKILL and watches each worker for `limit`. The outcomes are in the order of the
/// workers.
pub fn kill_and_watch(
    tree: &mut Tree,
    limit: Duration,
    stop: &StopSignals,
) -> anyhow::Result<Vec<Outcome>> {
    let (workers, supervisor) = tree.split();
    // A worker that ended before the kill would look very fast.
    let mut helpers = Vec::with_capacity(workers.len());
    for worker in workers {
        helpers.push(worker.find_helpers()?);
        if stop.wait_readable(worker.pidfd.as_fd(), Instant::now())? {
            bail!("worker {worker} ended before its supervisor was killed");
        }
    }
    let killed = OnceLock::new();
    thread::scope(|scope| {
        // Every thread is about to block before the kill.
        let (ready, is_ready) = mpsc::channel();
        let mut watching = Vec::with_capacity(workers.len());
        for (worker, helpers) in workers.iter().zip(&helpers) {
            let (ready, killed) = (ready.clone(), &killed);
            let watch = move || {
                // Fails only if the killing thread has given up.
                let _ = ready.send(());
                watch(worker, helpers, killed, limit, stop)
                    .with_context(|| format!("cannot watch worker {worker}"))
            };
            watching.push(thread::Builder::new().spawn_scoped(scope, watch).context("no thread")?);
        }
        for _ in workers {
            is_ready.recv().context("a watching thread has ended")?;
        }
        killed.get_or_init(Instant::now);
        supervisor.kill().context("cannot kill the supervisor")?;
        supervisor.wait().context("cannot reap the supervisor")?;
        let join = |thread: ScopedJoinHandle<'_, _>| {
            thread.join().unwrap_or_else(|_| Err(anyhow!("a watching thread has ended")))
        };
        watching.into_iter().map(join).collect()
    })
}

/// Watches one worker until it is gone, its port is free and its helpers are gone too, or until
/// `limit` after the kill.
fn watch(
    worker: &Worker,
    helpers: &[OwnedFd],
    killed: &OnceLock<Instant>,
    limit: Duration,
    stop: &StopSignals,
) -> anyhow::Result<Outcome> {
    let (ended, killed) = wait_for_end(worker.pidfd.as_fd(), killed, limit, stop)?;
    let deadline = killed + limit;
    let fate = match ended {
        false => Fate::Alive { after: killed.elapsed() },
        true => {
            let ending = reap(worker).context("how it ended is unknown")?;
            let after = killed.elapsed();
            let port_free = wait_for_port(worker.port, Instant::now() + PORT_LIMIT)?;
            let port_free_after = port_free.map(|when| when.duration_since(killed));
            Fate::Gone { after, ending, port_free_after }
        }
    };
    let mut alive = 0;
    for helper in helpers {
        if !stop.wait_readable(helper.as_fd(), deadline)? {
            alive += 1;
        }
    }
    let gone_after = (alive == 0 && !helpers.is_empty()).then(|| killed.elapsed());
    Ok(Outcome { worker: fate, helpers: Helpers { count: helpers.len(), alive, gone_after } })
}

/// Waits until the process of `pidfd` has ended, at most `limit` after the kill. Returns whether it has ended, and the
/// time of the kill. The limit counts from the kill, so slow thread starts do not matter.
fn wait_for_end(
    pidfd: BorrowedFd<'_>,
    killed: &OnceLock<Instant>,
    limit: Duration,
    stop: &StopSignals,
) -> anyhow::Result<(bool, Instant)> {
    let patience = Instant::now() + PATIENCE;
    loop {
        let from = killed.get().copied().unwrap_or_else(Instant::now);
        let ended = stop.wait_readable(pidfd, from + limit)?;
        match killed.get() {
            Some(&killed) if ended || killed.elapsed() >= limit => return Ok((ended, killed)),
            None if ended => bail!("it ended before its supervisor was killed"),
            None if Instant::now() >= patience => bail!("its supervisor was not killed"),
            _ => {}
        }
    }
}

/// Reaps a worker that has ended. It became a child of this process when its supervisor died.
fn reap(worker: &Worker) -> io::Result<Ending> {
    let status = loop {
        match waitid(WaitId::PidFd(worker.pidfd.as_fd()), WaitIdOptions::EXITED) {
            Ok(Some(status)) => break status,
            Ok(None) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    };
    let killed = || status.terminating_signal().map(Ending::Killed);
    status
        .exit_status()
        .map(Ending::Exited)
        .or_else(killed)
        .ok_or_else(|| io::Error::other("neither exited nor killed"))
}

/// Waits until `port` can be bound and listened on. Returns the time, or `None` after `deadline`.
fn wait_for_port(port: u16, deadline: Instant) -> io::Result<Option<Instant>> {
    while !port_is_free(port)? {
        if Instant::now() >= deadline {
            return Ok(None);
        }
        thread::sleep(PORT_RETRY);
    }
    Ok(Some(Instant::now()))
}

/// Whether `port` can be bound and listened on, as the next worker would: with SO_REUSEADDR, which
/// `bind` sets, and without SO_REUSEPORT.
pub fn port_is_free(port: u16) -> io::Result<bool> {
    match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn knows_a_port_in_use() {
        // With SO_REUSEADDR, which `bind` sets, two sockets can bind the same port until one of them listens. Then take
        // another port.
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let listener = TcpListener::bind([any; 10].as_slice()).unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(!port_is_free(port).unwrap());
        assert_eq!(wait_for_port(port, Instant::now()).unwrap(), None);
        drop(listener);
        assert!(wait_for_port(port, Instant::now() + PORT_LIMIT).unwrap().is_some());
    }

    #[test]
    fn counts_from_the_kill() {
        let stop = StopSignals::install().unwrap();
        let limit = Duration::from_millis(5);
        let (killed, begin) = (OnceLock::new(), Instant::now());
        let (lives, other_end) = UnixStream::pair().unwrap();
        thread::scope(|scope| {
            let watching = scope.spawn(|| wait_for_end(lives.as_fd(), &killed, limit, &stop));
            // Longer than the limit, as on a slow machine.
            while begin.elapsed() < 10 * limit {
                thread::sleep(limit);
            }
            let now = *killed.get_or_init(Instant::now);
            assert_eq!(watching.join().unwrap().unwrap(), (false, now));
            assert!(now.elapsed() >= limit);
        });
        drop(other_end);
        let (ended, _) = wait_for_end(lives.as_fd(), &killed, PATIENCE, &stop).unwrap();
        assert!(ended);
        let early = wait_for_end(lives.as_fd(), &OnceLock::new(), limit, &stop);
        assert_eq!(early.unwrap_err().to_string(), "it ended before its supervisor was killed");
    }
}
