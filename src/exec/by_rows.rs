//! Inference in bands of rows. Where convolutions of a single picture follow each other and what lies between them is
//! large for a core's cache, a worker computes a few rows of the last one's output, and for them the few rows of each
//! output before it that they need: what lies between never leaves the cache. Neighbouring bands compute the rows at their
//! common border twice. It changes no bit of the results.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::together::{Shared, Together, is_needed};
use crate::graph::plan::{Place, Plan, Step};
use crate::kernels::parallel;
use crate::kernels::simd::Isa;
use crate::ops::{Band, CpuArgs, MAX_INPUTS, MAX_OUTPUTS};
use crate::tensor::Buffer;

/// What lies between two steps is worth the rows computed twice if it has at least this many elements (512 KB).
const LARGE: usize = 1 << 17;

/// Elements of what lies between two steps that a worker has at a time, at most (512 KB).
const BAND: usize = 1 << 17;

/// Multiplications with the rows computed twice, to those without them, at most.
const MOST_WORK: f64 = 1.1;

/// Steps of a plan that run band by band.
pub struct Chain {
    steps: Range<usize>,
    /// For one band after the other: each of the steps, for this band.
    bands: Vec<Vec<Band>>,
    /// The slots that the first step reads and the last one writes.
    ends: [usize; 2],
    /// The memory of all workers: what lies between, twice, and scratch.
    memory: Buffer,
    /// What the last step writes; it takes the place of its slot.
    result: Buffer,
    /// Nanoseconds that all workers together spent in each step.
    spent: Vec<AtomicU64>,
}

/// Whether the output of step `index` is large and read by the next step only, as input 0.
fn leads_on(plan: &Plan, index: usize) -> bool {
    let [step, next] = &plan.steps[index..index + 2] else { return false };
    let &[place @ Place::Slot(slot)] = &step.outputs[..] else { return false };
    let read = next.inputs.first() == Some(&place) && !next.inputs[1..].contains(&place);
    read && step.types.outputs[0].len() >= LARGE && !is_needed(plan, index + 2, slot)
}

/// Each of the steps, for these rows of the last one's output.
fn band(steps: &[Step], mut rows: Range<usize>) -> Option<Vec<Band>> {
    let mut bands = Vec::new();
    for step in steps.iter().rev() {
        let band = step.op.band(&step.types, rows)?;
        rows = band.input.clone();
        bands.push(band);
    }
    bands.reverse();
    Some(bands)
}

/// Elements of the largest of what lies between the steps.
fn between(bands: &[Vec<Band>]) -> usize {
    let outputs = bands.iter().flat_map(|band| &band[..band.len() - 1]);
    outputs.map(|band| band.types.outputs[0].len()).max().unwrap_or(0)
}

/// The fewest bands that the workers' caches hold, if they do not take too much work.
fn bands(steps: &[Step], threads: usize) -> Option<Vec<Vec<Band>>> {
    let height = *steps.last()?.types.outputs[0].dims().get(1)?;
    let split = |count: usize| {
        let rows = (0..count).map(|i| height * i / count..height * (i + 1) / count);
        rows.map(|rows| band(steps, rows)).collect::<Option<Vec<_>>>()
    };
    let counts = (1..=height / threads).map(|each| each * threads);
    let bands = counts.map_while(split).find(|bands| between(bands) <= BAND)?;
    let whole: u64 = steps.iter().map(|step| step.op.flops(&step.types)).sum();
    let work: u64 = bands.iter().flatten().map(|band| band.op.flops(&band.types)).sum();
    (work as f64 <= MOST_WORK * whole as f64).then_some(bands)
}

impl Chain {
    /// All chains of a plan for a single picture, for so many workers; without their memory.
    pub fn find(plan: &Plan, threads: usize) -> Vec<Chain> {
        let (mut chains, mut next) = (Vec::new(), plan.constants);
        while next < plan.steps.len() {
            let first = next;
            let linked = |&last: &usize| leads_on(plan, last - 1);
            let ranges = (first + 1..plan.steps.len()).take_while(linked).map(|last| first..last + 1);
            let found = ranges.filter_map(|steps| {
                let bands = bands(&plan.steps[steps.clone()], threads)?;
                Chain::new(plan, steps, bands)
            });
            let longest = found.last();
            next = longest.as_ref().map_or(first + 1, |chain| chain.steps.end);
            chains.extend(longest);
        }
        chains
    }

