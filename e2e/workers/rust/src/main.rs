//! The worker in Rust, with the crate. For its command line and requests see `e2e/workers/c/worker.c`.

use std::ffi::{CStr, CString, OsStr};
use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::IntoRawFd;
use std::os::unix::ffi::OsStrExt;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Barrier};
use std::time::Duration;
use std::{env, process, ptr, thread};

use parentwatch::{Error, Options, Status};
use rustix::net;

const THREADS: usize = 16;
const BACKLOG: i32 = 16;

/// The socket for the reports. A static, since the signal handler uses it too.
static REPORT_FD: AtomicI32 = AtomicI32::new(-1);

fn main() {
    // Memory that a reaper must release.
    std::mem::forget(std::hint::black_box(vec![1_u8; 4 << 20]));
    let outcome = Worker::from_command_line().and_then(Worker::run);
    if let Err(error) = outcome {
        let _ = writeln!(io::stderr(), "worker-rust: {error}");
        process::exit(2);
    }
}

#[derive(Clone, Copy)]
enum Hook {
    Return,
    Hang,
    Leave,
    Crash,
}

impl Hook {
    fn named(mode: &str) -> io::Result<Hook> {
        match mode {
            "return" => Ok(Hook::Return),
            "hang" => Ok(Hook::Hang),
            "leave" => Ok(Hook::Leave),
            "crash" => Ok(Hook::Crash),
            _ => Err(invalid("an unknown hook")),
        }
    }

    fn run(self) {
        match self {
            Hook::Return => {}
            Hook::Hang => loop {
                thread::park();
            },
            // SAFETY: ends the process.
            Hook::Leave => unsafe { libc::_exit(7) },
            Hook::Crash => std::process::abort(),
        }
    }
}

struct Worker {
    name: String,
    arms_first: bool,
    hook: Option<Hook>,
    grace: Option<Duration>,
    listener: Option<TcpListener>,
}

impl Worker {
    fn from_command_line() -> io::Result<Worker> {
        let mut worker = Worker {
            name: "worker".to_owned(),
            arms_first: true,
            hook: None,
            grace: None,
            listener: None,
        };
        let mut arguments = env::args().skip(1);
        while let Some(option) = arguments.next() {
            let value = arguments.next().ok_or(invalid("an option lacks its value"))?;
            match option.as_str() {
                "--report" => REPORT_FD.store(parse(&value)?, Ordering::Relaxed),
                "--name" => worker.name = value,
                "--arm" => worker.arms_first = value == "first",
                "--hook" => worker.hook = Some(Hook::named(&value)?),
                "--grace" => worker.grace = Some(Duration::from_millis(parse(&value)?)),
                _ => return Err(invalid("an unknown option")),
            }
        }
        Ok(worker)
    }

    fn run(mut self) -> io::Result<()> {
        let status = if self.arms_first { self.arm() } else { "not_started".to_owned() };
        self.open_port(&status)?;
        self.serve()
    }

    fn open_port(&mut self, status: &str) -> io::Result<()> {
        let listener = listen()?;
        let port = listener.local_addr()?.port();
        self.listener = Some(listener);
        report(&format!(
            r#"{{"name":"{}","event":"serving","pid":{},"port":{port},"status":"{status}"}}"#,
            self.name,
            process::id(),
        ));
        Ok(())
    }

    /// Serves one connection after the other. In a forked child it goes on with the child's own port.
    fn serve(&mut self) -> io::Result<()> {
        loop {
            let Some(listener) = &self.listener else {
                return Err(invalid("no port"));
            };
            let Ok((connection, _)) = listener.accept() else {
                continue;
            };
            let mut requests = BufReader::new(connection.try_clone()?);
            let mut replies = Some(connection);
            let mut line = Vec::new();
            while let Some(connection) = &mut replies {
                line.clear();
                if !matches!(requests.read_until(b'\n', &mut line), Ok(1..)) {
                    break;
                }
                let words: Vec<&[u8]> = line.trim_ascii_end().split(|byte| *byte == 0x1f).collect();
                let Some((request, arguments)) = words.split_first() else {
                    break;
                };
                match self.answer(request, arguments)? {
                    Some(answer) => send_line(connection, &answer),
                    None => replies = None,
                }
            }
        }
    }

