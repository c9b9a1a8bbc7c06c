//! The result on a terminal.

use std::fmt::Write as _;

use super::{bytes_of, bytes_per_second, plain, rate_of};
use crate::histogram::{Times, shown};
use crate::summary::{QUANTILES, Summary};

/// A run's result in some lines.
pub(crate) fn text(summary: &Summary) -> String {
    let (tally, warm_up, figures) = (&summary.tally, &summary.warm_up, &summary.figures);
    let measured = summary.measured(|interval| interval.ended);
    let mut text = format!(
        "\n{measured} downloads in {:.1} s: {}/s, {}\n",
        summary.seconds,
        rate_of(figures.downloads_per_second),
        bytes_per_second(figures.bytes_per_second)
    );
    if tally.ended > measured {
        let _ = writeln!(text, "{} more ended as the run drained", tally.ended - measured);
    }
    if summary.seconds + 0.5 < summary.seconds_wanted {
        let _ = writeln!(text, "ended early: {:.0} s were to be measured", summary.seconds_wanted);
    }
    if !tally.latency.is_empty() {
        let _ = writeln!(text, "\n{:12}{}", "", QUANTILES.map(|(name, _)| format!("{name:>10}")).concat());
    }
    for (name, times) in
        [("latency", &tally.latency), ("first byte", &tally.first_byte), ("coordinator", &tally.asked)]
    {
        if !times.is_empty() {
            let _ = writeln!(text, "{name:12}{}", quantiles(times));
        }
    }
    if !tally.servers.is_empty() {
        text += "\n";
    }
    let total: u64 = tally.servers.values().map(|server| server.ended).sum();
    for (name, server) in &tally.servers {
        let part = server.ended as f64 * 100.0 / total.max(1) as f64;
        let p99 = shown(server.latency.quantile(0.99));
        let _ = writeln!(text, "{:<32} {:>9} downloads {part:5.1} %  p99 {p99}", plain(name), server.ended);
    }
    for (title, reasons) in [
        ("failed", &tally.failures),
        ("failed in the warm-up", &warm_up.failures),
        ("broke, and came again", &tally.breaks),
    ] {
        for (reason, count) in reasons {
            let _ = writeln!(text, "{title}: {count} × {}", plain(reason));
        }
    }
    let early = warm_up.faults.iter().map(|fault| format!("in the warm-up: {fault}"));
    for fault in tally.faults.iter().cloned().chain(early).take(3) {
        let _ = writeln!(text, "  {}", plain(&fault));
    }
    if !summary.faults.is_empty() {
        text += "\n";
    }
    for (seconds, done) in &summary.faults {
        let _ = writeln!(text, "{seconds:6.1} s  {}", plain(done));
    }
    text + &judgement(summary)
}

fn quantiles(times: &Times) -> String {
    QUANTILES.map(|(_, part)| format!("{:>10}", shown(times.quantile(part)))).concat()
}

fn judgement(summary: &Summary) -> String {
    let mut text = "\n".to_owned();
    for part in &summary.generators {
        let (machine, generator) = (&part.machine, &part.generator);
        if !generator.has_measured() {
            let _ = writeln!(text, "generator on {}: measured nothing", plain(&machine.name));
            continue;
        }
        let verdict = if part.limits.is_empty() { "kept up" } else { "WAS THE LIMIT" };
        let _ = writeln!(
            text,
            "generator on {}: {verdict} ({} threads, the busiest {:.0} % of a core; {:.1} s of processor time; {})",
            plain(&machine.name),
            generator.threads,
            generator.busiest * 100.0,
            generator.cpu_seconds,
            bytes_of(generator.memory_bytes as f64),
        );
        for line in part.limits.iter().chain(&part.remarks) {
            let _ = writeln!(text, "  {line}");
        }
    }
    for (machine, why) in &summary.lost {
        let _ = writeln!(text, "LOST: {}: {}", plain(machine), plain(why));
    }
    if summary.wrong() > 0 {
        let early = match summary.warm_up.wrong {
            0 => String::new(),
            wrong => format!(", {wrong} OF THEM IN THE WARM-UP"),
        };
        let _ = writeln!(text, "{} ANSWERS WERE WRONG{early}", summary.wrong());
    }
    text
}
