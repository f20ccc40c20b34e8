//! Steps of a plan that are worth running tile by tile (fused-layer tiling).
//!
//! Instead of all workers on one step after the other, each takes a part of the data through all of
//! them, so that what lies between stays in its own cache and nobody waits for anybody. It changes
//! no bit of the results. There are two kinds:
//!
//! - Of a batch, each worker takes a few images ([`Axis::Batch`]) through the longest run of steps
//!   that treat every image by itself: inference.
//! - Of a single image that is large, each takes a band of rows ([`Axis::Rows`]) of a chain's last
//!   output, and for it the few rows of each output before that it needs. Neighbouring bands
//!   compute the rows at their common border twice.

use std::ops::Range;

use super::tiles::{Segment, TiledStep};
use crate::exec::plan::{Location, Plan, Step};
use crate::ops::cpu_step::{CpuStep, CpuTarget};
use crate::ops::{Axis, Tile};

/// A shorter run of steps is not worth the copies at its ends.
const SHORTEST: usize = 3;

/// Elements of the largest activation of a few images (3 MB): more would leave the caches, fewer
/// read the weights more often.
const IMAGES: usize = 3 << 18;

/// Elements of what lies between two steps that are worth the rows computed twice (512 KB), at
/// least.
const LARGE: usize = 1 << 17;

/// Elements of what lies between two steps that a worker has at a time, at most (512 KB).
const BAND: usize = 1 << 17;

/// Multiplications with the rows computed twice, to those without them, at most.
const MOST_WORK: f64 = 1.1;

/// All segments of a plan whose steps do `work`; without their memory.
pub fn find(plan: &Plan, work: &[CpuStep], target: CpuTarget) -> Vec<Segment> {
    match images(plan, work, target.threads) {
        Some(segment) => vec![segment],
        None => chains(plan, work, target),
    }
}

/// Whether what lies in a slot is read from step `after` on, or by the host, before something else
/// is written there.
pub fn is_needed(plan: &Plan, after: usize, slot: usize) -> bool {
    let location = Location::Slot(slot);
    for step in &plan.steps[after..] {
        if step.inputs.contains(&location) {
            return true;
        }
        if step.outputs.contains(&location) {
            return false;
        }
    }
    plan.outputs.iter().any(|binding| binding.location == location)
}

/// The batch of a step that treats every image by itself, if what belongs to the batch lies in
/// slots.
fn batch_of(step: &Step, work: &CpuStep) -> Option<usize> {
    let batch = *step.types.outputs[0].dims().first()?;
    let tile = step.op.tile(&step.types, Axis::Batch, 0..batch).filter(|_| work.splits && batch > 1)?;
    let mut locations = tile.cut.iter().map(|&i| step.inputs[i]).chain(step.outputs.iter().copied());
    locations.all(|location| matches!(location, Location::Slot(_))).then_some(batch)
}

/// The longest run of steps that treat the same batch image by image, and the batch.
fn longest(plan: &Plan, work: &[CpuStep]) -> Option<(Range<usize>, usize)> {
    let batches: Vec<Option<usize>> =
        plan.steps.iter().zip(work).map(|(step, work)| batch_of(step, work)).collect();
    let mut next = plan.constants;
    let runs = batches[next..].chunk_by(|a, b| a == b).filter_map(|run| {
        let steps = next..next + run.len();
        next = steps.end;
        run[0].map(|batch| (steps, batch))
    });
    runs.max_by_key(|(steps, _)| steps.len()).filter(|(steps, _)| steps.len() >= SHORTEST)
}

/// Whether a step takes for the same for every image, such as weights, what the steps themselves
/// compute image by image.
fn reads_what_it_splits(steps: &[Step], tiles: &[Tile]) -> bool {
    let computed: Vec<Location> = steps.iter().flat_map(|step| step.outputs.iter().copied()).collect();
    steps.iter().zip(tiles).any(|(step, tile)| {
        let mut whole = step.inputs.iter().enumerate().filter(|(i, _)| !tile.cut.contains(i));
        whole.any(|(_, location)| computed.contains(location))
    })
}