    fn new(plan: &Plan, steps: Range<usize>, bands: Vec<Vec<Band>>) -> Option<Chain> {
        let (first, last) = (&plan.steps[steps.start], &plan.steps[steps.end - 1]);
        let (&[Place::Slot(x), ..], &[Place::Slot(y)]) = (&first.inputs[..], &last.outputs[..]) else {
            return None;
        };
        let spent = steps.clone().map(|_| AtomicU64::new(0)).collect();
        let (memory, result) = (Buffer::default(), Buffer::default());
        Some(Chain { steps, bands, ends: [x, y], memory, result, spent })
    }

    /// Elements of what lies between two steps and of scratch that a worker needs; whole cache lines.
    fn worker(&self, isa: Isa) -> [usize; 2] {
        let bands = self.bands.iter().flatten();
        let scratch = bands.map(|band| band.op.cpu_scratch(&band.types, isa, 1)).max().unwrap_or(0);
        [between(&self.bands), scratch].map(|len| len.next_multiple_of(16))
    }
}

impl Together for Chain {
    fn steps(&self) -> Range<usize> {
        self.steps.clone()
    }

    fn elements(&self, _: &Plan, slots: &[usize], isa: Isa, threads: usize) -> usize {
        let [between, scratch] = self.worker(isa);
        threads * (2 * between + scratch) + slots[self.ends[1]]
    }

    fn allocate(&mut self, _: &Plan, slots: &[usize], isa: Isa, threads: usize) {
        let [between, scratch] = self.worker(isa);
        self.memory = Buffer::zeroed(threads * (2 * between + scratch));
        self.result = Buffer::zeroed(slots[self.ends[1]]);
    }

    fn run(&mut self, plan: &Plan, shared: Shared) {
        let [between, scratch] = self.worker(shared.isa);
        let Chain { steps, bands, ends, memory, result, spent } = self;
        let (x, first) = (shared.slots[ends[0]].f32(), steps.start);
        spent.iter_mut().for_each(|spent| *spent.get_mut() = 0);
        let mut rest = result.f32_mut();
        let items = bands.iter().map(|bands| {
            let len = bands.last().map_or(0, |last| last.types.outputs[0].len());
            let (y, more) = std::mem::take(&mut rest).split_at_mut(len);
            rest = more;
            (bands, y)
        });
        parallel::for_each(items, memory.f32_mut(), 2 * between + scratch, |(bands, y), memory| {
            let (lanes, scratch) = memory.split_at_mut(2 * between);
            let (mut from, mut to) = lanes.split_at_mut(between);
            parallel::alone(|| {
                for (index, band) in bands.iter().enumerate() {
                    let begin = Instant::now();
                    let row = band.types.inputs[0].len() / band.input.len();
                    let x = if index == 0 { &x[band.input.start * row..] } else { &*from };
                    let y = if index + 1 == bands.len() { &mut *y } else { &mut *to };
                    let step = &plan.steps[first + index];
                    let prepared = shared.prepared[first + index].f32();
                    run(band, step, shared, (x, prepared), y, scratch);
                    std::mem::swap(&mut from, &mut to);
                    spent[index].fetch_add(begin.elapsed().as_nanos() as u64, Ordering::Relaxed);
                }
            });
        });
    }

    /// The result takes the place of the slot that the last step would have written, which may be the one that the first
    /// step reads.
    fn leave(&mut self, slots: &mut [Buffer]) {
        std::mem::swap(&mut slots[self.ends[1]], &mut self.result);
    }

    fn seconds(&self, index: usize) -> f64 {
        let spent = self.spent[index - self.steps.start].load(Ordering::Relaxed);
        spent as f64 * 1e-9 / rayon::current_num_threads() as f64
    }
}

