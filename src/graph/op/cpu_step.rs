//! The work of an op on a CPU, as a closure.
//!
//! It has settled everything that depends on shapes and on the machine (geometry, kernel, scratch),
//! so that a run only calls it. [`crate::exec::cpu`] makes a step of each op when a plan is loaded.

use std::fmt;

use crate::kernels::simd::Isa;

/// Inputs that an op may look for: those that it could have, but was not given, are empty.
const FEW_INPUTS: usize = 12;
/// No op has more outputs.
pub const MAX_OUTPUTS: usize = 4;

/// The machine that a step is made for.
#[derive(Clone, Copy, Debug)]
pub struct CpuTarget {
    /// The instruction set to compute with.
    pub isa: Isa,
    /// Threads that share the step's work.
    pub threads: usize,
}

/// Memory that a step works on. Every slice has exactly the length of its operand's type.
pub struct CpuArgs<'a> {
    /// Empty for an input that shares memory with an output, and for those that an op could have
    /// but has not. Integers lie in them bit by bit.
    pub inputs: &'a [&'a [f32]],
    /// Not zeroed: they hold whatever was there before, or, for an op that works in place, the
    /// input.
    pub outputs: [&'a mut [f32]; MAX_OUTPUTS],
    /// The weights as [`Pack`] made them; empty where they may change with every run.
    pub packed: &'a [f32],
    /// Scratch memory: as many elements as the step asked for, with any values in them.
    pub scratch: &'a mut [f32],
}

impl<'a> CpuArgs<'a> {
    /// Input `index` as `u32`.
    pub fn input_u32(&self, index: usize) -> &'a [u32] {
        bytemuck::cast_slice(self.inputs[index])
    }

    /// The first `N` inputs from input `first` on.
    pub fn inputs_from<const N: usize>(&self, first: usize) -> [&'a [f32]; N] {
        std::array::from_fn(|i| self.inputs[first + i])
    }

    /// The first `N` outputs, and the scratch.
    pub fn outputs<const N: usize>(&mut self) -> ([&mut [f32]; N], &mut [f32]) {
        let mut outputs = self.outputs.iter_mut();
        (
            std::array::from_fn(|_| outputs.next().map(|output| &mut **output).unwrap_or_default()),
            self.scratch,
        )
    }

    /// The first output, and the scratch.
    pub fn output(&mut self) -> (&mut [f32], &mut [f32]) {
        (self.outputs[0], self.scratch)
    }
}

/// Calls a function with the inputs of [`CpuArgs`]: these, and empty ones behind them. Few take no
/// memory from the heap.
pub fn with_inputs<'a, R>(
    values: impl ExactSizeIterator<Item = &'a [f32]>,
    run: impl FnOnce(&[&'a [f32]]) -> R,
) -> R {
    if values.len() > FEW_INPUTS {
        return run(&values.collect::<Vec<_>>());
    }
    let mut inputs: [&[f32]; FEW_INPUTS] = [&[]; FEW_INPUTS];
    inputs.iter_mut().zip(values).for_each(|(input, values)| *input = values);
    run(&inputs)
}

type Run = dyn Fn(&mut CpuArgs) + Send + Sync;
type PackWeights = dyn Fn(&[f32], &mut [f32]) + Send + Sync;

/// A form of the weights that a step computes faster with. It is made once for weights that stay
/// the same from run to run.
pub struct Pack {
    /// The input that the weights are.
    pub input: usize,
    /// Elements of that form.
    pub len: usize,
    /// Brings weights into that form.
    pub run: Box<PackWeights>,
}

/// An op's work on a CPU.
pub struct CpuStep {
    /// Elements of scratch that a run needs.
    pub scratch: usize,
    /// The form that the weights are wanted in, if there is one.
    pub pack: Option<Pack>,
    /// Whether a few images take no more time than their share of a batch: not where every call
    /// transforms the weights.
    pub splits: bool,
    /// Computes the outputs.
    pub run: Box<Run>,
}

impl CpuStep {
    /// A step without scratch.
    pub fn new(run: impl Fn(&mut CpuArgs) + Send + Sync + 'static) -> CpuStep {
        CpuStep::with_scratch(0, run)
    }

    /// This step, and then more with its outputs.
    pub fn and_then(self, next: impl Fn(&mut CpuArgs) + Send + Sync + 'static) -> CpuStep {
        let run = self.run;
        let both = move |args: &mut CpuArgs| {
            run(args);
            next(args);
        };
        CpuStep { run: Box::new(both), ..self }
    }

    /// A step with so many elements of scratch.
    pub fn with_scratch(scratch: usize, run: impl Fn(&mut CpuArgs) + Send + Sync + 'static) -> CpuStep {
        CpuStep { scratch, pack: None, splits: true, run: Box::new(run) }
    }
}

impl fmt::Debug for CpuStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let packed = self.pack.as_ref().map_or(0, |pack| pack.len);
        write!(f, "CpuStep {{ scratch: {}, packed: {packed}, splits: {} }}", self.scratch, self.splits)
    }
}
