//! What is told by tables: edges, failures, kinds, machines, and what the run was to do.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::{row_of_times, text};
use crate::histogram::shown;
use crate::report::chart::{Bar, bars};
use crate::report::{bytes_of, plain};
use crate::summary::{QUANTILES, Summary};

pub(super) fn balance(page: &mut String, summary: &Summary) {
    let servers = &summary.tally.servers;
    if servers.is_empty() {
        return;
    }
    page.push_str("<h2>Balance</h2>\n");
    let total = servers.values().map(|server| server.ended).sum::<u64>().max(1) as f64;
    let largest = servers.values().map(|server| server.ended).max().unwrap_or(1).max(1) as f64;
    let rows: Vec<Bar> = servers
        .iter()
        .map(|(name, server)| Bar {
            name: plain(name),
            part: server.ended as f64 / largest,
            text: format!("{:.1} %, {}", server.ended as f64 * 100.0 / total, server.ended),
        })
        .collect();
    let fair = total / servers.len() as f64 / largest;
    let description =
        "Downloads that ended well at each edge; the dotted line is where equal parts would end.";
    page.push_str(&bars("balance", "Downloads by edge", description, &rows, fair.min(1.0)));
    page.push_str(
        "<div class=\"wide\"><table>\n<tr><th scope=\"col\">edge</th><th scope=\"col\">ended</th>\
         <th scope=\"col\">failed</th><th scope=\"col\">p50</th><th scope=\"col\">p99</th></tr>\n",
    );
    for (name, server) in servers {
        let _ = writeln!(
            page,
            "<tr><th scope=\"row\">{}</th><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            text(name),
            server.ended,
            server.failed,
            shown(server.latency.quantile(0.5)),
            shown(server.latency.quantile(0.99))
        );
    }
    page.push_str("</table></div>\n");
}

pub(super) fn failures(page: &mut String, summary: &Summary) {
    let (tally, warm_up) = (&summary.tally, &summary.warm_up);
    let columns = [&tally.failures, &tally.breaks, &warm_up.failures];
    page.push_str("<h2>What failed</h2>\n");
    if columns.iter().all(|counts| counts.is_empty()) {
        page.push_str("<p>Nothing.</p>\n");
        return;
    }
    page.push_str(
        "<div class=\"wide\"><table>\n<tr><th scope=\"col\">reason</th><th scope=\"col\">downloads that failed</th>\
         <th scope=\"col\">tries that broke, and came again</th>\
         <th scope=\"col\">downloads of the warm-up that failed</th></tr>\n",
    );
    let reasons: BTreeSet<_> = columns.iter().flat_map(|counts| counts.keys()).collect();
    for reason in reasons {
        let cells = columns.map(|counts| format!("<td>{}</td>", counts.get(reason).copied().unwrap_or(0)));
        let _ = writeln!(page, "<tr><th scope=\"row\">{}</th>{}</tr>", text(reason), cells.concat());
    }
    page.push_str("</table></div>\n");
    if !(tally.faults.is_empty() && warm_up.faults.is_empty()) {
        page.push_str("<details><summary>Some of them in full</summary><ul>\n");
        for (of, faults) in [("", &tally.faults), ("in the warm-up: ", &warm_up.faults)] {
            for fault in faults {
                let _ = writeln!(page, "<li>{of}{}</li>", text(fault));
            }
        }
        page.push_str("</ul></details>\n");
    }
}

pub(super) fn kinds(page: &mut String, summary: &Summary) {
    if summary.tally.kinds.len() < 2 {
        return;
    }
    let head = QUANTILES.iter().map(|(name, _)| format!("<th scope=\"col\">{name}</th>")).collect::<String>();
    let _ = writeln!(
        page,
        "<h2>By kind</h2>\n<div class=\"wide\"><table>\n<tr><th scope=\"col\">kind</th><th scope=\"col\">mean</th>\
         {head}</tr>"
    );
    for (kind, times) in &summary.tally.kinds {
        row_of_times(page, &format!("{kind} ({})", times.count()), times);
    }
    page.push_str("</table></div>\n");
}

pub(super) fn events(page: &mut String, summary: &Summary) {
    if summary.faults.is_empty() {
        return;
    }
    page.push_str("<h2>What was done to the cluster</h2>\n<ul>\n");
    for (seconds, what) in &summary.faults {
        let _ = writeln!(page, "<li>{seconds:.1} s: {}</li>", text(what));
    }
    page.push_str("</ul>\n");
}

pub(super) fn machines(page: &mut String, summary: &Summary) {
    page.push_str(
        "<h2>Generators</h2>\n<div class=\"wide\"><table>\n<tr><th scope=\"col\">machine</th>\
         <th scope=\"col\">threads</th><th scope=\"col\">processor time</th><th scope=\"col\">busiest thread</th>\
         <th scope=\"col\">waited for a core</th><th scope=\"col\">all cores busy</th><th scope=\"col\">memory</th>\
         <th scope=\"col\">late by (p99)</th></tr>\n",
    );
    for part in &summary.generators {
        let (machine, generator) = (&part.machine, &part.generator);
        let _ = writeln!(
            page,
            "<tr><th scope=\"row\">{}: {} × {}, {}, Linux {}, sluice-loadtest {}</th><td>{}</td><td>{:.1} s</td>\
             <td>{:.0} %</td><td>{:.0} %</td><td>{:.0} %</td><td>{}</td><td>{}</td></tr>",
            text(&machine.name),
            machine.cores,
            text(&machine.processor),
            bytes_of(machine.memory_bytes as f64),
            text(&machine.kernel),
            text(&machine.version),
            generator.threads,
            generator.cpu_seconds,
            generator.busiest * 100.0,
            generator.waiting * 100.0,
            generator.machine_busy * 100.0,
            bytes_of(generator.memory_bytes as f64),
            shown(part.lateness.quantile(0.99))
        );
    }
    page.push_str("</table></div>\n");
}

pub(super) fn scenario(page: &mut String, summary: &Summary) {
    page.push_str("<h2>Scenario</h2>\n");
    if !summary.said.is_empty() {
        let _ =
            writeln!(page, "<p>In place of what it says: <code>{}</code></p>", text(&summary.said.join(" ")));
    }
    // Line breaks are wanted here, and nothing else of what a page does not show.
    let lines = summary.scenario.lines().map(|line| text(&line.replace('\t', "    "))).collect::<Vec<_>>();
    let _ = writeln!(page, "<pre tabindex=\"0\">{}</pre>", lines.join("\n"));
}
