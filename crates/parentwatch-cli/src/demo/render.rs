//! The report as tables.

use std::fmt::Write as _;
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use tabled::builder::Builder;
use tabled::settings::object::Columns;
use tabled::settings::{Alignment, Modify, Padding, Style as Borders};

use super::report::{Limits, Orphan, Protected, Report};

const TITLE: Style = Style::new().bold();
const GOOD: Style = AnsiColor::Green.on_default();
const BAD: Style = AnsiColor::Red.on_default().bold();

/// Draws the report. Colours are escape sequences, which the caller removes where they are not wanted. `fancy` asks for
/// frames.
pub fn report(report: &Report, fancy: bool, limits: &Limits, orphan_time: Duration) -> String {
    let mut text = String::new();
    section(
        &mut text,
        fancy,
        "With the watcher",
        "supervisor killed with SIGKILL",
        (
            &[
                "worker",
                "ended by",
                "pid",
                "tier",
                "port",
                "gone after",
                "port free after",
                "helpers gone after",
            ],
            &[2, 4, 5, 6, 7],
        ),
        report.protected.iter().map(|worker| protected_row(worker, limits)),
    );
    let problems: Vec<_> = report.protected.iter().filter_map(|w| w.problem(limits)).collect();
    verdict(&mut text, &problems, || protected_summary(&report.protected));
    text.push('\n');

    let then = format!("after {}", duration(orphan_time));
    section(
        &mut text,
        fancy,
        "Without it",
        "LOCALAI_BACKEND_PARENT_WATCH=off, supervisor killed with SIGKILL",
        (&["worker", "pid", "port", &then, "Health", "helpers", "doctor"], &[1, 2]),
        report.unprotected.iter().map(orphan_row),
    );
    let problems: Vec<_> = report.unprotected.iter().filter_map(Orphan::problem).collect();
    verdict(&mut text, &problems, || {
        "every orphan held on to its port and memory, until the demo ended it".to_owned()
    });
    text
}

/// A title and a table under it. `columns` has the names of the columns and which of them hold numbers.
fn section<'a>(
    text: &mut String,
    fancy: bool,
    title: &str,
    remark: &str,
    (names, numbers): (&[&str], &[usize]),
    rows: impl Iterator<Item = Vec<String>> + 'a,
) {
    let _ = writeln!(text, "{TITLE}{title}{TITLE:#}: {remark}");
    let mut builder = Builder::default();
    builder.push_record(names.iter().map(|name| match fancy {
        true => format!("{TITLE}{name}{TITLE:#}"),
        false => (*name).to_owned(),
    }));
    for row in rows {
        builder.push_record(row);
    }
    let mut table = builder.build();
    if fancy {
        table.with(Borders::rounded());
    } else {
        table.with(Borders::empty()).with(Padding::new(0, 3, 0, 0));
    }
    for &column in numbers {
        table.with(Modify::new(Columns::one(column)).with(Alignment::right()));
    }
    for line in table.to_string().lines() {
        let _ = writeln!(text, "{}", line.trim_end());
    }
}

/// The text after a table: the problems, or the summary if there are none.
fn verdict(text: &mut String, problems: &[String], summary: impl FnOnce() -> String) {
    if problems.is_empty() {
        let _ = writeln!(text, "{GOOD}ok:{GOOD:#} {}", summary());
    }
    for problem in problems {
        let _ = writeln!(text, "{BAD}FAILED:{BAD:#} {problem}");
    }
}

fn protected_row(worker: &Protected, limits: &Limits) -> Vec<String> {
    let time = |time: Option<Duration>, otherwise: &str| match time {
        Some(time) if worker.is_in_time(time, limits) => {
            format!("{GOOD}{}{GOOD:#}", duration(time))
        }
        Some(time) => format!("{BAD}{}{BAD:#}", duration(time)),
        None => format!("{BAD}{otherwise}{BAD:#}"),
    };
    let by = if worker.guarded { "its guardian" } else { "the library" };
    vec![
        worker.kind.clone(),
        by.to_owned(),
        worker.pid.to_string(),
        worker.tier.clone().unwrap_or_else(|| "-".to_owned()),
        worker.port.to_string(),
        time(worker.gone_after, "alive"),
        time(worker.port_free_after, "held"),
        match worker.helpers {
            0 => "-".to_owned(),
            count => format!("{count}: {}", time(worker.helpers_gone_after, "alive")),
        },
    ]
}

/// The longest times of each tier.
fn protected_summary(workers: &[Protected]) -> String {
    let summary = |tier: &&str| {
        let workers = || workers.iter().filter(|worker| worker.tier.as_deref() == Some(tier));
        let gone = workers().filter_map(|worker| worker.gone_after).max()?;
        let free = workers().filter_map(|worker| worker.port_free_after).max()?;
        Some(format!(
            "in the {tier} tier every worker was gone {} after the kill, every port free after {}",
            duration(gone),
            duration(free),
        ))
    };
    ["event", "poll"].iter().filter_map(summary).collect::<Vec<_>>().join("; ")
}

