//! Prints the report as text or as JSON.

use std::ffi::OsStr;
use std::io::{self, Write};

use anstyle::{AnsiColor, Style};

use super::{EndError, Ended, Host, Orphan, Report, Variable, Worker};
use crate::state::Tier;

const TITLE: Style = Style::new().bold();
const GOOD: Style = AnsiColor::Green.on_default();
const BAD: Style = AnsiColor::Red.on_default().bold();

/// Runs `doctor`. Returns the text to print and the exit status.
///
/// The status is 1 if there are orphans, or if an orphan to end is not gone. Otherwise it is 0. The text has colour
/// codes for a terminal; [`plain`] removes them. If `end` has process ids, those orphans are ended as by
/// [`end`](super::end). `lookup` is the environment.
///
/// # Errors
///
/// Returns the message to print. The exit status is then 2. This system is not supported, or one of the processes is
/// not an orphan; then none is ended.
pub fn run<V: AsRef<OsStr>>(
    lookup: impl Fn(&'static str) -> Option<V>,
    as_json: bool,
    end: &[i32],
) -> Result<(String, u8), String> {
    let mut out = Vec::new();
    let status = match end {
        [] => {
            let report = super::examine(lookup).map_err(|error| format!("doctor: {error}"))?;
            match as_json {
                true => json(&mut out, serde_json::to_string_pretty(&report)),
                false => show(&mut out, &report),
            }
            .map(|()| u8::from(!report.orphans.is_empty()))
        }
        pids => {
            let ended = super::end(pids).map_err(|error| match error {
                EndError::Io(error) => format!("doctor: {error}"),
                error => format!("doctor: --end {error}"),
            })?;
            match as_json {
                true => json(&mut out, serde_json::to_string_pretty(&ended)),
                false => ended.iter().try_for_each(|ended| writeln!(out, "{}", outcome(ended))),
            }
            .map(|()| u8::from(ended.iter().any(|ended| !ended.is_gone)))
        }
    };
    let status = status.map_err(|error| format!("doctor: {error}"))?;
    Ok((String::from_utf8_lossy(&out).into_owned(), status))
}

/// Removes the colour codes from the text, for output that is not a terminal.
pub fn plain(text: &str) -> String {
    anstream::adapter::strip_str(text).to_string()
}

fn outcome(ended: &Ended) -> String {
    let Ended { pid, command, helpers, is_gone, .. } = ended;
    let command = cut(command);
    match (is_gone, helpers) {
        (false, _) => format!(
            "{BAD}not ended{BAD:#} {pid} ({command}): of another user, or stuck in the kernel"
        ),
        (true, 0) => format!("ended {pid} ({command})"),
        (true, 1) => format!("ended {pid} ({command}) and 1 helper"),
        (true, helpers) => format!("ended {pid} ({command}) and {helpers} helpers"),
    }
}

fn json(out: &mut impl Write, text: serde_json::Result<String>) -> io::Result<()> {
    writeln!(out, "{}", text?)
}

fn show(out: &mut impl Write, report: &Report) -> io::Result<()> {
    section(out, "Host", &[], &host(&report.host))?;
    section(out, "Environment", &[], &report.environment.iter().map(variable).collect::<Vec<_>>())?;
    for Variable { name, problem, .. } in &report.environment {
        if let Some(problem) = problem {
            writeln!(out, "  {BAD}bad value{BAD:#} {name}: {problem}")?;
        }
    }
    if cfg!(windows) {
        return writeln!(out, "\nOn this system, doctor does not find workers and orphans.");
    }
    let names = ["PID", "SUPERVISOR", "TIER", "SCOPE", "BY", "COMMAND"];
    let rows: Vec<_> = report.workers.iter().map(worker).collect();
    section(out, "Workers", &names, &rows)?;
    let names = ["PID", "SUPERVISOR (GONE)", "RESIDENT", "GPU", "COMMAND"];
    let rows: Vec<_> = report.orphans.iter().map(orphan).collect();
    section(out, "Orphans", &names, &rows)?;
    verdict(out, report)
}

fn verdict(out: &mut impl Write, report: &Report) -> io::Result<()> {
    writeln!(out)?;
    let Report { orphans, hidden, .. } = report;
    #[cfg(not(windows))]
    if !report.host.procfs_is_ours {
        return writeln!(
            out,
            "{BAD}No process can be seen{BAD:#}: /proc is not that of this PID namespace."
        );
    }
    if *hidden > 0 {
        writeln!(out, "Processes that this user may not examine: {hidden}.")?;
    }
    let sum = |memory: fn(&Orphan) -> Option<u64>| orphans.iter().filter_map(memory).sum::<u64>();
    let pids: Vec<String> = orphans.iter().map(|orphan| orphan.pid.to_string()).collect();
    let (resident, gpu) = (sum(|orphan| orphan.resident), sum(|orphan| orphan.gpu));
    let memory = match gpu {
        0 => size(resident),
        gpu => format!("{} and {} of GPU memory", size(resident), size(gpu)),
    };
    match orphans.len() {
        0 if *hidden > 0 => return writeln!(out, "No orphans among the others."),
        0 => return writeln!(out, "{GOOD}No orphans.{GOOD:#}"),
        1 => write!(out, "{BAD}1 orphan{BAD:#} holds {memory}. To end it:")?,
        count => write!(out, "{BAD}{count} orphans{BAD:#} hold {memory}. To end them:")?,
    }
    writeln!(out, " localai-parentwatch doctor --end {}", pids.join(" "))
}

type Row = Vec<Cell>;

struct Cell {
    text: String,
    style: Style,
    /// A number, which is aligned to the right.
    is_number: bool,
}

impl From<String> for Cell {
    fn from(text: String) -> Cell {
        Cell { text, style: Style::new(), is_number: false }
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Cell {
        Cell::from(text.to_owned())
    }
}

fn number(text: String) -> Cell {
    Cell { is_number: true, ..Cell::from(text) }
}

fn styled(text: impl Into<Cell>, style: Style) -> Cell {
    Cell { style, ..text.into() }
}

/// Writes a title and a table. The last column is not padded.
fn section(out: &mut impl Write, title: &str, names: &[&str], rows: &[Row]) -> io::Result<()> {
    if title != "Host" {
        writeln!(out)?;
    }
    writeln!(out, "{TITLE}{title}{TITLE:#}")?;
    if rows.is_empty() {
        return writeln!(out, "  none");
    }
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let name = names.get(column).map_or(0, |name| name.len());
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.text.chars().count()).chain([name]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..count).map(width).collect();
    let mut line = |cells: &mut dyn Iterator<Item = (&str, Style, bool)>| {
        let mut gap = "  ";
        for (column, ((text, style, is_number), width)) in cells.zip(&widths).enumerate() {
            // Style codes have no width on a terminal, so pad by hand.
            let room = " ".repeat(width.saturating_sub(text.chars().count()));
            let (before, after) = match is_number {
                true => (room.as_str(), ""),
                false if column + 1 == count => ("", ""),
                false => ("", room.as_str()),
            };
            write!(out, "{gap}{before}{style}{text}{style:#}{after}")?;
            gap = "   ";
        }
        writeln!(out)
    };
    if !names.is_empty() {
        let is_number = |column: usize| {
            rows.first().and_then(|row| row.get(column)).is_some_and(|it| it.is_number)
        };
        let mut names = names
            .iter()
            .enumerate()
            .map(|(column, name)| (*name, Style::new().dimmed(), is_number(column)));
        line(&mut names)?;
    }
    rows.iter().try_for_each(|row| {
        line(&mut row.iter().map(|cell| (cell.text.as_str(), cell.style, cell.is_number)))
    })
}

#[cfg(windows)]
fn host(host: &Host) -> Vec<Row> {
    let exec = match &host.no_job {
        None => "a job ends the program and its helpers".into(),
        Some(why) => styled(format!("helpers are not ended, cannot create a job: {why}"), BAD),
    };
    vec![
        tier(host),
        vec!["system".into(), host.kernel.clone().into()],
        vec!["helpers".into(), "found by their parent, at any depth: scope tree".into()],
        vec!["exec".into(), exec],
    ]
}

fn tier(Host { tier, why, .. }: &Host) -> Row {
    let style = if *tier == Tier::Event { GOOD } else { BAD };
    vec!["tier".into(), styled(format!("{tier}: {why}"), style)]
}

#[cfg(not(windows))]
fn host(host: &Host) -> Vec<Row> {
    let Host { kernel, seccomp, .. } = host;
    let namespace = match (host.pid_namespace, host.pid_namespace_is_initial) {
        (Some(inode), true) => format!("{inode}, the initial one"),
        (Some(inode), false) => {
            format!("{inode}, of a container: a plain PID cannot prove a supervisor's death")
        }
        (None, _) => "unknown".to_owned(),
    };
    let seccomp = match seccomp {
        Some(0) => "no filter",
        Some(1) => "strict",
        Some(_) => "a filter",
        None => "unknown",
    };
    let procfs = match host.procfs_is_ours {
        true => "of this PID namespace".into(),
        false => styled("missing, or of another PID namespace: helpers are not found", BAD),
    };
    let children = match host.children_are_listed {
        true => "listed by the kernel",
        false => "not listed by the kernel: found by examining every process",
    };
    let cgroup = match &host.no_cgroup {
        None => "exec --cgroup works".to_owned(),
        Some(why) => format!("exec --cgroup runs without one: {why}"),
    };
    vec![
        tier(host),
        vec!["kernel".into(), kernel.clone().into()],
        vec!["seccomp".into(), seccomp.into()],
        vec!["PID namespace".into(), namespace.into()],
        vec!["/proc".into(), procfs],
        vec!["children".into(), children.into()],
        vec!["cgroup v2".into(), cgroup.into()],
    ]
}

fn variable(variable: &Variable) -> Row {
    let Variable { name, value, meaning, problem, .. } = variable;
    let value: Cell = value.as_deref().unwrap_or("not set").into();
    let value = if problem.is_some() { styled(value, BAD) } else { value };
    vec![(*name).into(), value, meaning.clone().into()]
}

fn worker(worker: &Worker) -> Row {
    let Worker { pid, command, supervisor, tier, scope, guardian, is_linked, .. } = worker;
    let by = match (guardian, is_linked) {
        (Some(guardian), false) => format!("guardian {guardian}"),
        (Some(guardian), true) => format!("guardian {guardian}, library"),
        (None, _) => "library".to_owned(),
    };
    let tier = match tier {
        Tier::None => "?".into(),
        Tier::Event => styled(tier.to_string(), GOOD),
        Tier::Poll => tier.to_string().into(),
    };
    vec![
        number(pid.to_string()),
        number(supervisor.map_or("-".to_owned(), |supervisor| supervisor.to_string())),
        tier,
        scope.map_or("?", |scope| scope.word()).into(),
        by.into(),
        cut(command).into(),
    ]
}

fn orphan(orphan: &Orphan) -> Row {
    let Orphan { pid, command, supervisor, resident, gpu, .. } = orphan;
    let memory = |bytes: &Option<u64>| number(bytes.map_or("-".to_owned(), size));
    vec![
        styled(number(pid.to_string()), BAD),
        supervisor.clone().into(),
        memory(resident),
        memory(gpu),
        cut(command).into(),
    ]
}

/// The beginning of a command line.
fn cut(command: &str) -> String {
    const SHOWN: usize = 60;
    match command.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}...", command.get(..end).unwrap_or(command)),
        None => command.to_owned(),
    }
}

/// `512 KiB`, `1.5 GiB`.
fn size(bytes: u64) -> String {
    let (unit, name) = match bytes >> 20 {
        0 => return format!("{} KiB", bytes >> 10),
        1..1024 => (20, "MiB"),
        _ => (30, "GiB"),
    };
    let tenths = ((bytes >> (unit - 10)) * 10) >> 10;
    format!("{}.{} {name}", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_shown_in_the_fitting_unit() {
        let expected = [
            (0, "0 KiB"),
            ((1 << 20) - 1, "1023 KiB"),
            (1 << 20, "1.0 MiB"),
            (3 << 29, "1.5 GiB"),
            (u64::MAX, "17179869183.9 GiB"),
        ];
        for (bytes, text) in expected {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn a_long_command_is_cut_between_letters() {
        assert_eq!(cut(&"ä".repeat(60)), "ä".repeat(60));
        assert_eq!(cut(&"ä".repeat(61)), format!("{}...", "ä".repeat(60)));
    }
}
