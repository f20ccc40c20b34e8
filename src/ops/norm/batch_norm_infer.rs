//! Batch normalisation with stored statistics:
//! `y = activation(gamma (x - mean) / sqrt(variance + epsilon) + beta + residual)`.
//!
//! In fine-tuning it is trained, too. The statistics are constants then, so with `x_hat = (x -
//! mean) / sqrt(variance + epsilon)`:
//!
//! `dbeta = sum dy`, `dgamma = sum dy x_hat`, as under the statistics of the batch, and `dx = gamma
//! / sqrt(variance + epsilon) dy`, which is this op itself, of dy, with a mean and a beta of zero.

use super::batch_norm::{per_channel, scale_and_shift};
use super::batch_norm_grad::BatchNormGrad;
use crate::kernels::batch_norm::{self, Affine};
use crate::kernels::function::activated;
use crate::ops::movement::constant::Constant;
use crate::ops::*;

/// Batch normalisation by given statistics. Inputs: x `[..., C]`, gamma, beta, mean and variance
/// `[C]`, and the residual, if there is one.
#[derive(Clone, Copy)]
pub struct BatchNormInfer {
    /// Added to the variance.
    pub epsilon: f32,
    /// Whether values of x's shape are added.
    pub residual: bool,
    /// Applied to the result.
    pub activation: Activation,
}

/// Normalisation and activation of [`BatchNormInfer`], as data of an op that does them on the way.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Normalise {
    /// Added to the variance.
    pub epsilon: f32,
    /// Applied to the result.
    pub activation: Activation,
}

/// Without what is not there.
impl Debug for BatchNormInfer {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        let mut fields = f.debug_struct("BatchNormInfer");
        fields.field("epsilon", &self.epsilon);
        if self.residual {
            fields.field("residual", &self.residual);
        }
        fields.field("activation", &self.activation).finish()
    }
}

impl From<Normalise> for BatchNormInfer {
    fn from(Normalise { epsilon, activation }: Normalise) -> BatchNormInfer {
        BatchNormInfer { epsilon, residual: false, activation }
    }
}

impl Normalise {
    /// Scale and shift of each channel by gamma, beta, mean and variance `[C]`; they are kept in
    /// `space`, two elements a channel.
    pub(crate) fn affine<'a>(&self, vectors: [&[f32]; 4], space: &'a mut [f32]) -> Affine<'a> {
        let channels = vectors[0].len();
        let (scale, shift) = space[..2 * channels].split_at_mut(channels);
        scale_and_shift(vectors, self.epsilon, scale, shift);
        Affine { scale, shift, activation: self.activation }
    }
}

impl BatchNormInfer {
    /// The same as data, but for the residual.
    pub(crate) fn normalise(self) -> Normalise {
        Normalise { epsilon: self.epsilon, activation: self.activation }
    }
}

impl Op for BatchNormInfer {
    fn name(&self) -> &'static str {
        "batch_norm_infer"
    }

    fn output_types(&self, inputs: &[&TensorType]) -> Inferred {
        all_floats(inputs)?;
        let (&[x, gamma, beta, mean, variance], residual) =
            inputs.split_first_chunk().ok_or("takes x and four vectors")?;
        per_channel(x, &[gamma, beta, mean, variance])?;
        let wanted: &[&TensorType] = if self.residual { &[x] } else { &[] };
        require(residual == wanted, "a residual, and nothing else, must have the shape of x")?;
        Ok(vec![x.clone()])
    }

    fn gradient(
        &self,
        graph: &mut Graph,
        node: &Node,
        grads: &[Option<Value>],
        needed: &[bool],
    ) -> Gradients {
        let problem = |text| Err(Error::op(format!("batch_norm_infer '{}'", node.layer), text));
        if self.activation.is_some() || self.residual {
            return problem("has a gradient only as it is before fusion");
        }
        let (Some(dy), &[x, gamma, beta, mean, variance]) = (grads[0], &node.inputs[..]) else {
            return Ok(vec![None; node.inputs.len()]);
        };
        if needed[3] || needed[4] {
            return problem("its statistics have no gradient");
        }
        let mut out = vec![None; node.inputs.len()];
        if needed[0] {
            let zero = graph.apply1(Constant::zeros(graph.ty(beta).shape.clone()), &[])?;
            out[0] = Some(graph.apply1(*self, &[dy, gamma, zero, zero, variance])?);
        }
        if needed[1] || needed[2] {
            let op = BatchNormGrad { epsilon: self.epsilon, activation: None };
            // Its first output takes the statistics for those of the batch, and is not read.
            let sums = graph.apply(op, &[dy, x, gamma, beta, mean, variance])?;
            (out[1], out[2]) = (Some(sums[1]), Some(sums[2]));
        }
        Ok(out)
    }

    fn tile(&self, types: &Types, axis: Axis, part: Range<usize>) -> Option<Tile> {
        Tile::images(*self, types, axis, if self.residual { &[0, 5] } else { &[0] }, &part)
    }

    fn cpu(&self, types: &Types, target: CpuTarget) -> CpuStep {
        let (normalise, residual) = (self.normalise(), self.residual);
        CpuStep::with_scratch(2 * types.inputs[1].len(), move |args| {
            let (x, vectors, addend) = (args.inputs[0], args.inputs_from(1), args.inputs[5]);
            let (y, scratch) = args.output();
            let affine = normalise.affine(vectors, scratch);
            match residual {
                true => batch_norm::apply_and_add(target.isa, x, affine, addend, y),
                false => batch_norm::apply(target.isa, x, affine, y),
            }
        })
    }

    fn gpu(&self, types: &Types) -> Dispatches {
        let channels = types.inputs[1].len();
        let columns = (channels / width(channels)) as f64;
        let mut constants = vec![
            ("COLUMNS", columns),
            ("EPSILON", f64::from(self.epsilon)),
            ("RESIDUAL", f64::from(self.residual)),
        ];
        constants.extend(function_constants(self.activation));
        let shader = wide_shader!(channels, "batch_norm_infer");
        // Every binding must be bound: without a residual, to x.
        let residual = Operand::Input(if self.residual { 5 } else { 0 });
        let bindings = (0..5).map(Operand::Input).chain([Operand::Output(0), residual]).collect();
        each_value(shader, types.inputs[0].len() / width(channels), &constants, bindings)
    }

    fn reference(&self, inputs: &[ArrayViewD<f64>]) -> Vec<ArrayD<f64>> {
        let [x, gamma, beta, mean, variance] = operands(inputs);
        let mut y = gamma * &((x - mean) / (variance + f64::from(self.epsilon)).sqrt()) + beta;
        if self.residual {
            y += &inputs[5];
        }
        vec![y.mapv(|y| activated(self.activation, y))]
    }
}
