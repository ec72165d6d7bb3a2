//! The command line: `--addr HOST:PORT`, as LocalAI's backends take it, and `--help`.

use std::ffi::OsString;
use std::fmt;

/// What `--help` prints.
pub const USAGE: &str = "\
Usage: worker-rust [--addr HOST:PORT]

A LocalAI backend that echoes prompts, and ends when the process that started it ends.

  --addr HOST:PORT  where to listen (default: localhost:50051)
  --help            print this and exit
";

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum Parsed {
    /// Serve on this address.
    Serve(Address),
    /// Print [`USAGE`].
    Help,
}

/// Where to listen.
#[derive(Debug, PartialEq, Eq)]
pub struct Address {
    /// As it was written, so an IPv6 address stands in brackets.
    host: String,
    /// Never 0.
    port: u16,
}

impl Address {
    /// Reads `HOST:PORT`; an IPv6 HOST stands in brackets.
    fn parse(text: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        let bracketed = host.len() > 2 && host.starts_with('[') && host.ends_with(']');
        if host.is_empty() || (!bracketed && host.contains(['[', ']', ':'])) {
            return None;
        }
        if !port.bytes().all(|byte| byte.is_ascii_digit()) {
            return None; // A sign, which `parse` would take.
        }
        let port = port.parse().ok().filter(|&port| port != 0)?;
        Some(Self { host: host.to_owned(), port })
    }

    /// The name or the address to listen on, without brackets.
    pub fn host(&self) -> &str {
        self.host.trim_start_matches('[').trim_end_matches(']')
    }

    /// The port to listen on.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Default for Address {
    fn default() -> Self {
        Self { host: "localhost".to_owned(), port: 50051 }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// Reads the arguments, without the program's name; the error is one line for a person.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Parsed, String> {
    let mut arguments =
        arguments.into_iter().map(|argument| argument.to_string_lossy().into_owned());
    let mut address = None;
    while let Some(argument) = arguments.next() {
        let value = match argument.as_str() {
            "--help" | "-h" => return Ok(Parsed::Help),
            "--addr" => arguments.next().ok_or("--addr needs a value: HOST:PORT")?,
            other => match other.strip_prefix("--addr=") {
                Some(value) => value.to_owned(),
                None => return Err(format!("unknown argument {other:?}")),
            },
        };
        let parsed = Address::parse(&value).ok_or_else(|| {
            format!("--addr is {value:?}, expected HOST:PORT with a port from 1 to 65535")
        })?;
        if address.replace(parsed).is_some() {
            return Err("--addr is given twice".to_owned());
        }
    }
    Ok(Parsed::Serve(address.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Parsed, String> {
        super::parse(line.split_whitespace().map(OsString::from))
    }

    fn served(line: &str) -> (String, u16) {
        match parse(line) {
            Ok(Parsed::Serve(address)) => (address.host().to_owned(), address.port()),
            other => panic!("{line:?}: {other:?}"),
        }
    }

    #[test]
    fn reads_addresses() {
        assert_eq!(served(""), ("localhost".to_owned(), 50051));
        assert_eq!(served("--addr 127.0.0.1:8"), ("127.0.0.1".to_owned(), 8));
        assert_eq!(served("--addr=h:65535"), ("h".to_owned(), 65535));
        assert_eq!(served("--addr [::1]:5"), ("::1".to_owned(), 5));
    }

    #[test]
    fn refuses_what_is_no_address() {
        for bad in
            ["x", ":5", "h:", "h:0", "h:65536", "h:+5", "h:5x", "a:b:5", "[]:5", "[h:5", "::1:5"]
        {
            let line = format!("--addr {bad}");
            let error = parse(&line).unwrap_err();
            assert!(error.contains("expected HOST:PORT"), "{line:?}: {error}");
        }
    }

    #[test]
    fn refuses_other_arguments() {
        assert_eq!(parse("--addr"), Err("--addr needs a value: HOST:PORT".to_owned()));
        assert_eq!(parse("--addr h:1 --addr h:2"), Err("--addr is given twice".to_owned()));
        assert_eq!(parse("serve"), Err("unknown argument \"serve\"".to_owned()));
        assert_eq!(parse("--help"), Ok(Parsed::Help));
    }
}
