//! Inverted dropout (Srivastava et al. 2014): an element is zeroed with probability `rate`, else
//! divided by `1 - rate`.
//!
//! Element i draws from the counter `(i / 4, step)`, so the backward pass, another thread count or
//! another device sees the same mask without storing it.

use crate::kernels::parallel;
use crate::kernels::rng::{self, Stream};
use crate::ops::*;

/// Inputs: x, and step `u32 [1]`; works in place on x.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    /// In [0, 1).
    pub rate: f32,
    /// Differs between the dropouts of a model.
    pub seed: u32,
}

impl Dropout {
    /// Factor of the elements that are kept.
    fn keep(&self) -> f32 {
        1.0 / (1.0 - self.rate)
    }

    /// Factors of elements `4 block ..`.
    fn mask(&self, step: u32, block: usize) -> [f32; 4] {
        let keep = self.keep();
        let draws = rng::draw(self.seed, Stream::Dropout, step, block as u32);
        draws.map(|bits| if rng::unit(bits) < self.rate { 0.0 } else { keep })
    }
}

impl Op for Dropout {
    fn name(&self) -> &'static str {
        "dropout"
    }

    fn output_types(&self, inputs: &[&TensorType]) -> Inferred {
        let [x, step] = expect(inputs)?;
        require((0.0..1.0).contains(&self.rate), format!("the rate must lie in [0, 1), not {}", self.rate))?;
        require(step == &TensorType::u32([1]), "step must be u32[1]")?;
        Ok(vec![x.clone()])
    }

    fn gradient(&self, graph: &mut Graph, node: &Node, grads: &[Option<Value>], _: &[bool]) -> Gradients {
        // A linear map with a diagonal matrix is its own transpose.
        let dx = grads[0].map(|dy| graph.apply1(*self, &[dy, node.inputs[1]]));
        Ok(vec![dx.transpose()?, None])
    }

    fn alias(&self) -> Alias {
        Alias::InPlace(&[(0, 0)])
    }

    fn cpu(&self, _: &Types, _: CpuTarget) -> CpuStep {
        let op = *self;
        CpuStep::new(move |args| {
            let step = args.input_u32(1)[0];
            let (y, _) = args.output();
            parallel::for_each(y.chunks_mut(1024).enumerate(), &mut [], 0, |(chunk, y), _| {
                for (block, y) in y.chunks_mut(4).enumerate() {
                    let mask = op.mask(step, chunk * 256 + block);
                    y.iter_mut().zip(mask).for_each(|(y, mask)| *y *= mask);
                }
            });
        })
    }

    fn gpu(&self, types: &Types) -> Dispatches {
        let vectors = types.outputs[0].len().div_ceil(4);
        let shader = shader!("dropout");
        let constants = &[
            ("RATE", f64::from(self.rate)),
            ("KEEP", f64::from(self.keep())),
            ("SEED", f64::from(self.seed)),
            ("STREAM", f64::from(Stream::Dropout as u32)),
        ];
        let bindings = vec![Operand::Input(1), Operand::Output(0)];
        each_value(shader, vectors, constants, bindings)
    }

    fn reference(&self, inputs: &[ArrayViewD<f64>]) -> Vec<ArrayD<f64>> {
        let [x, step] = operands(inputs);
        let mut y = x.to_owned();
        for (i, y) in y.iter_mut().enumerate() {
            *y *= f64::from(self.mask(single(step) as u32, i / 4)[i % 4]);
        }
        vec![y]
    }
}
