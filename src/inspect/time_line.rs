//! The page of a trace: a bar a step, as wide as its time; a roofline; and all figures.

use std::fmt::Write;

use super::roofline;
use super::trace::{Figures, NOT_SHOWN, TimedStep, Trace, milliseconds, percent};
use crate::report::axis::Axis;
use crate::report::page::{escape, shell};
use crate::text::{figure, rate};

const WIDTH: f64 = 1000.0;
const BAR: f64 = 56.0;
/// Height of the ruler below the bars.
const RULER: f64 = 22.0;
/// Width of a letter, for what fits a bar.
const LETTER: f64 = 7.2;

/// Shares of the peak from which on a bar has the next colour.
const LEVELS: [f64; 4] = [0.25, 0.5, 0.75, 1.0];

/// The page of a trace.
pub fn page(trace: &Trace, title: &str) -> String {
    let mut body = format!("<h1>{}</h1><div class=\"tiles\">", escape(title));
    let mut tile = |value: String, name: &str| {
        let _ = write!(body, "<div class=\"tile\"><b>{value}</b><span>{name}</span></div>");
    };
    tile(format!("{:.2} ms", trace.unprofiled * 1e3), "a run");
    tile(format!("{:.2} ms", trace.sum() * 1e3), "its steps, one by one");
    tile(trace.steps.len().to_string(), "steps");
    if let (Some(peak), Some(share)) = (trace.peak, trace.share_of_all()) {
        tile(percent(Some(share)), "of the peak");
        tile(rate(peak.flops, "FLOP"), "peak of arithmetic");
        tile(rate(peak.bytes, "B"), "peak of memory");
    }
    body.push_str("</div>\n<h2>Time</h2>");
    legend(&mut body, trace);
    let _ = write!(body, "<div class=\"wide\">{}</div>", bars(trace));
    body.push_str("<h2>Roofline</h2>");
    body.push_str(&roofline::picture(trace));
    table(&mut body, trace);
    let _ = write!(body, "<p class=\"muted\">{}</p>", escape(NOT_SHOWN));
    shell(title, &body)
}

/// The class of a step's colour in the style of pages.
pub fn colour(trace: &Trace, step: &TimedStep) -> &'static str {
    const CLASSES: [&str; LEVELS.len() + 1] = ["share0", "share1", "share2", "share3", "share4"];
    match trace.share(step) {
        Some(share) => CLASSES[LEVELS.iter().filter(|level| share >= **level).count()],
        None => "share",
    }
}

/// What a step is and takes, in a line: what is shown where one points at it.
pub fn told(trace: &Trace, step: &TimedStep) -> String {
    let mut text = format!("{} {}: {} ms", step.number, step.name(), figure(step.seconds * 1e3));
    for (amount, unit) in [(step.flops, "GFLOP/s"), (step.bytes, "GB/s")] {
        if let Some(rate) = step.rate(amount) {
            let _ = write!(text, ", {} {unit}", figure(rate / 1e9));
        }
    }
    if let (Some(peak), Some(share)) = (trace.peak, trace.share(step)) {
        let _ = write!(text, ", {} of peak, bound by {}", percent(Some(share)), step.bound(peak).name());
    }
    escape(&text)
}

fn legend(body: &mut String, trace: &Trace) {
    body.push_str(
        "<p class=\"muted\">A bar is a step, as wide as its time; point at one for its figures. They lie end to \
         end, in the order of the plan.",
    );
    if trace.peak.is_none() {
        body.push_str(" The device has no peaks to compare with.</p>");
        return;
    }
    body.push_str(
        " The colour is the share of the measured peak, of arithmetic or of memory, whichever binds; above \
         100 % data came from a cache, or fewer products did.</p><p>",
    );
    let names = ["below 25 %", "25 to 50 %", "50 to 75 %", "75 to 100 %", "above"];
    for (level, name) in names.iter().enumerate() {
        let _ = write!(body, "<span class=\"key share{level}\">{name}</span> ");
    }
    body.push_str("</p>");
}

fn bars(trace: &Trace) -> String {
    let sum = trace.sum().max(f64::MIN_POSITIVE);
    let mut svg = format!(
        "<svg class=\"broad\" viewBox=\"0 0 {WIDTH} {}\" role=\"img\" aria-label=\"time by step\">",
        BAR + RULER
    );
    let mut begin = 0.0;
    for step in &trace.steps {
        let width = WIDTH * step.seconds / sum;
        let (class, title) = (colour(trace, step), told(trace, step));
        let _ = write!(
            svg,
            "<g><title>{title}</title><rect class=\"bar {class}\" x=\"{begin:.2}\" y=\"0\" width=\"{width:.2}\" \
             height=\"{BAR}\"/>"
        );
        for (text, y) in [(step.op, 24.0), (step.layer.as_str(), 42.0)] {
            if text.chars().count() as f64 * LETTER + 6.0 < width {
                let (x, text) = (begin + 3.0, escape(text));
                let _ = write!(svg, "<text class=\"on\" x=\"{x:.2}\" y=\"{y}\">{text}</text>");
            }
        }
        svg.push_str("</g>");
        begin += width;
    }
    let ms = sum * 1e3;
    let axis = Axis::of_values([0.0, ms].into_iter(), (0.0, ms));
    for tick in axis.ticks().into_iter().filter(|tick| *tick <= ms) {
        let (x, label, y) = (WIDTH * tick / ms, axis.label(tick), BAR + RULER - 6.0);
        let anchor = match x {
            0.0 => "start",
            x if x > WIDTH - 3.0 * LETTER => "end",
            _ => "middle",
        };
        let _ = write!(svg, "<path class=\"grid\" d=\"M{x:.1} {BAR}v5\"/>");
        let _ = write!(svg, "<text x=\"{x:.1}\" y=\"{y}\" text-anchor=\"{anchor}\">{label} ms</text>");
    }
    svg + "</svg>"
}

fn table(body: &mut String, trace: &Trace) {
    body.push_str(
        "<h2>Steps</h2><div class=\"wide\"><table><thead><tr><th>step<th class=\"name\">op<th class=\"name\">layer\
         <th>ms<th>GFLOP/s<th>GB/s<th>of peak<th class=\"name\">bound by</thead><tbody>",
    );
    for step in &trace.steps {
        let Figures { ms, gflops, gbs, share, bound } = trace.figures(step);
        let (number, op, layer) = (step.number, escape(step.op), escape(&step.layer));
        let class = colour(trace, step);
        let _ = write!(
            body,
            "<tr><td>{number}<td class=\"name\">{op}<td class=\"name\">{layer}<td>{ms}<td>{gflops}<td>{gbs}\
             <td><span class=\"key {class}\">{share}</span><td class=\"name\">{bound}"
        );
    }
    let (ms, share) = (milliseconds(trace.sum()), percent(trace.share_of_all()));
    let _ = write!(
        body,
        "<tr><th><th class=\"name\">sum<th><th>{ms}<th><th><th>{share}<th></tbody></table></div>"
    );
}
