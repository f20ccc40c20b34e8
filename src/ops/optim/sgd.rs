//! Stochastic gradient descent with momentum (Sutskever et al. 2013) and weight decay, as PyTorch
//! writes it:
//!
//! `g = gradient + decay p`, `b = momentum b + g`, `p -= rate (g + momentum b)` with Nesterov's
//! look-ahead, `p -= rate b` without.

use crate::kernels::{parallel, rows::BLOCK};
use crate::ops::*;

/// Inputs: parameter p, momentum buffer b, gradient (one shape), rate `[1]`. Outputs the new p and
/// b, in place.
#[derive(Clone, Copy, Debug)]
pub struct Sgd {
    /// How much of the buffer stays.
    pub momentum: f32,
    /// Whether to look ahead by Nesterov's rule.
    pub nesterov: bool,
    /// Weight decay, added to the gradient.
    pub decay: f32,
}

impl Op for Sgd {
    fn name(&self) -> &'static str {
        "sgd"
    }

    fn output_types(&self, inputs: &[&TensorType]) -> Inferred {
        let [p, b, gradient, rate] = floats(inputs)?;
        require(p == b && p == gradient, "parameter, momentum and gradient must have one shape")?;
        require(rate == &TensorType::f32([1]), "rate must be f32[1]")?;
        Ok(vec![p.clone(), p.clone()])
    }

    fn alias(&self) -> Alias {
        Alias::InPlace(&[(0, 0), (1, 1)])
    }

    fn cpu(&self, _: &Types, _: CpuTarget) -> CpuStep {
        let Sgd { momentum, nesterov, decay } = *self;
        CpuStep::new(move |args| {
            let (gradient, rate) = (args.inputs[2], args.inputs[3][0]);
            let ([p, b], _) = args.outputs();
            let block = 16 * BLOCK;
            let items = p.chunks_mut(block).zip(b.chunks_mut(block)).zip(gradient.chunks(block));
            parallel::for_each(items, &mut [], 0, |((p, b), gradient), _| {
                for ((p, b), gradient) in p.iter_mut().zip(b).zip(gradient) {
                    let g = gradient + decay * *p;
                    *b = momentum * *b + g;
                    *p -= rate * if nesterov { g + momentum * *b } else { *b };
                }
            });
        })
    }

    fn gpu(&self, types: &Types) -> Dispatches {
        may_be_joined(
            shader!("sgd"),
            types.outputs[0].len(),
            &[("MOMENTUM", f64::from(self.momentum)), ("NESTEROV", f64::from(self.nesterov))],
            &[Operand::Input(2), Operand::Output(0), Operand::Output(1)],
            [self.decay, 0.0, 0.0, 0.0],
            &[Operand::Input(3)],
        )
        .into()
    }

    fn reference(&self, inputs: &[ArrayViewD<f64>]) -> Vec<ArrayD<f64>> {
        let [p, b, gradient, rate] = operands(inputs);
        let (momentum, decay) = (f64::from(self.momentum), f64::from(self.decay));
        let g = gradient + decay * p;
        let b = momentum * b + &g;
        let step = if self.nesterov { g + momentum * &b } else { b.clone() };
        vec![p - single(rate) * step, b]
    }
}
