//! The forms of a plan that other programs read or browsers show: a graph in the language of
//! Graphviz, and a page.

use std::fmt::Write;

use super::memory;
use super::plan::{Operand, PlanView, StepView};
use crate::report::page::{escape, shell};
use crate::text::{bytes, grouped};

/// Notes of what the views leave out.
pub const NOT_SHOWN: &str = "not shown: the kernels' scratch memory, and the time that a step takes";

/// The steps as a graph for Graphviz's `dot`: an arrow for each tensor that one step writes and
/// another reads.
pub fn dot(view: &PlanView) -> String {
    let mut text = String::from("digraph plan {\n  node [shape=box, fontname=\"sans-serif\"];\n");
    let quoted = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
    for (number, step) in view.steps.iter().enumerate() {
        let (op, layer) = (quoted(&step.op), quoted(&step.layer));
        let _ = writeln!(text, "  s{number} [label=\"{number} {op}\\n{layer}\"];");
        for input in &step.inputs {
            if let Some(from) = input.from {
                let _ = writeln!(text, "  s{from} -> s{number} [label=\"{}\"];", quoted(&input.ty));
            }
        }
    }
    text + "}\n"
}

/// A page: the memory's picture, what the rules did, and all steps.
pub fn page(view: &PlanView, title: &str) -> String {
    let mut body = format!("<h1>{}</h1><div class=\"tiles\">", escape(title));
    let mut tile = |value: String, name: &str| {
        let _ = write!(body, "<div class=\"tile\"><b>{value}</b><span>{name}</span></div>");
    };
    let flops: u64 = view.steps.iter().map(|step| step.flops).sum();
    tile(grouped(view.steps.len()), "steps");
    tile(format!("{:.2}", flops as f64 / 1e9), "GFLOP a run");
    tile(bytes(view.traffic[1].max(0) as u64), "read and written a run");
    tile(bytes(view.peak.as_ref().map_or(0, |peak| peak.bytes) as u64), "alive at most");
    tile(bytes(view.slots.iter().sum::<usize>() as u64), "of slots");
    tile(bytes(view.states.iter().map(|(_, bytes)| bytes).sum::<usize>() as u64), "of states");
    body.push_str(
        "</div>\n<h2>Memory</h2><p class=\"muted\">A box is a value in its slot, from the step \
        that writes it to the last one that reads it; its colour is the layer's. Point at one for its name. \
        The curve is what is alive; the slots below it hold that and the room between.</p>",
    );
    body.push_str(&memory::picture(view));
    rewrites(&mut body, view);
    steps(&mut body, view);
    let _ = write!(body, "<p class=\"muted\">{NOT_SHOWN}</p>");
    shell(title, &body)
}

fn rewrites(body: &mut String, view: &PlanView) {
    if view.rewrites.is_empty() {
        return;
    }
    let [before, after] = view.traffic.map(|bytes| self::bytes(bytes.max(0) as u64));
    let (nodes, steps) = (view.nodes_before, view.steps.len());
    let _ = write!(
        body,
        "<h2>Rules</h2><p class=\"muted\">{nodes} nodes became {steps} steps; {before} that were read and \
         written became {after}.</p><div class=\"wide\"><table><thead><tr><th>rule<th class=\"text\">layer<th>saves\
         <th class=\"text\">what it replaces</thead><tbody>"
    );
    for rewrite in &view.rewrites {
        let [rule, layer, replaces] =
            [&rewrite.rule, &rewrite.layer, &rewrite.replaces].map(|text| escape(text));
        let saved = signed_bytes(rewrite.saved_bytes);
        let _ =
            write!(body, "<tr><td>{rule}<td class=\"text\">{layer}<td>{saved}<td class=\"text\">{replaces}");
    }
    body.push_str("</tbody></table></div>");
}

fn steps(body: &mut String, view: &PlanView) {
    body.push_str(
        "<h2>Steps</h2><div class=\"wide\"><table><thead><tr><th>step<th class=\"text\">op<th class=\"text\">layer\
         <th>MFLOP<th>MB<th class=\"text\">reads<th class=\"text\">writes</thead><tbody>",
    );
    for (number, step) in view.steps.iter().enumerate() {
        let StepView { op, layer, flops, bytes, settings, .. } = step;
        let [op, layer, settings] = [op, layer, settings].map(|text| escape(text));
        let (mflop, mb) = (*flops as f64 / 1e6, *bytes as f64 / 1e6);
        let [reads, writes] = [&step.inputs, &step.outputs].map(|list| escape(&operands(list)));
        let once = if step.once { " (once)" } else { "" };
        let _ = write!(
            body,
            "<tr><td>{number}{once}<td class=\"name\" title=\"{settings}\">{op}<td class=\"text\">{layer}<td>{mflop:.2}<td>{mb:.2}\
             <td class=\"text\">{reads}<td class=\"text\">{writes}"
        );
    }
    body.push_str("</tbody></table></div>");
}

/// Places and types of tensors: `#3 f32[2, 3]`.
pub fn operands(list: &[Operand]) -> String {
    list.iter().map(|operand| format!("{} {}", operand.place, operand.ty)).collect::<Vec<_>>().join(", ")
}

/// Bytes that may be fewer than none.
pub fn signed_bytes(count: i64) -> String {
    let size = bytes(count.unsigned_abs());
    if count < 0 { format!("-{size}") } else { size }
}
