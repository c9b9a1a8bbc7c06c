//! How long downloads took: the curve of percentiles, and its table.

use std::fmt::Write as _;

use super::row_of_times;
use crate::histogram::{Times, shown};
use crate::report::chart::{Axis, Line, Plot};
use crate::report::scale::Scale;
use crate::summary::{QUANTILES, Summary};

/// Parts that the curve of percentiles has points at, as nines: 0 is the fastest, 1 is 90 %, 2 is 99 %.
const NINES: [&str; 6] = ["0 %", "90 %", "99 %", "99.9 %", "99.99 %", "99.999 %"];
const NINES_MAX: u32 = 5;
const POINTS_PER_NINE: u32 = 12;

pub(super) fn add(page: &mut String, summary: &Summary) {
    let tally = &summary.tally;
    page.push_str("<h2>Latency</h2>\n");
    let named = [
        ("whole download", &tally.latency),
        ("first byte", &tally.first_byte),
        ("coordinator's answer", &tally.asked),
    ];
    let named: Vec<_> = named.into_iter().filter(|(_, times)| !times.is_empty()).collect();
    if named.is_empty() {
        page.push_str("<p>No download ended well.</p>\n");
        return;
    }
    let curves: Vec<_> = named.iter().map(|(name, times)| (*name, curve(times))).collect();
    let seconds = curves.iter().flat_map(|(_, points)| points.iter().map(|(_, seconds)| *seconds));
    let scale = Scale::logarithmic(seconds.collect::<Vec<_>>());
    // No further than there are downloads for.
    let most = curves.iter().flat_map(|(_, points)| points.last()).map(|(nines, _)| nines.ceil());
    let most = most.fold(2.0, f64::max);
    let place = |(nines, seconds): &(f64, f64)| (nines / most, scale.place(*seconds));
    let plot = Plot {
        id: "percentiles",
        title: "Latency by percentile",
        description: "Of each hundred downloads, how many took no longer; both axes spread what is rare. The table \
                      below has the same numbers.",
        x: Axis {
            label: "part of the downloads".to_owned(),
            ticks: NINES
                .iter()
                .enumerate()
                .map(|(at, name)| (at as f64 / most, (*name).to_owned()))
                .take_while(|(place, _)| *place <= 1.0)
                .collect(),
        },
        y: seconds_axis(&scale),
        lines: curves
            .iter()
            .map(|(name, points)| Line {
                name: (*name).to_owned(),
                points: points.iter().map(place).collect(),
            })
            .collect(),
        shaded: Vec::new(),
        marks: Vec::new(),
    };
    page.push_str(&plot.svg());
    let head = QUANTILES.iter().map(|(name, _)| format!("<th scope=\"col\">{name}</th>")).collect::<String>();
    let _ = writeln!(
        page,
        "<div class=\"wide\"><table><caption>From the moment a download should have begun</caption>\n\
         <tr><th scope=\"col\">until</th><th scope=\"col\">mean</th>{head}</tr>"
    );
    for (name, times) in named {
        row_of_times(page, name, times);
    }
    page.push_str("</table></div>\n");
}

/// Points of the curve: nines, and seconds. It ends where the last download stands alone.
fn curve(times: &Times) -> Vec<(f64, f64)> {
    let most = (times.count().max(1) as f64).log10().min(f64::from(NINES_MAX));
    let steps = (0..=POINTS_PER_NINE * NINES_MAX).map(|step| f64::from(step) / f64::from(POINTS_PER_NINE));
    let points = steps.take_while(|nines| *nines <= most);
    points.map(|nines| (nines, times.quantile(1.0 - 10_f64.powf(-nines)))).collect()
}

pub(super) fn seconds_axis(scale: &Scale) -> Axis {
    let ticks = scale.ticks().into_iter().map(|tick| (scale.place(tick), shown(tick)));
    Axis { label: "latency".to_owned(), ticks: ticks.collect() }
}
