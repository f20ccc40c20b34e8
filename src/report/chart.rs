//! A line chart as SVG, for the page: its text stays readable at any size, and its ink follows the
//! page's colours.

use std::fmt::Write;

use super::axis::{Axis, LARGEST};

const WIDTH: f64 = 420.0;
const HEIGHT: f64 = 260.0;
const LEFT: f64 = 48.0;
const RIGHT: f64 = 10.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 34.0;

/// A line: its name, which is also its CSS class, and (x, value).
pub(super) struct NamedSeries {
    pub name: &'static str,
    pub points: Vec<(f64, f64)>,
}

/// The chart of some lines over the epochs; values that are not finite leave a gap. A line upright
/// stands before the epoch that begins a second stage.
pub(super) fn svg(lines: &[NamedSeries], limits: (f64, f64), second_stage: Option<usize>) -> String {
    let points = || lines.iter().flat_map(|line| &line.points);
    let drawable = |value: &f64| value.abs() <= LARGEST;
    let last = points().map(|point| point.0).fold(1.0, f64::max);
    let x = Axis::of_epochs(1, last as usize);
    let y = Axis::of_values(points().map(|point| point.1).filter(drawable), limits);
    let at_x = |epoch: f64| LEFT + (WIDTH - LEFT - RIGHT) * x.share(epoch);
    let at_y = |value: f64| HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * y.share(value);
    let mut out = format!("<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\">");
    for tick in y.ticks() {
        let (at, label) = (at_y(tick), y.label(tick));
        let _ = write!(out, "<path class=\"grid\" d=\"M{LEFT} {at:.1}H{}\"/>", WIDTH - RIGHT);
        let _ = write!(
            out,
            "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>",
            LEFT - 6.0,
            at + 4.0
        );
    }
    for tick in x.ticks() {
        let (at, label) = (at_x(tick), x.label(tick));
        let below = HEIGHT - BOTTOM + 16.0;
        let _ = write!(out, "<text x=\"{at:.1}\" y=\"{below}\" text-anchor=\"middle\">{label}</text>");
    }
    let middle = (LEFT + WIDTH - RIGHT) / 2.0;
    let _ = write!(out, "<text x=\"{middle}\" y=\"{}\" text-anchor=\"middle\">epoch</text>", HEIGHT - 3.0);
    if let Some(epoch) = second_stage {
        let at = at_x(epoch as f64 - 0.5);
        let _ = write!(out, "<path class=\"stage\" d=\"M{at:.1} {TOP}V{}\"/>", HEIGHT - BOTTOM);
    }
    for NamedSeries { name, points } in lines {
        for part in points.split(|point| !drawable(&point.1)).filter(|part| !part.is_empty()) {
            let places: Vec<String> =
                part.iter().map(|&(x, y)| format!("{:.1},{:.1}", at_x(x), at_y(y))).collect();
            let _ = write!(out, "<polyline class=\"{name}\" points=\"{}\"/>", places.join(" "));
        }
        if let [(x, y)] = points[..]
            && drawable(&y)
        {
            // A single epoch makes no line.
            let _ =
                write!(out, "<circle class=\"{name}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\"/>", at_x(x), at_y(y));
        }
    }
    out + "</svg>"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_cannot_be_drawn_leave_a_gap() {
        let points = [1.0, 0.5, f64::NAN, 0.25, 0.2].iter().enumerate();
        let line = NamedSeries { name: "train", points: points.map(|(i, &y)| (i as f64 + 1.0, y)).collect() };
        let text = svg(&[line], (0.0, f64::INFINITY), Some(3));
        assert_eq!(text.matches("<polyline class=\"train\"").count(), 2);
        assert_eq!(text.matches("class=\"stage\"").count(), 1);
        assert!(!text.contains("NaN") && !text.contains("inf"), "{text}");
        assert!(svg(&[], (0.0, 1.0), None).ends_with("</svg>"));
        let one = NamedSeries { name: "validation", points: vec![(1.0, 0.5)] };
        assert!(svg(&[one], (0.0, 1.0), None).contains("<circle class=\"validation\""));
    }
}
