//! What a run says while it lasts, and at its end: for people at a terminal, in plain lines, or as JSON lines.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write as _};
use std::sync::mpsc::Sender;

use serde_json::json;

use super::Live;
use crate::arguments::Manner;
use crate::clock::Clock;
use crate::histogram::{Times, shown};
use crate::report;
use crate::summary::Summary;

/// Servers and reasons that a terminal shows.
const LINES_MAX: usize = 8;
/// Cells of a bar.
const BAR: f64 = 24.0;

#[derive(Debug)]
pub(crate) struct Progress {
    form: Form,
    /// Of all seconds so far.
    servers: BTreeMap<String, u64>,
    failures: BTreeMap<String, u64>,
    latency: Times,
}

#[derive(Debug, Clone)]
enum Form {
    /// Lines that are written over, so many at the last time.
    Terminal {
        lines: usize,
    },
    Plain,
    JsonLines,
    Quiet,
    /// To a conductor, which tells it all.
    Told(Sender<Live>),
}

impl Progress {
    /// In the form that was asked for, or that standard error allows.
    pub(crate) fn new(manner: &Manner) -> Self {
        Self::of(match (manner.json_lines, manner.quiet) {
            (true, _) => Form::JsonLines,
            (_, true) => Form::Quiet,
            _ if io::stderr().is_terminal() => Form::Terminal { lines: 0 },
            _ => Form::Plain,
        })
    }

    /// For a machine that has a conductor.
    pub(crate) fn told_to(conductor: Sender<Live>) -> Self {
        Self::of(Form::Told(conductor))
    }

    fn of(form: Form) -> Self {
        Self { form, servers: BTreeMap::new(), failures: BTreeMap::new(), latency: Times::default() }
    }

    /// A second has passed.
    pub(crate) fn show(&mut self, live: &Live, clock: Clock) -> io::Result<()> {
        live.servers.iter().for_each(|(name, count)| *self.servers.entry(name.clone()).or_default() += count);
        live.failures
            .iter()
            .for_each(|(name, count)| *self.failures.entry(name.clone()).or_default() += count);
        self.latency.add(&live.latency);
        match &self.form {
            Form::Quiet => Ok(()),
            Form::Told(conductor) => {
                // Where it has gone, the run is told by another way.
                let _ = conductor.send(live.clone());
                Ok(())
            }
            Form::JsonLines => print(&json_line(live)),
            Form::Plain => tell(&format!("{}\n", headline(live, clock))),
            Form::Terminal { lines } => {
                let text = back(*lines) + &fitted(&self.screen(live, clock));
                self.form = Form::Terminal { lines: text.matches('\n').count() };
                tell(&text)
            }
        }
    }

    /// Something was done to the cluster.
    pub(crate) fn event(&mut self, seconds: f64, event: &str) -> io::Result<()> {
        match &mut self.form {
            Form::Quiet | Form::Told(_) => Ok(()),
            Form::JsonLines => print(&format!("{}\n", json!({ "seconds": seconds, "event": event }))),
            Form::Plain => tell(&format!("{seconds:6.1} s  {event}\n")),
            Form::Terminal { lines } => {
                // It stays above what is written over.
                let text = format!("{}{seconds:6.1} s  {event}\n", back(*lines));
                *lines = 0;
                tell(&text)
            }
        }
    }

    /// Something that whoever started the run should know.
    pub(crate) fn note(&self, text: &str) -> io::Result<()> {
        match self.form {
            Form::Quiet | Form::Told(_) => Ok(()),
            Form::JsonLines => print(&format!("{}\n", json!({ "note": text }))),
            Form::Plain | Form::Terminal { .. } => tell(&format!("{text}\n")),
        }
    }

    /// The end.
    pub(crate) fn result(&self, summary: &Summary) -> io::Result<()> {
        match self.form {
            Form::JsonLines => {
                print(&format!("{}\n", json!({ "figures": summary.figures, "summary": summary })))
            }
            _ => print(&report::text(summary)),
        }
    }

    fn screen(&self, live: &Live, clock: Clock) -> String {
        let mut text = headline(live, clock) + "\n";
        let all = |part: f64| shown(self.latency.quantile(part));
        let _ = writeln!(
            text,
            "  so far   p50 {}  p90 {}  p99 {}  p99.9 {}  max {}",
            all(0.5),
            all(0.9),
            all(0.99),
            all(0.999),
            all(1.0)
        );
        let total: u64 = self.servers.values().sum();
        let (servers, more) = largest(&self.servers);
        for (name, count) in servers {
            let part = count as f64 / total.max(1) as f64;
            let filled = usize::try_from(crate::number::whole((part * BAR).round())).unwrap_or(0);
            let _ = writeln!(
                text,
                "  {:<28.28} {:5.1} % {}",
                report::plain(name),
                part * 100.0,
                "█".repeat(filled)
            );
        }
        if more > 0 {
            let _ = writeln!(text, "  and {more} more");
        }
        let (failures, more) = largest(&self.failures);
        for (reason, count) in failures {
            let _ = writeln!(text, "  failed: {reason:<20} {count}");
        }
        if more > 0 {
            let _ = writeln!(text, "  and {more} more reasons");
        }
        text
    }
}

/// What a terminal has lines for, the largest counts first; and how many there are besides.
fn largest(counts: &BTreeMap<String, u64>) -> (Vec<(&str, u64)>, usize) {
    let mut lines: Vec<_> = counts.iter().map(|(name, count)| (name.as_str(), *count)).collect();
    lines.sort_by_key(|(_, count)| Reverse(*count));
    let more = lines.len().saturating_sub(LINES_MAX);
    lines.truncate(LINES_MAX);
    (lines, more)
}

