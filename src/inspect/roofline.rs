//! The roofline of a trace: a dot a step, by its operations a byte and a second, under the two
//! peaks of the machine.

use std::fmt::Write;

use super::time_line::{colour, told};
use super::trace::{TimedStep, Trace};
use crate::kernels::peak::Peak;
use crate::report::axis::Axis;
use crate::text::rate;

const WIDTH: f64 = 520.0;
const HEIGHT: f64 = 340.0;
const LEFT: f64 = 44.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 16.0;
const BOTTOM: f64 = 38.0;

/// Radius of the dot of the longest step; areas are as the times.
const LARGEST_DOT: f64 = 11.0;
const SMALLEST_DOT: f64 = 2.0;

/// Where a step stands: the decimal logarithms of its operations a byte, and of its GFLOP/s.
fn place(step: &TimedStep) -> Option<(f64, f64)> {
    let rate = step.rate(step.flops)?;
    (step.bytes > 0).then(|| ((step.flops as f64 / step.bytes as f64).log10(), (rate / 1e9).log10()))
}

struct Scale {
    x: Axis,
    y: Axis,
}

impl Scale {
    /// Takes in all steps, and the corner of the roof.
    fn of(places: &[(f64, f64)], peak: Peak) -> Scale {
        let corner = (peak.flops / peak.bytes).log10();
        let top = (peak.flops / 1e9).log10();
        let axis = |values: &mut dyn Iterator<Item = f64>, corner: f64| {
            let (low, high) = values
                .fold((corner - 1.0, corner + 0.7), |(low, high), value| (value.min(low), value.max(high)));
            Axis::of_decades(low - 0.15, high + 0.15)
        };
        Scale {
            x: axis(&mut places.iter().map(|place| place.0), corner),
            y: axis(&mut places.iter().map(|place| place.1), top),
        }
    }

    fn x(&self, value: f64) -> f64 {
        LEFT + (WIDTH - LEFT - RIGHT) * self.x.share(value)
    }

    fn y(&self, value: f64) -> f64 {
        HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * self.y.share(value)
    }
}

/// The picture as SVG, with a word about what is not in it.
pub fn picture(trace: &Trace) -> String {
    let Some(peak) = trace.peak else {
        return "<p class=\"muted\">The device has no peaks to draw roofs of.</p>".into();
    };
    let placed: Vec<(&TimedStep, (f64, f64))> =
        trace.steps.iter().filter_map(|step| Some((step, place(step)?))).collect();
    let places: Vec<(f64, f64)> = placed.iter().map(|(_, place)| *place).collect();
    let scale = Scale::of(&places, peak);
    let mut svg = format!(
        "<svg class=\"picture roofline\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"roofline\">"
    );
    axes(&mut svg, &scale);
    roofs(&mut svg, &scale, peak);
    let longest = trace.steps.iter().map(|step| step.seconds).fold(f64::MIN_POSITIVE, f64::max);
    for (step, (x, y)) in placed {
        let radius = (LARGEST_DOT * (step.seconds / longest).sqrt()).max(SMALLEST_DOT);
        let (x, y, class, title) = (scale.x(x), scale.y(y), colour(trace, step), told(trace, step));
        let _ = write!(
            svg,
            "<circle class=\"bar {class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius:.1}\"><title>{title}</title></circle>"
        );
    }
    let missing = trace.steps.len() - places.len();
    format!(
        "<p class=\"muted\">A dot is a step, as large as its time: how many operations it has for each byte that it \
         reads or writes, and how many it did a second. No dot can lie above the roofs but from a cache, or by fewer \
         products. {missing} steps have no dot: they multiply no matrices, or take less than the clock sees.</p>{svg}</svg>"
    )
}

fn axes(svg: &mut String, scale: &Scale) {
    let (bottom, right) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
    let number = |tick: f64| match tick {
        0.0..4.0 => format!("{:.0}", 10f64.powf(tick)),
        -3.0..0.0 => format!("{:.*}", -tick as usize, 10f64.powf(tick)),
        _ => format!("1e{tick:.0}"),
    };
    for tick in scale.x.ticks() {
        let (x, label) = (scale.x(tick), number(tick));
        let _ = write!(svg, "<path class=\"grid\" d=\"M{x:.1} {TOP}V{bottom}\"/>");
        let _ =
            write!(svg, "<text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{label}</text>", bottom + 15.0);
    }
    for tick in scale.y.ticks() {
        let (y, label) = (scale.y(tick), number(tick));
        let _ = write!(svg, "<path class=\"grid\" d=\"M{LEFT} {y:.1}H{right}\"/>");
        let (x, y) = (LEFT - 5.0, y + 4.0);
        let _ = write!(svg, "<text x=\"{x}\" y=\"{y:.1}\" text-anchor=\"end\">{label}</text>");
    }
    let middle = (LEFT + right) / 2.0;
    let _ =
        write!(svg, "<text x=\"{middle}\" y=\"{}\" text-anchor=\"middle\">FLOP a byte</text>", HEIGHT - 5.0);
    let _ = write!(svg, "<text x=\"0\" y=\"11\">GFLOP/s</text>");
}

/// The two peaks, from the left edge over their corner to the right one.
fn roofs(svg: &mut String, scale: &Scale, peak: Peak) {
    let (memory, arithmetic) = ((peak.bytes / 1e9).log10(), (peak.flops / 1e9).log10());
    let corner = arithmetic - memory;
    // The slope begins where it enters the picture: at the left or at the bottom.
    let left = scale.x.low.max(scale.y.low - memory);
    let points = [(left, left + memory), (corner, arithmetic), (scale.x.high, arithmetic)];
    let points: Vec<String> =
        points.iter().map(|&(x, y)| format!("{:.1},{:.1}", scale.x(x), scale.y(y))).collect();
    let _ = write!(svg, "<polyline class=\"train\" points=\"{}\"/>", points.join(" "));
    let (x, y) = (scale.x(corner) - 8.0, scale.y(arithmetic) + 4.0);
    let _ = write!(
        svg,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"end\">{}</text>",
        rate(peak.flops, "FLOP")
    );
    let middle = (left + corner) / 2.0;
    let (x, y) = (scale.x(middle) - 6.0, scale.y(middle + memory) - 4.0);
    let _ =
        write!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"end\">{}</text>", rate(peak.bytes, "B"));
}