/// One step of one band. `x` is its input 0; all others are the same for every band.
fn run(
    band: &Band,
    step: &Step,
    shared: Shared,
    (x, prepared): (&[f32], &[f32]),
    y: &mut [f32],
    scratch: &mut [f32],
) {
    let mut inputs: [&[f32]; MAX_INPUTS] = [&[]; MAX_INPUTS];
    for (values, place) in inputs.iter_mut().zip(&step.inputs) {
        *values = shared.get(*place);
    }
    inputs[0] = x;
    let mut outputs: [&mut [f32]; MAX_OUTPUTS] = Default::default();
    outputs[0] = y;
    let (isa, types) = (shared.isa, &band.types);
    band.op.cpu(types, &mut CpuArgs { isa, inputs, outputs, types, prepared, scratch });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::mobilenet_v1::MOBILENET_V1;
    use crate::ops::case::Case;
    use crate::ops::{Types, conv2d, separable_conv2d};
    use crate::tensor::{DType, TensorType};
    use crate::train::bare_spec;
    use crate::train::plans;

    /// The op's output for these inputs.
    fn output(op: &dyn crate::ops::Op, types: &Types, inputs: &[&[f32]]) -> Vec<f32> {
        let isa = Isa::detect();
        let mut y = vec![f32::NAN; types.outputs[0].len()];
        let mut scratch = vec![f32::NAN; op.cpu_scratch(types, isa, rayon::current_num_threads())];
        let mut args = CpuArgs {
            isa,
            inputs: std::array::from_fn(|i| inputs.get(i).copied().unwrap_or_default()),
            outputs: Default::default(),
            types,
            prepared: &[],
            scratch: &mut scratch,
        };
        args.outputs[0] = &mut y;
        op.cpu(types, &mut args);
        y
    }

    /// Of a case with its batch cut down to one picture: every band of one, two or three rows has the bits of the whole;
    /// `None` if the op has no bands.
    fn check(case: &Case, name: &str) -> Option<()> {
        let mut inputs: Vec<TensorType> = case.inputs.iter().map(|(ty, _)| ty.clone()).collect();
        let dims = inputs[0].dims().to_vec();
        inputs[0] = TensorType { shape: [1, dims[1], dims[2], dims[3]].into(), dtype: DType::F32 };
        let outputs = case.op.output_types(&inputs.iter().collect::<Vec<_>>()).unwrap();
        let types = Types { inputs, outputs };
        let noise = |n: usize| (0..n).map(|i| ((i * 2_654_435_761) % 1000) as f32 / 500.0 - 1.0);
        let values: Vec<Vec<f32>> = types.inputs.iter().map(|ty| noise(ty.len()).collect()).collect();
        let mut slices: Vec<&[f32]> = values.iter().map(Vec::as_slice).collect();
        let whole = output(&*case.op, &types, &slices);
        let height = types.outputs[0].dims()[1];
        let (in_row, out_row) = (types.inputs[0].len() / dims[1], whole.len() / height);
        for (first, count) in (0..height).flat_map(|first| [(first, 1), (first, 2), (first, 3)]) {
            let rows = first..(first + count).min(height);
            let expected = &whole[rows.start * out_row..rows.end * out_row];
            let band = case.op.band(&types, rows.clone())?;
            slices[0] = &values[0][band.input.start * in_row..band.input.end * in_row];
            assert!(
                output(&*band.op, &band.types, &slices) == expected,
                "{name}: rows {rows:?} of {types:?}"
            );
        }
        Some(())
    }

    #[test]
    fn a_band_has_the_bits_of_the_whole() {
        for (name, cases) in [("conv2d", conv2d::cases()), ("separable_conv2d", separable_conv2d::cases())] {
            let checked = cases.iter().filter_map(|case| check(case, name)).count();
            assert!(checked >= 10, "{name}: {checked} cases have bands");
        }
    }

    /// The layers of the steps that run in bands, of MobileNet v1 for a picture of this size.
    fn chains(size: usize) -> Vec<Vec<String>> {
        let spec = bare_spec(&MOBILENET_V1, size, 10);
        let plan = plans::evaluation(&spec, "test", 1, 1).unwrap().plan;
        let layers =
            |chain: &Chain| plan.steps[chain.steps()].iter().map(|step| step.layer.clone()).collect();
        Chain::find(&plan, 2).iter().map(layers).collect()
    }

    #[test]
    fn large_layers_run_in_bands() {
        let expected = [
            &["conv_stem", "blocks.0.0.conv_pw", "blocks.1.0.conv_pw"][..],
            &["blocks.1.1.conv_pw", "blocks.2.0.conv_pw"],
            &["blocks.2.1.conv_pw", "blocks.3.0.conv_pw"],
        ];
        assert_eq!(chains(224), expected);
        assert!(chains(64).is_empty());
    }
}