/// Images of a tile: as many as the caches hold, but not so few tiles that workers would wait long
/// for the last one.
fn images_of_a_tile(batch: usize, largest: usize, threads: usize) -> Option<usize> {
    let mut sizes = (1..=batch).rev().filter(|size| batch.is_multiple_of(*size));
    let fits = |size: &usize| {
        let tiles = batch / size;
        let balanced = tiles >= 4 * threads || *size == 1 && tiles.is_multiple_of(threads);
        balanced && (size * largest <= IMAGES || *size == 1)
    };
    sizes.find(fits)
}

/// Steps that are worth running a few images at a time.
fn images(plan: &Plan, work: &[CpuStep], threads: usize) -> Option<Segment> {
    let (range, batch) = longest(plan, work)?;
    let steps = &plan.steps[range.clone()];
    let elements = |step: &Step| step.types.outputs[0].len() / batch;
    let size = images_of_a_tile(batch, steps.iter().map(elements).max()?, threads)?;
    let tile = |step: &Step| step.op.tile(&step.types, Axis::Batch, 0..size);
    let tiles: Vec<Tile> = steps.iter().map(tile).collect::<Option<_>>()?;
    if reads_what_it_splits(steps, &tiles) {
        return None;
    }
    // All tiles are alike, but for where they begin.
    let first: Vec<TiledStep> = tiles.iter().map(TiledStep::new).collect();
    let from = |tile: usize| first.iter().map(|step| step.starting_at(tile * size)).collect();
    Segment::new(plan, range, Axis::Batch, (0..batch / size).map(from).collect())
}

/// Whether the output of step `index` is large and read by the next step only, as input 0.
fn leads_on(plan: &Plan, index: usize) -> bool {
    let [step, next] = &plan.steps[index..index + 2] else { return false };
    let &[location @ Location::Slot(slot)] = &step.outputs[..] else { return false };
    let read = next.inputs.first() == Some(&location) && !next.inputs[1..].contains(&location);
    read && step.types.outputs[0].len() >= LARGE && !is_needed(plan, index + 2, slot)
}

/// Each of the steps, for these rows of the last one's output.
fn band(steps: &[Step], mut rows: Range<usize>) -> Option<Vec<Tile>> {
    let mut tiles = Vec::new();
    for step in steps.iter().rev() {
        let tile = step.op.tile(&step.types, Axis::Rows, rows).filter(|tile| tile.cut == [0])?;
        rows = tile.input.clone();
        tiles.push(tile);
    }
    tiles.reverse();
    Some(tiles)
}

/// Elements of the largest of what lies between the steps.
fn between(bands: &[Vec<Tile>]) -> usize {
    let outputs = bands.iter().flat_map(|band| &band[..band.len() - 1]);
    outputs.map(|tile| tile.types.outputs[0].len()).max().unwrap_or(0)
}

/// The fewest bands that the workers' caches hold, if they do not take too much work.
fn bands(steps: &[Step], threads: usize) -> Option<Vec<Vec<Tile>>> {
    let height = *steps.last()?.types.outputs[0].dims().get(1)?;
    let split = |count: usize| {
        let rows = (0..count).map(|i| height * i / count..height * (i + 1) / count);
        rows.map(|rows| band(steps, rows)).collect::<Option<Vec<_>>>()
    };
    let counts = (1..=height / threads).map(|each| each * threads);
    let bands = counts.map_while(split).find(|bands| between(bands) <= BAND)?;
    let whole: u64 = steps.iter().map(|step| step.op.cost(&step.types).flops).sum();
    let work: u64 = bands.iter().flatten().map(|tile| tile.op.cost(&tile.types).flops).sum();
    (work as f64 <= MOST_WORK * whole as f64).then_some(bands)
}

/// All chains of a plan for a single image, for so many workers.
fn chains(plan: &Plan, work: &[CpuStep], target: CpuTarget) -> Vec<Segment> {
    let (mut chains, mut next) = (Vec::new(), plan.constants);
    let lies_in_a_slot = |location: Option<&Location>| matches!(location, Some(Location::Slot(_)));
    while next < plan.steps.len() {
        let first = next;
        let linked = |&last: &usize| leads_on(plan, last - 1);
        let ranges = (first + 1..plan.steps.len()).take_while(linked).map(|last| first..last + 1);
        let found = ranges.filter_map(|range| {
            let steps = &plan.steps[range.clone()];
            let ends = [steps[0].inputs.first(), steps[steps.len() - 1].outputs.first()];
            let fits =
                ends.into_iter().all(lies_in_a_slot) && work[range.clone()].iter().all(|work| work.splits);
            let bands = fits.then(|| bands(steps, target.threads))??;
            Some((range, bands))
        });
        let longest = found.last();
        next = longest.as_ref().map_or(first + 1, |(range, _)| range.end);
        chains.extend(longest.and_then(|(range, bands)| {
            let tiles = bands.iter().map(|band| band.iter().map(TiledStep::new).collect()).collect();
            Segment::new(plan, range, Axis::Rows, tiles)
        }));
    }
    chains
}