fn orphan_row(orphan: &Orphan) -> Vec<String> {
    // In this half of the demo a surviving orphan is the expected outcome: only the opposite is red.
    let state = match orphan.survived {
        true => "alive".to_owned(),
        false => format!("{BAD}gone{BAD:#}"),
    };
    let health = match orphan.answers_health {
        true => "answers".to_owned(),
        false => format!("{BAD}no answer{BAD:#}"),
    };
    let helpers = match (orphan.helpers, orphan.helpers_alive) {
        (0, _) => "-".to_owned(),
        (count, alive) if alive == count => format!("{count} alive"),
        (count, alive) => format!("{BAD}{alive} of {count} alive{BAD:#}"),
    };
    let doctor = match orphan.found_by_doctor {
        true => "finds it".to_owned(),
        false => format!("{BAD}does not find it{BAD:#}"),
    };
    let (pid, port) = (orphan.pid.to_string(), orphan.port.to_string());
    vec![orphan.kind.clone(), pid, port, state, health, helpers, doctor]
}

/// Writes a time with three significant digits, in a suitable unit.
fn duration(time: Duration) -> String {
    let microseconds = time.as_secs_f64() * 1e6;
    // At these bounds, rounding would give a fourth digit.
    let (value, unit) = match microseconds {
        us if us < 999.5 => return format!("{us:.0} µs"),
        us if us < 999_500.0 => (us / 1e3, "ms"),
        us => (us / 1e6, "s"),
    };
    let digits = match value {
        value if value < 9.995 => 2,
        value if value < 99.95 => 1,
        _ => 0,
    };
    format!("{value:.digits$} {unit}")
}

#[cfg(test)]
mod tests {
    use super::super::report::tests::{LIMITS, guarded, orphan, polling, protected, with_helpers};
    use super::*;

    fn plain(given: &Report) -> String {
        anstream::adapter::strip_str(&report(given, false, &LIMITS, LIMITS.event)).to_string()
    }

    #[test]
    fn durations() {
        for (nanoseconds, text) in [
            (0, "0 µs"),
            (840_000, "840 µs"),
            (999_499, "999 µs"),
            (999_500, "1.00 ms"),
            (1_324_000, "1.32 ms"),
            (9_994_000, "9.99 ms"),
            (9_996_000, "10.0 ms"),
            (123_456_000, "123 ms"),
            (999_500_000, "1.00 s"),
            (1_050_000_000, "1.05 s"),
            (61_000_000_000, "61.0 s"),
        ] {
            assert_eq!(duration(Duration::from_nanos(nanoseconds)), text);
        }
    }

    #[test]
    fn plain_text() {
        let workers = vec![protected(), with_helpers(), polling(), guarded()];
        let report = Report::new(workers, vec![orphan()], &LIMITS);
        let expected = "\
With the watcher: supervisor killed with SIGKILL
worker   ended by        pid   tier     port   gone after   port free after   helpers gone after
cpp      the library    4243   event   40001       840 µs           1.32 ms                    -
python   the library    4243   event   40001       840 µs           1.32 ms           2: 4.25 ms
go       the library    4243   poll    40001       1.50 s            1.50 s                    -
exec     its guardian   4243   event   40001       840 µs           1.32 ms           2: 4.25 ms
ok: in the event tier every worker was gone 840 µs after the kill, every port free after 1.32 ms; \
in the poll tier every worker was gone 1.50 s after the kill, every port free after 1.50 s

Without it: LOCALAI_BACKEND_PARENT_WATCH=off, supervisor killed with SIGKILL
worker    pid    port   after 1.00 s   Health    helpers   doctor
rust     4250   40002   alive          answers   2 alive   finds it
ok: every orphan held on to its port and memory, until the demo ended it
";
        assert_eq!(plain(&report), expected);
    }

    #[test]
    fn frames_are_for_terminals() {
        let given = Report::new(vec![protected()], vec![orphan()], &LIMITS);
        assert!(report(&given, true, &LIMITS, LIMITS.event).contains('╭'));
        assert!(!report(&given, false, &LIMITS, LIMITS.event).contains('│'));
    }

    #[test]
    fn says_what_failed() {
        let alive =
            Protected { gone_after: None, port_free_after: None, tier: None, ..protected() };
        let dead = Orphan { survived: false, answers_health: false, helpers_alive: 1, ..orphan() };
        let text = plain(&Report::new(vec![alive], vec![dead], &LIMITS));
        assert!(text.contains("cpp      the library   4243   -"), "{text}");
        assert!(text.contains("alive              held                    -\n"), "{text}");
        assert!(
            text.contains("\nFAILED: worker cpp 4243 was alive 4s after its supervisor\n"),
            "{text}"
        );
        assert!(text.contains("gone           no answer   1 of 2 alive   finds it\n"), "{text}");
        assert!(text.contains("\nFAILED: worker rust 4250 did not survive"), "{text}");
        assert!(!text.contains("\nok"), "{text}");
    }
}
