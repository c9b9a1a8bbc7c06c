//! A plot of the phases as one SVG that needs nothing else: edges from the least to the most loaded, as multiples of the
//! mean.

use std::fmt::Write;

use super::report::Report;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 420.0;
const LEFT: f64 = 48.0;
const TOP: f64 = 40.0;
const PLOT_WIDTH: f64 = 420.0;
const PLOT_HEIGHT: f64 = 320.0;
/// The multiple of the mean at the plot's upper end.
const LOAD_MAX: f64 = 2.0;
/// What bounded loads promise.
const BOUND: f64 = 1.25;
/// Distinct also to those who do not see all colours (Okabe, Ito).
const COLOURS: [&str; 8] =
    ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#f0e442", "#000000"];

pub(super) fn of(report: &Report) -> String {
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    let title = format!("Load of {} edges in {} zones, as multiples of the mean", report.edges, report.zones);
    text(&mut svg, LEFT, 22.0, &title);
    for tick in 0..=4_u8 {
        let load = f64::from(tick) * 0.5;
        line(&mut svg, load, "#dddddd");
        text(&mut svg, 16.0, y(load) + 4.0, &format!("{load:.1}"));
    }
    line(&mut svg, BOUND, "#d00000");
    text(&mut svg, LEFT + 6.0, y(BOUND) - 4.0, "bound 1.25");
    text(&mut svg, LEFT, TOP + PLOT_HEIGHT + 20.0, "least loaded edge");
    text(&mut svg, LEFT + PLOT_WIDTH - 92.0, TOP + PLOT_HEIGHT + 20.0, "most loaded edge");
    for (at, phase) in report.phases.iter().enumerate() {
        let colour = COLOURS[at % COLOURS.len()];
        let steps = phase.load_steps.len().max(2) as f64 - 1.0;
        let points = phase.load_steps.iter().enumerate();
        let points = points
            .map(|(step, load)| format!("{:.1},{:.1}", LEFT + PLOT_WIDTH * step as f64 / steps, y(*load)));
        let points = points.collect::<Vec<_>>().join(" ");
        let _ = writeln!(
            svg,
            "<polyline points=\"{points}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"/>"
        );
        let row = TOP + 14.0 + 20.0 * at as f64;
        let (from, to) = (LEFT + PLOT_WIDTH + 20.0, LEFT + PLOT_WIDTH + 40.0);
        let _ = writeln!(svg, "<path d=\"M{from} {row}H{to}\" stroke=\"{colour}\" stroke-width=\"3\"/>");
        text(&mut svg, to + 6.0, row + 4.0, &format!("{} ({:.2})", phase.name, phase.max_over_mean_load));
    }
    svg + "</svg>\n"
}

fn y(load: f64) -> f64 {
    TOP + PLOT_HEIGHT * (1.0 - load.clamp(0.0, LOAD_MAX) / LOAD_MAX)
}

fn line(svg: &mut String, load: f64, colour: &str) {
    let (right, at) = (LEFT + PLOT_WIDTH, y(load));
    let _ = writeln!(svg, "<path d=\"M{LEFT} {at:.1}H{right}\" stroke=\"{colour}\"/>");
}

/// Texts are our own: nothing in them needs an escape.
fn text(svg: &mut String, x: f64, y: f64, text: &str) {
    let _ = writeln!(svg, "<text x=\"{x}\" y=\"{y:.1}\">{text}</text>");
}