#[cfg(test)]
mod tests {
    use super::super::rules::RULES;
    use super::*;
    use crate::error::Result;
    use crate::graph::Graph;
    use crate::graph::rewrite::rewrite;
    use crate::kernels::simd::Isa;
    use crate::ops::Function;
    use crate::ops::conv::{Conv, Padding};
    use crate::ops::map::unary::Unary;
    use crate::tensor::TensorType;

    #[test]
    fn tiles_fit_the_caches_and_come_out_even() {
        let mib = 1 << 18;
        assert_eq!(images_of_a_tile(32, 3 * mib, 2), Some(1));
        assert_eq!(images_of_a_tile(64, mib / 2, 2), Some(4));
        assert_eq!(images_of_a_tile(64, 1, 2), Some(8), "eight tiles, so that two workers end together");
        assert_eq!(images_of_a_tile(12, 9 * mib, 3), Some(1), "larger than the caches, but alone");
        assert_eq!(images_of_a_tile(12, 1, 5), None, "some workers would have two tiles, others three");
    }

    /// Strides and channels of MobileNet v1's blocks.
    const BLOCKS: [(usize, usize); 13] = [
        (1, 64),
        (2, 128),
        (1, 128),
        (2, 256),
        (1, 256),
        (2, 512),
        (1, 512),
        (1, 512),
        (1, 512),
        (1, 512),
        (1, 512),
        (2, 1024),
        (1, 1024),
    ];

    /// Such a network for an image of this size: a stem, and blocks of a depthwise and a pointwise
    /// convolution, whose layers are their numbers.
    fn network(size: usize) -> Result<Graph> {
        let mut graph = Graph::new();
        let mut x = graph.input("x", TensorType::f32([1, size, size, 3]));
        let conv = |graph: &mut Graph, x, kernel, stride, depth, channels, groups| {
            let number = graph.nodes().len();
            let w = graph.state(&format!("w{number}"), TensorType::f32([kernel, kernel, depth, channels]))?;
            let b = graph.state(&format!("b{number}"), TensorType::f32([channels]))?;
            let y = graph.apply1(Conv::new(stride, Padding::Same, groups).with_bias(), &[x, w, b])?;
            graph.apply1(Unary { function: Function::Relu6 }, &[y])
        };
        graph.set_layer("stem");
        x = conv(&mut graph, x, 3, 2, 3, 32, 1)?;
        for (number, (stride, channels)) in BLOCKS.into_iter().enumerate() {
            graph.set_layer(&number.to_string());
            let depth = graph.ty(x).shape.last();
            x = conv(&mut graph, x, 3, stride, 1, depth, depth)?;
            x = conv(&mut graph, x, 1, 1, depth, channels, 1)?;
        }
        graph.output("y", x);
        Ok(graph)
    }

    /// The layers of the steps that run in bands.
    fn chains_of(size: usize) -> Vec<Vec<String>> {
        let mut graph = network(size).unwrap();
        rewrite(&mut graph, RULES).unwrap();
        let plan = Plan::compile(&graph).unwrap();
        let target = CpuTarget { isa: Isa::detect(), threads: 2 };
        let work: Vec<CpuStep> = plan.steps.iter().map(|step| step.op.cpu(&step.types, target)).collect();
        let layers = |segment: &Segment| {
            plan.steps[segment.steps()].iter().map(|step| step.layer.clone()).collect::<Vec<_>>()
        };
        find(&plan, &work, target).iter().map(layers).collect()
    }

    #[test]
    fn large_layers_run_in_bands() {
        let expected = [&["stem", "0", "1"][..], &["2", "3"], &["4", "5"]];
        assert_eq!(chains_of(224), expected);
        assert!(chains_of(64).is_empty());
    }
}
