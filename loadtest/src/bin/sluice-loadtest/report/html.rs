//! The report as one page: everything inline, no script, nothing fetched. All text that comes from elsewhere is escaped.

mod latency;
mod tables;
mod time;

use std::fmt::Write as _;

use super::style::STYLE;
use super::{bytes_per_second, plain, rate_of};
use crate::histogram::{Times, shown};
use crate::summary::{QUANTILES, Summary};

/// Text for a page. What could turn text around is gone.
pub(super) fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            c => safe.push(c),
        }
    }
    safe
}

fn text(text: &str) -> String {
    escaped(&plain(text))
}

/// The whole page.
pub(super) fn page(summary: &Summary) -> String {
    let target = text(&summary.target.join(", "));
    let version = summary.server_version.as_deref().map(|version| format!(", {}", text(version)));
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" \
         content=\"width=device-width, initial-scale=1\">\n<title>Load test of {target}</title>\n\
         <style>{STYLE}</style>\n<main>\n<h1>Load test of {target}</h1>\n\
         <p class=\"dim\">{} UTC, {:.0} s measured{}</p>\n",
        text(&summary.began.replace(['T', 'Z'], " ")),
        summary.seconds,
        version.unwrap_or_default()
    );
    judgement(&mut page, summary);
    cards(&mut page, summary);
    latency::add(&mut page, summary);
    time::add(&mut page, summary);
    tables::balance(&mut page, summary);
    tables::failures(&mut page, summary);
    tables::kinds(&mut page, summary);
    tables::events(&mut page, summary);
    tables::machines(&mut page, summary);
    tables::scenario(&mut page, summary);
    page + "</main>\n</html>\n"
}

fn judgement(page: &mut String, summary: &Summary) {
    if summary.wrong() > 0 {
        let _ = writeln!(
            page,
            "<div class=\"box bad\"><p><strong>{} answers were wrong</strong>, {} of them in the warm-up: see what \
             failed, below.</p></div>",
            summary.wrong(),
            summary.warm_up.wrong
        );
    }
    let has_measured = summary.generators.iter().any(|part| part.generator.has_measured());
    let (class, said) = match summary.figures.generator_was_the_limit {
        true => ("box bad", "The generator was the limit: the server may be better than these numbers."),
        false if !has_measured => ("box bad", "Nothing was measured: the run ended in its warm-up."),
        false => ("box", "The generator kept up: what is slow here, the server or the network was."),
    };
    let _ = writeln!(page, "<div class=\"{class}\"><p><strong>{said}</strong></p>");
    for part in &summary.generators {
        for line in part.limits.iter().chain(&part.remarks) {
            let _ = writeln!(page, "<p>{}: {}.</p>", text(&part.machine.name), text(line));
        }
    }
    page.push_str("</div>\n");
    let early = summary.seconds + 0.5 < summary.seconds_wanted;
    if early || !summary.lost.is_empty() {
        page.push_str("<div class=\"box bad\">");
        if early {
            let wanted = summary.seconds_wanted;
            let _ = writeln!(page, "<p>The run was ended early: {wanted:.0} s were to be measured.</p>");
        }
        for (machine, why) in &summary.lost {
            let _ = writeln!(page, "<p>Lost: {}: {}.</p>", text(machine), text(why));
        }
        page.push_str("</div>\n");
    }
}

fn cards(page: &mut String, summary: &Summary) {
    let (tally, figures) = (&summary.tally, &summary.figures);
    let latency = |part: f64| shown(tally.latency.quantile(part));
    let cards = [
        (rate_of(figures.downloads_per_second), "downloads a second"),
        (bytes_per_second(figures.bytes_per_second), "of files"),
        (format!("{:.3} %", figures.failed_part * 100.0), "failed"),
        (latency(0.5), "p50 latency"),
        (latency(0.99), "p99 latency"),
        (latency(1.0), "longest"),
    ];
    page.push_str("<div class=\"cards\">\n");
    for (number, what) in cards {
        let _ = writeln!(page, "<div class=\"card\"><b>{number}</b><span>{what}</span></div>");
    }
    page.push_str("</div>\n");
}

fn row_of_times(page: &mut String, name: &str, times: &Times) {
    let cells = QUANTILES.iter().map(|(_, part)| format!("<td>{}</td>", shown(times.quantile(*part))));
    let (cells, mean) = (cells.collect::<String>(), shown(times.mean()));
    let _ = writeln!(page, "<tr><th scope=\"row\">{}</th><td>{mean}</td>{cells}</tr>", text(name));
}
