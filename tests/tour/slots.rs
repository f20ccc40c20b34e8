//! The picture of a plan's memory: slots down, steps across.

use std::fmt::Write;

use cifar_engine::exec::plan::{Location, Plan};

/// Width of a step.
const COLUMN: usize = 24;
/// Height of a slot.
const ROW: usize = 20;
/// Where the first step and the first slot begin.
const ORIGIN: [usize; 2] = [72, 24];

/// A value in a slot: the steps from the one that writes it to the last one that reads it.
struct Tenant {
    name: String,
    first: usize,
    last: usize,
    /// Whether it stays from run to run.
    stays: bool,
}

/// The values that live in a slot, one after the other.
fn tenants(plan: &Plan, slot: usize) -> Vec<Tenant> {
    let here = Location::Slot(slot);
    let steps = plan.steps.len();
    if let Some(io) = plan.inputs.iter().chain(&plan.outputs).find(|io| io.location == here) {
        return vec![Tenant { name: io.name.clone(), first: 0, last: steps - 1, stays: true }];
    }
    let mut tenants: Vec<Tenant> = Vec::new();
    for (number, step) in plan.steps.iter().enumerate() {
        let (reads, writes) = (step.inputs.contains(&here), step.outputs.contains(&here));
        if let Some(tenant) = tenants.last_mut().filter(|tenant| reads && !tenant.stays) {
            // What works in place begins another value where this one ends.
            tenant.last = number - usize::from(writes);
        }
        if writes {
            let stays = number < plan.constants;
            let last = if stays { steps - 1 } else { number };
            tenants.push(Tenant { name: step.op.name().into(), first: number, last, stays });
        }
    }
    tenants
}

/// The picture, as HTML of a page of documentation.
pub fn picture(plan: &Plan) -> String {
    let [left, top] = ORIGIN;
    let (width, height) = (left + plan.steps.len() * COLUMN + 4, top + plan.slots.len() * ROW + 4);
    let mut svg = format!(
        "<figure>\n<svg role=\"img\" aria-label=\"Which step of the plan uses which slot\" viewBox=\"0 0 {width} {height}\" \
         style=\"max-width: {width}px; width: 100%\" fill=\"currentColor\" font-size=\"12\">\n"
    );
    for number in 0..plan.steps.len() {
        let x = left + number * COLUMN + COLUMN / 2;
        writeln!(svg, "<text x=\"{x}\" y=\"14\" text-anchor=\"middle\">{}</text>", number + 1).unwrap();
    }
    for (slot, size) in plan.slots.iter().enumerate() {
        let y = top + slot * ROW;
        writeln!(svg, "<text x=\"0\" y=\"{}\">#{slot}: {size}</text>", y + 14).unwrap();
        for Tenant { name, first, last, stays } in tenants(plan, slot) {
            let (x, wide) = (left + first * COLUMN + 1, (last + 1 - first) * COLUMN - 2);
            let opacity = if stays { 0.08 } else { 0.2 };
            writeln!(
                svg,
                "<rect x=\"{x}\" y=\"{y}\" width=\"{wide}\" height=\"16\" rx=\"3\" fill-opacity=\"{opacity}\" stroke=\"currentColor\" \
                 stroke-opacity=\"0.6\"><title>{name}, steps {} to {}</title></rect>",
                first + 1,
                last + 1
            )
            .unwrap();
            if 8 * name.len() < wide {
                writeln!(svg, "<text x=\"{}\" y=\"{}\">{name}</text>", x + 4, y + 12).unwrap();
            }
        }
    }
    svg + "</svg>\n<figcaption>Slots and their sizes down, steps across; each bar is named after the op that writes it.</figcaption>\n</figure>\n"
}
