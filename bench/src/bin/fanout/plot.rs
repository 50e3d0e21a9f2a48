//! Plots of what was measured, as SVG.

use std::fmt::Write as _;

/// How a fleet fared.
pub(crate) struct Curve {
    pub(crate) name: String,
    pub(crate) hosts: usize,
    /// When hosts were done, as multiples of the bound.
    pub(crate) completed: Vec<f64>,
    /// Copies that each host gave away.
    pub(crate) uploads: Vec<f64>,
    pub(crate) copies: f64,
}

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 360.0;
const MARGIN: f64 = 56.0;
const LEGEND_ROW: f64 = 18.0;
const COLOURS: [&str; 8] = ["#1f6feb", "#d1242f", "#1a7f37", "#9a6700", "#8250df", "#bf3989", "#0a7ea4", "#57606a"];

/// The share of hosts that are done, over time.
pub(crate) fn completion(curves: &[Curve]) -> String {
    let series = curves.iter().map(|curve| {
        let text = format!("{} ({:.2} copies from the hub)", curve.name, curve.copies);
        (text, shares(&curve.completed, curve.hosts))
    });
    draw("Hosts that have the image", "time, as a multiple of T*", &series.collect::<Vec<_>>())
}

/// The share of hosts that gave away so much or less.
pub(crate) fn uploads(curves: &[Curve]) -> String {
    let series = curves.iter().map(|curve| (curve.name.clone(), shares(&curve.uploads, curve.hosts)));
    draw("What hosts gave away", "copies of the image that a host sent", &series.collect::<Vec<_>>())
}

/// Sorted values with the share of all that is not above each.
fn shares(values: &[f64], all: usize) -> Vec<(f64, f64)> {
    let mut values = values.to_vec();
    values.sort_unstable_by(f64::total_cmp);
    values.iter().enumerate().map(|(at, value)| (*value, (at + 1) as f64 / all.max(1) as f64)).collect()
}

fn draw(title: &str, across: &str, series: &[(String, Vec<(f64, f64)>)]) -> String {
    let most = series.iter().flat_map(|(_, points)| points.iter().map(|(x, _)| *x)).fold(1.0_f64, f64::max);
    let step = if most > 4.0 {
        1.0
    } else if most > 2.0 {
        0.5
    } else {
        0.2
    };
    let most = (most / step).ceil() * step;
    let (left, right, top, bottom) = (MARGIN, WIDTH - 16.0, 40.0, HEIGHT - MARGIN);
    let x = |value: f64| left + value / most * (right - left);
    let y = |share: f64| bottom - share * (bottom - top);
    let height = HEIGHT + series.len() as f64 * LEGEND_ROW;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" font-family=\"sans-serif\" \
         font-size=\"12\" fill=\"#24292f\">\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n\
         <text x=\"{left}\" y=\"24\" font-size=\"16\">{title}</text>\n"
    );
    let mut line = |from: (f64, f64), to: (f64, f64), text: (&str, f64, f64, &str)| {
        // Writing into a string does not fail.
        let _written = writeln!(
            svg,
            "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" stroke=\"#d0d7de\"/><text x=\"{:.1}\" y=\"{:.1}\" \
             text-anchor=\"{}\">{}</text>",
            from.0, from.1, to.0, to.1, text.1, text.2, text.3, text.0
        );
    };
    for share in [0.0, 0.25, 0.5, 0.75, 1.0] {
        let text = format!("{:.0} %", share * 100.0);
        line((left, y(share)), (right, y(share)), (&text, left - 6.0, y(share) + 4.0, "end"));
    }
    let mut at = 0.0;
    while at <= most + step / 2.0 {
        let text = format!("{at:.1}");
        line((x(at), top), (x(at), bottom), (&text, x(at), bottom + 16.0, "middle"));
        at += step;
    }
    let _written = writeln!(
        svg,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{across}</text>",
        (left + right) / 2.0,
        bottom + 36.0
    );
    for ((at, (name, points)), colour) in series.iter().enumerate().zip(COLOURS.iter().cycle()) {
        let path: String = points.iter().map(|(value, share)| format!("{:.1},{:.1} ", x(*value), y(*share))).collect();
        let row = HEIGHT - 8.0 + at as f64 * LEGEND_ROW;
        let _written = writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"/><rect x=\"{left}\" y=\"{:.1}\" \
             width=\"12\" height=\"3\" fill=\"{colour}\"/><text x=\"{:.1}\" y=\"{:.1}\">{name}</text>",
            path.trim_end(),
            row - 5.0,
            left + 18.0,
            row
        );
    }
    svg.push_str("</svg>\n");
    svg
}