    /// The reply to a request. `None` in a forked child: the connection belongs to its parent.
    fn answer(&mut self, request: &[u8], arguments: &[&[u8]]) -> io::Result<Option<String>> {
        let first = arguments.first().copied().unwrap_or_default();
        let answer = match request {
            b"ping" => {
                let parent = std::os::unix::process::parent_id();
                format!(r#"{{"pid":{},"ppid":{parent}}}"#, process::id())
            }
            b"info" => info(),
            b"arm" => format!(r#"{{"status":"{}"}}"#, self.arm()),
            b"arm-from-threads" => arm_from_threads()?,
            b"arm-in-thread" => {
                thread::spawn(parentwatch::start);
                "{}".to_owned()
            }
            b"arm-copy" => arm_copy(first)?,
            b"token" => format!(r#"{{"token":"{}"}}"#, parentwatch::token()),
            b"start" => start_helper(arguments)?,
            b"fork" => return self.fork(),
            b"handle" => handle_signals(&self.name)?,
            b"resist" => resist(),
            b"drain" => drain(parse_bytes(first)?),
            b"setuid" => {
                // SAFETY: no memory is involved.
                let result = unsafe { libc::setuid(parse_bytes(first)?) };
                format!(r#"{{"result":{result}}}"#)
            }
            b"replace" => replace(parse_bytes(first)?, arguments.get(1).copied())?,
            b"close" => {
                // SAFETY: a number. The test decides whose descriptor it closes.
                unsafe { libc::close(parse_bytes(first)?) };
                "{}".to_owned()
            }
            b"threads" => {
                for _ in 0..parse_bytes(first)? {
                    thread::Builder::new().spawn(|| hang())?;
                }
                "{}".to_owned()
            }
            b"flood" => flood(),
            _ => return Err(invalid("an unknown request")),
        };
        Ok(Some(answer))
    }

    fn arm(&self) -> String {
        if self.hook.is_none() && self.grace.is_none() {
            return word(parentwatch::start());
        }
        let mut options = Options::new();
        if let Some(grace) = self.grace {
            options = options.grace(grace);
        }
        if let Some(hook) = self.hook {
            let name = self.name.clone();
            options = options.on_death(move || {
                report(&format!(r#"{{"name":"{name}","event":"hook"}}"#));
                hook.run();
            });
        }
        word(options.start())
    }

    fn fork(&mut self) -> io::Result<Option<String>> {
        // SAFETY: no thread of this program holds a lock here, and the child only uses what it makes itself.
        match unsafe { libc::fork() } {
            -1 => Err(io::Error::last_os_error()),
            0 => {
                self.name = "child".to_owned();
                self.listener = None;
                self.open_port("not_started")?;
                Ok(None)
            }
            child => Ok(Some(format!(r#"{{"pid":{child}}}"#))),
        }
    }
}

fn word(outcome: Result<Status, Error>) -> String {
    match outcome {
        Ok(status) => status.to_string(),
        Err(error) => error.word().to_owned(),
    }
}

fn info() -> String {
    let info = parentwatch::status();
    format!(
        r#"{{"state":"{}","tier":"{}","watched":[{},{}],"scope":"{}","interval_ns":{},"grace_ns":{}}}"#,
        word(info.state),
        info.tier,
        info.parent.unwrap_or(0),
        info.supervisor.unwrap_or(0),
        info.scope,
        info.interval.as_nanos(),
        info.grace.map_or(0, |grace| grace.as_nanos()),
    )
}

fn arm_from_threads() -> io::Result<String> {
    let barrier = Arc::new(Barrier::new(THREADS));
    let threads: Vec<_> = (0..THREADS)
        .map(|_| {
            let barrier = Arc::clone(&barrier);
            thread::spawn(move || {
                barrier.wait();
                format!(r#""{}""#, word(parentwatch::start()))
            })
        })
        .collect();
    let mut statuses = Vec::new();
    for thread in threads {
        statuses.push(thread.join().map_err(|_| invalid("a thread panicked"))?);
    }
    Ok(format!(r#"{{"statuses":[{}]}}"#, statuses.join(",")))
}

/// Loads another copy of the library, which has its own state, and calls its start.
fn arm_copy(path: &[u8]) -> io::Result<String> {
    type Start = extern "C" fn(options: *const libc::c_void) -> i32;
    type StatusText = extern "C" fn(status: i32) -> *const libc::c_char;
    let path = CString::new(path)?;
    // SAFETY: the library's functions have these types (localai_parentwatch.h). The library is never unloaded.
    let word = unsafe {
        let copy = libc::dlopen(path.as_ptr(), libc::RTLD_NOW);
        let start = libc::dlsym(copy, c"localai_parentwatch_start".as_ptr());
        let status_text = libc::dlsym(copy, c"localai_parentwatch_status_text".as_ptr());
        if copy.is_null() || start.is_null() || status_text.is_null() {
            return Err(invalid("no such library"));
        }
        let start = std::mem::transmute::<*mut libc::c_void, Start>(start);
        let status_text = std::mem::transmute::<*mut libc::c_void, StatusText>(status_text);
        CStr::from_ptr(status_text(start(ptr::null())))
    };
    Ok(format!(r#"{{"status":"{}"}}"#, word.to_string_lossy()))
}

/// Starts a helper in this process group. The helper's stdin is a pipe that stays open until this process ends.
fn start_helper(command: &[&[u8]]) -> io::Result<String> {
    let mut words = command.iter().map(|word| OsStr::from_bytes(word));
    let program = words.next().ok_or(invalid("no command"))?;
    let mut helper = Command::new(program).args(words).stdin(Stdio::piped()).spawn()?;
    std::mem::forget(helper.stdin.take());
    Ok(format!(r#"{{"pid":{}}}"#, helper.id()))
}

extern "C" fn handle_signal(_number: libc::c_int) {
    report(r#"{"name":"worker","event":"handled"}"#);
}

/// Installs a handler for SIGUSR1. Blocks SIGUSR2 and starts a thread that waits for it.
fn handle_signals(name: &str) -> io::Result<String> {
    // SAFETY: the structures are plain data, initialised here, and outlive the calls that read them. The handler only
    // makes a system call.
    let waited = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handle_signal as extern "C" fn(libc::c_int) as usize;
        action.sa_flags = libc::SA_RESTART;
        libc::sigaction(libc::SIGUSR1, &action, ptr::null_mut());
        let mut waited: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut waited);
        libc::sigaddset(&mut waited, libc::SIGUSR2);
        libc::pthread_sigmask(libc::SIG_BLOCK, &waited, ptr::null_mut());
        waited
    };
    let name = name.to_owned();
    thread::Builder::new().spawn(move || {
        let mut number = 0;
        // SAFETY: only this thread uses the two.
        while unsafe { libc::sigwait(&waited, &mut number) } == 0 {
            report(&format!(r#"{{"name":"{name}","event":"waited"}}"#));
        }
    })?;
    Ok("{}".to_owned())
}

extern "C" fn hang() {
    loop {
        thread::park();
    }
}

extern "C" fn hang_in_handler(_number: libc::c_int) {
    hang();
}

/// Listens on a free port. Sets SO_REUSEADDR last: with that option, which the standard library sets first, another
/// socket may bind the same port until this one listens. Accepted connections inherit the option.
fn listen() -> io::Result<TcpListener> {
    let socket = net::socket_with(
        net::AddressFamily::INET,
        net::SocketType::STREAM,
        net::SocketFlags::CLOEXEC,
        None,
    )?;
    net::bind(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0))?;
    net::listen(&socket, BACKLOG)?;
    net::sockopt::set_socket_reuseaddr(&socket, true)?;
    Ok(socket.into())
}

static DRAIN_MS: std::sync::atomic::AtomicI32 = std::sync::atomic::AtomicI32::new(0);

extern "C" fn drain_in_handler(_number: libc::c_int) {
    let ms = DRAIN_MS.load(std::sync::atomic::Ordering::Relaxed);
    thread::sleep(Duration::from_millis(ms.unsigned_abs().into()));
    // SAFETY: ends the process.
    unsafe { libc::_exit(9) };
}

/// Makes SIGTERM begin a graceful stop that takes that long. A negative time ignores SIGTERM.
fn drain(ms: i32) -> String {
    DRAIN_MS.store(ms, std::sync::atomic::Ordering::Relaxed);
    let handler = drain_in_handler as extern "C" fn(libc::c_int) as usize;
    // SAFETY: the function is never unloaded.
    unsafe { libc::signal(libc::SIGTERM, if ms < 0 { libc::SIG_IGN } else { handler }) };
    "{}".to_owned()
}

/// Installs an exit handler and a SIGTERM handler that never return.
fn resist() -> String {
    // SAFETY: both functions are never unloaded.
    unsafe {
        libc::signal(libc::SIGTERM, hang_in_handler as extern "C" fn(libc::c_int) as usize);
        libc::atexit(hang);
    }
    "{}".to_owned()
}

/// Replaces a descriptor by a readable pipe, or by a pidfd on another process. A host program that closes unknown
/// descriptors and opens others has that effect.
fn replace(target: libc::c_int, pid: Option<&[u8]>) -> io::Result<String> {
    let source = match pid {
        Some(pid) => {
            let pid: libc::pid_t = parse_bytes(pid)?;
            // SAFETY: a system call of two integers.
            parse(&unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) }.to_string())?
        }
        None => {
            let (reader, mut writer) = io::pipe()?;
            writer.write_all(b"x")?;
            std::mem::forget(writer);
            reader.into_raw_fd()
        }
    };
    // SAFETY: both are numbers. The test decides whose descriptor it replaces.
    if unsafe { libc::dup2(source, target) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok("{}".to_owned())
}

/// Starts four threads that write to the standard library's stderr. They hold its lock while they block.
fn flood() -> String {
    for _ in 0..4 {
        thread::spawn(|| {
            loop {
                let _ = writeln!(
                    io::stderr(),
                    "the host logs without end, line after line after line after line after line"
                );
            }
        });
    }
    "{}".to_owned()
}

fn report(text: &str) {
    // SAFETY: the buffer is the string's, and is only read.
    unsafe {
        libc::send(
            REPORT_FD.load(Ordering::Relaxed),
            text.as_ptr().cast(),
            text.len(),
            libc::MSG_NOSIGNAL,
        );
    }
}

/// Sends a reply. Ignores a failure: the driver may have closed the connection.
fn send_line(connection: &mut TcpStream, answer: &str) {
    let _ = connection.write_all(format!("{answer}\n").as_bytes());
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what)
}

fn parse<T: std::str::FromStr>(text: &str) -> io::Result<T> {
    text.parse().map_err(|_| invalid("not a number"))
}

fn parse_bytes<T: std::str::FromStr>(text: &[u8]) -> io::Result<T> {
    parse(str::from_utf8(text).map_err(|_| invalid("not UTF-8"))?)
}
