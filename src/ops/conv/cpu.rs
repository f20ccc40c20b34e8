//! Convolutions on a CPU.
//!
//! Which kernel, how its input is normalised on the way in, and what is done with each block of its
//! output while it is in the cache.

use super::{Conv, ConvGeometry, OperandIndices, Output, Pass};
use crate::kernels::batch_norm::{
    Backward, block_gradient_sums, block_moments, gradient_apply, merge_moments, moments_part, totals,
};
use crate::kernels::elementwise::AddTo;
use crate::kernels::function::{Activation, Function, Slopes, activate};
use crate::kernels::input::Input;
use crate::kernels::parallel::{self, Epilogue, OutputBlock};
use crate::kernels::{conv, depthwise, winograd};
use crate::ops::Types;
use crate::ops::cpu_step::{CpuArgs, CpuStep, CpuTarget, Pack};
use crate::ops::norm::batch_norm_grad::{BatchNormGrad, NormGradCoefficients};

/// The op's work.
pub fn step(conv: &Conv, types: &Types, target: CpuTarget) -> CpuStep {
    let work = Work::new(conv, types, target);
    let (g, isa) = (work.g, target.isa);
    let whole_forward = conv.pass == Pass::Forward && !g.is_depthwise();
    let packed = if whole_forward { conv::prepared_len(isa, &g) } else { 0 };
    let pack = (packed > 0).then(|| Pack {
        input: 1,
        len: packed,
        run: Box::new(move |weights, packed| conv::prepare(isa, &g, weights, packed)),
    });
    let scratch = work.coefficients + work.parts + work.kernel;
    CpuStep {
        pack,
        // Winograd's algorithm transforms the weights in every call.
        splits: !(whole_forward && winograd::pays(&g)),
        ..CpuStep::with_scratch(scratch, move |args| work.run(args))
    }
}

/// Everything that is settled before a run.
struct Work {
    conv: Conv,
    g: ConvGeometry,
    at: OperandIndices,
    target: CpuTarget,
    /// Channels of the result.
    channels: usize,
    /// Elements of scratch: coefficients of [`Output::NormGrad`].
    coefficients: usize,
    /// Elements of scratch: the blocks' parts of what is gathered from the output.
    parts: usize,
    /// Elements of scratch: the kernel's own.
    kernel: usize,
}

impl Work {
    fn new(conv: &Conv, types: &Types, target: CpuTarget) -> Work {
        let g = conv.checked_geometry(types);
        let channels = types.outputs[0].shape.last();
        let (mut kernel, per_thread, blocks) = needs(conv, &g, target);
        if conv.input.is_some() {
            kernel += target.threads * per_thread;
        }
        let (coefficients, part) = match conv.output {
            Output::Values | Output::Kept | Output::Slope(_) => (0, 0),
            Output::Moments => (0, moments_part(channels)),
            Output::NormGrad(_) => (NormGradCoefficients::scratch(channels), 2 * channels),
        };
        let at = conv.operands();
        Work { conv: conv.clone(), g, at, target, channels, coefficients, parts: blocks * part, kernel }
    }

    fn run(&self, args: &mut CpuArgs) {
        let (inputs, packed) = (args.inputs, args.packed);
        let ([y, second, third], scratch) = args.outputs();
        let (coefficients, scratch) = scratch.split_at_mut(self.coefficients);
        let (parts, scratch) = scratch.split_at_mut(self.parts);
        let affine = self.conv.input.zip(self.at.scale_shift);
        let affine = affine.map(|(scaled, both)| scaled.affine(inputs[both]));
        let product = Product {
            x: Input { x: inputs[0], affine },
            second: inputs[1],
            packed,
            bias: self.at.bias.map(|bias| inputs[bias]),
            residual: self.at.residual.map(|residual| inputs[residual]),
            scratch,
        };
        let sums = [second, third];
        match self.conv.output {
            Output::Values => self.values(product, y),
            Output::Kept => {
                let [z, _] = sums;
                self.kept(product, y, z);
            }
            Output::Slope(function) => {
                self.slope(product, function, self.at.slope.map_or(&[], |v| inputs[v]), y);
            }
            Output::Moments => self.moments(product, y, sums, parts),
            Output::NormGrad(norm) => {
                let first = self.at.norm_grad.unwrap_or_default();
                let [x, both, mean, variance] = std::array::from_fn(|i| inputs[first + i]);
                let (scale, shift) = both.split_at(self.channels);
                let vectors = [&[], x, scale, shift, mean, variance];
                let norm = BatchNormGrad::from(norm);
                let (coefficients, _) = NormGradCoefficients::with_scales(&norm, vectors, coefficients);
                self.norm_grad(product, coefficients, y, sums, parts);
            }
        }
    }

    /// [`Output::Values`].
    fn values(&self, product: Product, y: &mut [f32]) {
        let (isa, activation) = (self.target.isa, self.conv.activation);
        let Some(residual) = product.residual else { return self.product(product, activation, y.into()) };
        let finish = |block: OutputBlock, _: &mut [f32]| {
            isa.run(AddTo { x: &residual[block.from..][..block.rows.len()], y: &mut *block.rows });
            activate(isa, activation, block.rows);
        };
        let epilogue = Epilogue::new(&mut [], 0, &finish);
        self.product(product, None, parallel::Destination { y, epilogue });
    }

