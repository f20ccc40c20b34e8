//! The picture of a plan's memory: a box a value, as wide as its life and as high as its slot.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::plan::PlanView;
use crate::report::page::escape;
use crate::text::bytes;

const WIDTH: f64 = 1000.0;
/// Height of the slots together.
const HEIGHT: f64 = 520.0;
/// Height of the curve above them.
const CURVE: f64 = 110.0;
const GAP: f64 = 16.0;

/// The picture as SVG: above, the bytes that are alive at each step, with the largest number
/// marked; below, the slots, whose boxes have the colour of the layer that wrote them.
pub fn picture(view: &PlanView) -> String {
    let total: usize = view.slots.iter().sum();
    let (Some(peak), true) = (&view.peak, total > 0) else {
        return "<p class=\"muted\">The plan has no temporary memory.</p>".into();
    };
    let step = WIDTH / view.steps.len() as f64;
    let mut svg = format!(
        "<svg viewBox=\"0 0 {WIDTH} {}\" role=\"img\" aria-label=\"memory by step\">",
        CURVE + GAP + HEIGHT + 20.0
    );
    let height = |alive: usize| CURVE - (CURVE - 20.0) * alive as f64 / peak.bytes as f64;
    let mut points = String::new();
    for (number, alive) in view.alive().into_iter().enumerate() {
        for x in [number, number + 1] {
            let _ = write!(points, "{:.1},{:.1} ", x as f64 * step, height(alive));
        }
    }
    let _ = write!(svg, "<polyline class=\"train\" points=\"{points}\"/>");
    let middle = (peak.step as f64 + 0.5) * step;
    let anchor = if middle > WIDTH / 2.0 { "end" } else { "start" };
    let label = format!("{} at step {}, {}", bytes(peak.bytes as u64), peak.step, view.name(peak.step));
    let _ = write!(
        svg,
        "<line class=\"stage\" x1=\"{middle:.1}\" x2=\"{middle:.1}\" y1=\"14\" y2=\"{:.1}\"/>\
         <text x=\"{middle:.1}\" y=\"11\" text-anchor=\"{anchor}\">{}</text>",
        CURVE + GAP + HEIGHT,
        escape(&label)
    );
    boxes(&mut svg, view, HEIGHT / total as f64, step);
    let end = CURVE + GAP + HEIGHT + 15.0;
    let _ = write!(svg, "<text x=\"0\" y=\"{end}\">step 0</text>");
    let _ = write!(
        svg,
        "<text x=\"{WIDTH}\" y=\"{end}\" text-anchor=\"end\">step {}</text></svg>",
        view.steps.len() - 1
    );
    svg
}

fn boxes(svg: &mut String, view: &PlanView, byte: f64, step: f64) {
    let mut tops = vec![CURVE + GAP];
    tops.extend(view.slots.iter().scan(CURVE + GAP, |top, &slot| {
        *top += byte * slot as f64;
        Some(*top)
    }));
    let hues = hues(view);
    for life in &view.lives {
        let (x, width) = (life.first as f64 * step, (life.last - life.first + 1) as f64 * step);
        let (first, last) = (life.first, life.last);
        let title = format!("{}: {}, steps {first} to {last}", life.written_by, bytes(life.bytes as u64));
        let _ = write!(
            svg,
            "<rect class=\"life\" x=\"{x:.1}\" y=\"{:.2}\" width=\"{width:.1}\" height=\"{:.2}\" \
             fill=\"hsl({},55%,58%)\"><title>{}</title></rect>",
            tops[life.slot],
            byte * life.bytes as f64,
            hues[life.layer.as_str()],
            escape(&title)
        );
    }
}

/// A colour for each layer, in order; neighbours differ.
fn hues(view: &PlanView) -> BTreeMap<&str, usize> {
    let mut hues = BTreeMap::new();
    for life in &view.lives {
        let next = hues.len() * 137 % 360;
        hues.entry(life.layer.as_str()).or_insert(next);
    }
    hues
}