/// Up to where the last so many lines began, and away with them.
fn back(lines: usize) -> String {
    if lines == 0 { String::new() } else { format!("\x1b[{lines}A\x1b[J") }
}

/// Cut to the terminal's width: a line that wrapped would not be written over whole.
fn fitted(text: &str) -> String {
    let columns = rustix::termios::tcgetwinsize(io::stderr()).map_or(0, |size| usize::from(size.ws_col));
    // Some terminals do not say.
    let columns = if columns == 0 { 80 } else { columns };
    let fit = |line: &str| line.chars().take(columns.max(20)).collect::<String>() + "\n";
    text.lines().map(fit).collect()
}

fn headline(live: &Live, clock: Clock) -> String {
    let latency = |part: f64| shown(live.latency.quantile(part));
    let end = clock.seconds(clock.end());
    let stretch = match live.seconds {
        now if now < clock.seconds(clock.measured_from()) => " (warm-up)",
        now if now > end => " (draining)",
        _ => "",
    };
    format!(
        "{:6.1} of {end:.0} s{stretch}  {}/s  {}  {} under way  {} failed  p50 {}  p99 {}",
        live.seconds,
        live.ended,
        report::bytes_per_second(live.bytes as f64),
        live.under_way,
        live.failed,
        latency(0.5),
        latency(0.99)
    )
}

fn json_line(live: &Live) -> String {
    let quantile = |part: f64| {
        let seconds = live.latency.quantile(part);
        seconds.is_finite().then_some(seconds)
    };
    let line = json!({
        "seconds": live.seconds,
        "under_way": live.under_way,
        "begun": live.begun,
        "ended": live.ended,
        "failed": live.failed,
        "wrong": live.wrong,
        "bytes": live.bytes,
        "latency": { "p50": quantile(0.5), "p90": quantile(0.9), "p99": quantile(0.99), "max": quantile(1.0) },
        "servers": live.servers,
        "failures": live.failures,
    });
    format!("{line}\n")
}

/// Where the terminal was closed, the run still ends with its report.
fn tell(text: &str) -> io::Result<()> {
    let _ = io::stderr().lock().write_all(text.as_bytes());
    Ok(())
}

fn print(text: &str) -> io::Result<()> {
    io::stdout().lock().write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::*;
    use crate::scenario::{Overrides, Scenario, Source};

    fn clock() -> Clock {
        let source = Source { path: "x".into(), text: "[[files]]\nname = \"a\"\nsize = 1".to_owned() };
        Clock::new(Instant::now(), &Scenario::of(&source, &Overrides::default()).unwrap())
    }

    fn live() -> Live {
        let mut latency = Times::default();
        (1..=100).for_each(|millis| latency.record(Duration::from_millis(millis)));
        Live {
            seconds: 10.0,
            under_way: 5,
            ended: 100,
            failed: 2,
            bytes: 3_000_000,
            latency,
            servers: BTreeMap::from([("edge:1".to_owned(), 75), ("\x1b[2Jevil".to_owned(), 25)]),
            failures: BTreeMap::from([("status 503".to_owned(), 2)]),
            ..Live::default()
        }
    }

    #[test]
    fn a_terminal_shows_rate_errors_percentiles_and_each_edge_s_part() {
        let mut progress = Progress::of(Form::Quiet);
        progress.show(&live(), clock()).unwrap();
        progress.show(&live(), clock()).unwrap();
        let screen = progress.screen(&live(), clock());
        for shown in [
            "10.0 of 32 s",
            "100/s",
            "3.00 MB/s",
            "5 under way",
            "p50 50.0 ms",
            "p99 99.0 ms",
            "75.0 %",
            "503",
        ] {
            assert!(screen.contains(shown), "no {shown} in {screen}");
        }
        assert!(screen.contains("failed: status 503           4"), "of all seconds: {screen}");
        assert!(!screen.contains('\x1b'), "{screen:?}");
    }

    #[test]
    fn a_terminal_shows_the_largest_parts_and_says_how_many_others_there_are() {
        let mut progress = Progress::of(Form::Quiet);
        let servers = (1..=20).map(|number| (format!("edge-{number:02}"), number));
        progress.show(&Live { servers: servers.collect(), ..Live::default() }, clock()).unwrap();
        let screen = progress.screen(&live(), clock());
        let shown: Vec<&str> =
            screen.lines().filter_map(|line| line.trim().split(' ').next()?.strip_prefix("edge-")).collect();
        assert_eq!(shown, ["20", "19", "18", "17", "16", "15", "14", "13"], "{screen}");
        assert!(screen.contains("and 12 more"), "{screen}");
    }

    #[test]
    fn a_line_for_machines_has_the_same() {
        let line: serde_json::Value = serde_json::from_str(&json_line(&live())).unwrap();
        assert_eq!(
            (&line["ended"], &line["servers"]["edge:1"], &line["failures"]["status 503"]),
            (&100.into(), &75.into(), &2.into())
        );
        assert!(line["latency"]["p99"].as_f64().unwrap() > 0.09);
        let idle: serde_json::Value = serde_json::from_str(&json_line(&Live::default())).unwrap();
        assert!(idle["latency"]["p50"].is_null());
    }

    #[test]
    fn lines_are_no_longer_than_a_terminal_and_are_written_over_whole() {
        let text = fitted(&"x".repeat(5000));
        assert!(text.ends_with('\n') && text.len() < 1000);
        assert_eq!((back(0), back(3)), (String::new(), "\x1b[3A\x1b[J".to_owned()));
    }
}