    /// [`Output::Kept`]: the kernel writes z, and each block of y follows.
    fn kept(&self, product: Product, y: &mut [f32], z: &mut [f32]) {
        let (isa, activation) = (self.target.isa, self.conv.activation);
        let residual = product.residual;
        let finish = |z: OutputBlock, y: &mut [f32]| {
            if let Some(residual) = residual {
                isa.run(AddTo { x: &residual[z.from..][..z.rows.len()], y: &mut *z.rows });
            }
            y.copy_from_slice(z.rows);
            activate(isa, activation, y);
        };
        let epilogue = Epilogue::beside(y, &finish);
        self.product(product, None, parallel::Destination { y: z, epilogue });
    }

    /// [`Output::Slope`].
    fn slope(&self, product: Product, function: Function, v: &[f32], y: &mut [f32]) {
        let isa = self.target.isa;
        let finish = |block: OutputBlock, _: &mut [f32]| {
            let v = &v[block.from..][..block.rows.len()];
            isa.run(Slopes { function, dy: block.rows, v });
        };
        let epilogue = Epilogue::new(&mut [], 0, &finish);
        self.product(product, None, parallel::Destination { y, epilogue });
    }

    /// [`Output::Moments`].
    fn moments(&self, product: Product, y: &mut [f32], [mean, variance]: [&mut [f32]; 2], parts: &mut [f32]) {
        let (isa, channels) = (self.target.isa, self.channels);
        let reduce = |x: OutputBlock, part: &mut [f32]| block_moments(isa, x.rows, channels, part);
        let epilogue = Epilogue::new(&mut *parts, moments_part(channels), &reduce);
        self.product(product, None, parallel::Destination { y, epilogue });
        merge_moments(parts, mean, variance);
    }

    /// [`Output::NormGrad`]. Of dy there are only blocks, and in the end it lies where dx will.
    fn norm_grad(
        &self,
        product: Product,
        mut coefficients: NormGradCoefficients,
        dx: &mut [f32],
        [dgamma, dbeta]: [&mut [f32]; 2],
        parts: &mut [f32],
    ) {
        let (isa, backward) = (self.target.isa, coefficients.backward);
        let reduce = |dy: OutputBlock, part: &mut [f32]| {
            let x = &backward.x[dy.from..][..dy.rows.len()];
            block_gradient_sums(isa, Backward { x, dy: dy.rows, ..backward }, part);
        };
        let epilogue = Epilogue::new(&mut *parts, 2 * self.channels, &reduce);
        self.product(product, None, parallel::Destination { y: &mut *dx, epilogue });
        totals(parts, dgamma, dbeta);
        gradient_apply(isa, backward, coefficients.slope_and_offset(dgamma, dbeta), dx);
    }

    /// The convolution itself.
    fn product(&self, product: Product, activation: Activation, out: parallel::Destination) {
        let Product { x, second, packed, bias, scratch, .. } = product;
        let (isa, g) = (self.target.isa, &self.g);
        match (&self.conv.pass, g.is_depthwise()) {
            (Pass::Forward, false) => {
                conv::forward(isa, g, (x, [second, packed]), bias, activation, out, scratch)
            }
            (Pass::Forward, true) => depthwise::forward(isa, g, (x, second), bias, activation, out, scratch),
            (Pass::InputGrad { .. }, false) => conv::input_gradient(isa, g, x.x, second, out, scratch),
            (Pass::InputGrad { .. }, true) => depthwise::input_gradient(isa, g, x.x, second, out, scratch),
            (Pass::WeightGrad { .. }, false) => conv::weight_gradient(isa, g, x, second, out.y, scratch),
            (Pass::WeightGrad { .. }, true) => depthwise::weight_gradient(isa, g, x, second, out.y, scratch),
        }
    }
}

/// Operands of one pass.
struct Product<'a> {
    x: Input<'a>,
    /// The weights, or dy.
    second: &'a [f32],
    /// The weights as the kernel would rather have them, or empty.
    packed: &'a [f32],
    bias: Option<&'a [f32]>,
    residual: Option<&'a [f32]>,
    scratch: &'a mut [f32],
}

/// Elements of scratch that a kernel needs, those that each thread needs in addition to normalise
/// the input, and the blocks of the output that an epilogue gets to see.
fn needs(conv: &Conv, g: &ConvGeometry, target: CpuTarget) -> (usize, usize, usize) {
    let isa = target.isa;
    let all = |(shared, each): conv::Scratch| shared + target.threads * each;
    match (&conv.pass, g.is_depthwise()) {
        (Pass::Forward, false) => {
            let scratch = all(conv::forward_scratch(isa, g));
            (scratch, conv::forward_affine_scratch(g), conv::forward_blocks(g))
        }
        (Pass::Forward, true) => (
            depthwise::forward_scratch(g),
            depthwise::forward_affine_scratch(g),
            depthwise::forward_blocks(g),
        ),
        (Pass::InputGrad { .. }, false) => {
            (all(conv::input_gradient_scratch(isa, g)), 0, conv::input_gradient_blocks(g))
        }
        (Pass::InputGrad { .. }, true) => {
            (depthwise::input_gradient_scratch(g), 0, depthwise::input_gradient_blocks(g))
        }
        (Pass::WeightGrad { .. }, false) => {
            let scratch = all(conv::weight_gradient_scratch(isa, g));
            (scratch, conv::weight_gradient_affine_scratch(g), 0)
        }
        (Pass::WeightGrad { .. }, true) => {
            (depthwise::weight_gradient_scratch(g), depthwise::weight_gradient_affine_scratch(g), 0)
        }
    }
}
