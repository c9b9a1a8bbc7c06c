//! Plots as inline SVG: lines over an axis, and bars. Colours are the page's, by class; lines differ by dashes too, for
//! those who do not see all colours.

use std::fmt::Write as _;

use super::html::escaped;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 28.0;
const TOP: f64 = 34.0;
const BOTTOM: f64 = 40.0;
const BAR_HEIGHT: f64 = 26.0;
const BAR_LEFT: f64 = 190.0;
const BAR_RIGHT: f64 = 150.0;
/// With fewer points than this, each is shown.
const DOTS_MAX: usize = 40;

/// A number at an axis: its place from 0 to 1, and its text.
pub(super) type Tick = (f64, String);

pub(super) struct Axis {
    pub(super) label: String,
    pub(super) ticks: Vec<Tick>,
}

pub(super) struct Line {
    pub(super) name: String,
    /// Places from 0 to 1.
    pub(super) points: Vec<(f64, f64)>,
}

/// Something that happened.
pub(super) struct Mark {
    pub(super) place: f64,
    pub(super) text: String,
}

pub(super) struct Plot<'a> {
    /// Of all on the page.
    pub(super) id: &'a str,
    pub(super) title: &'a str,
    pub(super) description: &'a str,
    pub(super) x: Axis,
    pub(super) y: Axis,
    pub(super) lines: Vec<Line>,
    /// Parts of the width that are shaded, such as a warm-up.
    pub(super) shaded: Vec<(f64, f64)>,
    pub(super) marks: Vec<Mark>,
}

impl Plot<'_> {
    pub(super) fn svg(&self) -> String {
        let mut svg = opened(self.id, self.title, self.description, HEIGHT);
        for (from, to) in &self.shaded {
            let _ = writeln!(
                svg,
                "<rect class=\"shade\" x=\"{:.1}\" y=\"{TOP}\" width=\"{:.1}\" height=\"{:.1}\"/>",
                x(*from),
                x(*to) - x(*from),
                HEIGHT - TOP - BOTTOM
            );
        }
        for (place, text) in &self.y.ticks {
            let at = y(*place);
            let _ = writeln!(svg, "<path class=\"grid\" d=\"M{LEFT} {at:.1}H{:.1}\"/>", WIDTH - RIGHT);
            let _ = writeln!(
                svg,
                "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                LEFT - 6.0,
                at + 4.0,
                escaped(text)
            );
        }
        for (place, text) in &self.x.ticks {
            let at = x(*place);
            let _ = writeln!(
                svg,
                "<path class=\"grid\" d=\"M{at:.1} {TOP}V{:.1}\"/>\n<text x=\"{at:.1}\" y=\"{:.1}\" \
                 text-anchor=\"middle\">{}</text>",
                HEIGHT - BOTTOM,
                HEIGHT - BOTTOM + 15.0,
                escaped(text)
            );
        }
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\n<text x=\"4\" y=\"14\">{}</text>",
            WIDTH - RIGHT,
            HEIGHT - 6.0,
            escaped(&self.x.label),
            escaped(&self.y.label)
        );
        self.marks.iter().for_each(|mark| mark_at(&mut svg, mark));
        self.lines.iter().enumerate().for_each(|(at, line)| draw(&mut svg, at, line));
        self.legend(&mut svg);
        svg + "</svg>\n"
    }

    /// The lines' names, above the plot, from the right.
    fn legend(&self, svg: &mut String) {
        let mut right = WIDTH - RIGHT;
        for (at, line) in self.lines.iter().enumerate().rev() {
            // As wide as most fonts of this size are.
            let width = 7.0 * line.name.chars().count() as f64;
            let from = right - width - 32.0;
            let _ = writeln!(
                svg,
                "<path class=\"line s{at}\" d=\"M{from:.1} 10h24\"/><text x=\"{:.1}\" y=\"14\">{}</text>",
                from + 29.0,
                escaped(&line.name)
            );
            right = from - 12.0;
        }
    }
}

fn draw(svg: &mut String, at: usize, line: &Line) {
    let points = line.points.iter().map(|(px, py)| format!("{:.1},{:.1}", x(*px), y(*py)));
    let points = points.collect::<Vec<_>>().join(" ");
    let _ = writeln!(svg, "<polyline class=\"line s{at}\" points=\"{points}\"/>");
    if line.points.len() <= DOTS_MAX {
        for (px, py) in &line.points {
            let _ = writeln!(
                svg,
                "<circle class=\"dot s{at}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"2.5\"/>",
                x(*px),
                y(*py)
            );
        }
    }
}

fn mark_at(svg: &mut String, mark: &Mark) {
    let at = x(mark.place);
    let _ = writeln!(
        svg,
        "<path class=\"mark\" d=\"M{at:.1} {TOP}V{:.1}\"><title>{}</title></path>",
        HEIGHT - BOTTOM,
        escaped(&mark.text)
    );
}

/// A row of a bar chart: a name, a part of the width, and what is written behind it.
pub(super) struct Bar {
    pub(super) name: String,
    pub(super) part: f64,
    pub(super) text: String,
}

/// Bars, one below the other; `fair` is where all of them would end if they were equal.
pub(super) fn bars(id: &str, title: &str, description: &str, bars: &[Bar], fair: f64) -> String {
    let height = BAR_HEIGHT * bars.len() as f64 + 10.0;
    let width = WIDTH - BAR_LEFT - BAR_RIGHT;
    let (mut svg, mut texts) = (opened(id, title, description, height), String::new());
    for (at, bar) in bars.iter().enumerate() {
        let top = BAR_HEIGHT * at as f64 + 5.0;
        // Long names end where bars begin; the table has them whole.
        let mut name: String = bar.name.chars().take(26).collect();
        if name.len() < bar.name.len() {
            name.push('…');
        }
        let _ = writeln!(
            svg,
            "<rect class=\"bar\" x=\"{BAR_LEFT}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"18\"/>",
            (width * bar.part).max(1.0)
        );
        // Over the mark, which crosses those of bars that end near it.
        let _ = writeln!(
            texts,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\n\
             <text class=\"over\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            BAR_LEFT - 8.0,
            top + 13.0,
            escaped(&name),
            BAR_LEFT + width * bar.part + 8.0,
            top + 13.0,
            escaped(&bar.text)
        );
    }
    let at = BAR_LEFT + width * fair;
    let _ =
        writeln!(svg, "<path class=\"mark\" d=\"M{at:.1} 0V{height:.1}\"><title>equal parts</title></path>");
    svg + &texts + "</svg>\n"
}

fn opened(id: &str, title: &str, description: &str, height: f64) -> String {
    format!(
        "<svg viewBox=\"0 0 {WIDTH} {height:.0}\" role=\"img\" aria-labelledby=\"{id}-title {id}-description\">\n\
         <title id=\"{id}-title\">{}</title>\n<desc id=\"{id}-description\">{}</desc>\n",
        escaped(title),
        escaped(description)
    )
}

fn x(place: f64) -> f64 {
    LEFT + (WIDTH - LEFT - RIGHT) * place
}

fn y(place: f64) -> f64 {
    TOP + (HEIGHT - TOP - BOTTOM) * (1.0 - place)
}
