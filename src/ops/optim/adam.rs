//! Adam (Kingma and Ba 2015) with decoupled weight decay (AdamW: Loshchilov and Hutter 2019):
//!
//! `m = b1 m + (1 - b1) g`, `v = b2 v + (1 - b2) g^2`,
//! `p -= rate decay p + rate (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + epsilon)`
//!
//! with t counted from 1. That is PyTorch's form. Keras adds epsilon to `sqrt(v)` before the
//! correction, which is the same as an epsilon divided by `sqrt(1 - b2^t)` here.

use crate::kernels::{parallel, rows::BLOCK};
use crate::ops::*;

/// Where epsilon is added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EpsilonForm {
    /// To the corrected root, as PyTorch does.
    Torch,
    /// To the root before its correction, as Keras does.
    Keras,
}

/// Inputs: parameter p, moments m and v, gradient g (one shape), rate `[1]`, step `u32 [1]` (t -
/// 1). Outputs the new p, m and v, in place.
#[derive(Clone, Copy, Debug)]
pub struct Adam {
    /// How much of m stays.
    pub beta1: f32,
    /// How much of v stays.
    pub beta2: f32,
    /// Keeps the division finite.
    pub epsilon: f32,
    /// Where it is added.
    pub epsilon_form: EpsilonForm,
    /// Decoupled weight decay, a factor of the rate.
    pub decay: f32,
}

impl Adam {
    /// The bias corrections `1 / (1 - b1^t)` and `1 / (1 - b2^t)`, and epsilon, at step t.
    fn at_step(&self, t: f64) -> [f64; 3] {
        let corrections = [self.beta1, self.beta2].map(|beta| 1.0 / (1.0 - f64::from(beta).powf(t)));
        let keras = if self.epsilon_form == EpsilonForm::Keras { corrections[1].sqrt() } else { 1.0 };
        [corrections[0], corrections[1], f64::from(self.epsilon) * keras]
    }
}

impl Op for Adam {
    fn name(&self) -> &'static str {
        "adam"
    }

    fn output_types(&self, inputs: &[&TensorType]) -> Inferred {
        let [p, m, v, gradient, rate, step] = expect(inputs)?;
        require(
            [m, v, gradient].iter().all(|t| *t == p),
            "parameter, moments and gradient must have one shape",
        )?;
        require(
            rate == &TensorType::f32([1]) && step == &TensorType::u32([1]),
            "takes rate f32[1], step u32[1]",
        )?;
        Ok(vec![p.clone(); 3])
    }

    fn alias(&self) -> Alias {
        Alias::InPlace(&[(0, 0), (1, 1), (2, 2)])
    }

    fn cpu(&self, _: &Types, _: CpuTarget) -> CpuStep {
        let op @ Adam { beta1, beta2, decay, .. } = *self;
        CpuStep::new(move |args| {
            let (gradient, rate, step) = (args.inputs[3], args.inputs[4][0], args.input_u32(5)[0]);
            let [correct_m, correct_v, epsilon] = op.at_step(f64::from(step) + 1.0).map(|v| v as f32);
            let ([p, m, v], _) = args.outputs();
            let block = 16 * BLOCK;
            let moments = m.chunks_mut(block).zip(v.chunks_mut(block));
            let items = p.chunks_mut(block).zip(moments).zip(gradient.chunks(block));
            parallel::for_each(items, &mut [], 0, |((p, (m, v)), gradient), _| {
                for (((p, m), v), g) in p.iter_mut().zip(m).zip(v).zip(gradient) {
                    *m = beta1 * *m + (1.0 - beta1) * g;
                    *v = beta2 * *v + (1.0 - beta2) * g * g;
                    *p -= rate * (decay * *p + *m * correct_m / ((*v * correct_v).sqrt() + epsilon));
                }
            });
        })
    }

    fn gpu(&self, types: &Types) -> Dispatches {
        // Finite for a beta of 0, too.
        let ln = |beta: f32| f64::from(beta.max(f32::MIN_POSITIVE)).ln();
        let constants = &[
            ("BETA1", f64::from(self.beta1)),
            ("BETA2", f64::from(self.beta2)),
            ("LN_BETA1", ln(self.beta1)),
            ("LN_BETA2", ln(self.beta2)),
            ("EPSILON", f64::from(self.epsilon)),
            ("KERAS", f64::from(self.epsilon_form == EpsilonForm::Keras)),
        ];
        may_be_joined(
            shader!("adam"),
            types.outputs[0].len(),
            constants,
            &[Operand::Input(3), Operand::Output(0), Operand::Output(1), Operand::Output(2)],
            [self.decay, 0.0, 0.0, 0.0],
            &[Operand::Input(4), Operand::Input(5)],
        )
        .into()
    }

    fn reference(&self, inputs: &[ArrayViewD<f64>]) -> Vec<ArrayD<f64>> {
        let [p, m, v, g, rate, step] = operands(inputs);
        let (beta1, beta2, decay) = (f64::from(self.beta1), f64::from(self.beta2), f64::from(self.decay));
        let [correct_m, correct_v, epsilon] = self.at_step(single(step) + 1.0);
        let m = beta1 * m + (1.0 - beta1) * g;
        let v = beta2 * v + (1.0 - beta2) * &g.pow2();
        let adam = &m * correct_m / ((&v * correct_v).sqrt() + epsilon);
        vec![p - single(rate) * (decay * p + adam), m, v]
    }
}
