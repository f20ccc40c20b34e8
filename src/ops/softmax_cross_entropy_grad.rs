//! The gradient of [`super::softmax_cross_entropy`]: `dz = dloss (softmax(z) - t) / count`, 0 in
//! ignored rows.

use super::case::{Case, Fill};
use super::softmax_cross_entropy::{IGNORE, check, softmax};
use super::*;

/// Inputs: logits z `[N, C]`, labels `u32 [N]`, dloss `[1]`; output dz `[N, C]`.
#[derive(Clone, Copy, Debug)]
pub struct SoftmaxCrossEntropyGrad {
    /// The forward node's.
    pub smoothing: f32,
}

impl Op for SoftmaxCrossEntropyGrad {
    fn name(&self) -> &'static str {
        "softmax_cross_entropy_grad"
    }

    fn output_types(&self, inputs: &[&TensorType]) -> Inferred {
        let [logits, labels, dloss] = expect(inputs)?;
        check(logits, labels)?;
        require(dloss == &TensorType::f32([1]), "dloss must be f32[1]")?;
        Ok(vec![logits.clone()])
    }

    fn cpu(&self, types: &Types, _: CpuTarget) -> CpuStep {
        let (classes, smoothing) = (types.inputs[0].shape.last(), self.smoothing);
        CpuStep::new(move |args| {
            let (logits, labels, dloss) = (args.inputs[0], args.input_u32(1), args.inputs[2][0]);
            let count = labels.iter().filter(|label| **label != IGNORE).count();
            let scale = dloss / count as f32;
            let spread = smoothing / classes as f32;
            let (dz, _) = args.output();
            let rows = dz.chunks_exact_mut(classes).zip(logits.chunks_exact(classes));
            for ((dz, z), &label) in rows.zip(labels) {
                if label == IGNORE {
                    dz.fill(0.0);
                    continue;
                }
                let largest = z.iter().fold(f32::NEG_INFINITY, |a, &b| a.max(b));
                let total: f32 = z.iter().map(|z| (z - largest).exp()).sum();
                for (c, (dz, z)) in dz.iter_mut().zip(z).enumerate() {
                    let target = if c == label as usize { 1.0 - smoothing } else { 0.0 } + spread;
                    *dz = scale * ((z - largest).exp() / total - target);
                }
            }
        })
    }

    fn gpu(&self, types: &Types) -> Dispatches {
        use Operand::{Input, Output};
        let (constants, groups) = softmax(&types.inputs[0], self.smoothing);
        Dispatches::from(Dispatch {
            shader: shader!("softmax_cross_entropy_grad", "vec4", "tree", "softmax"),
            entry: "main",
            constants,
            bindings: vec![Input(0), Input(1), Input(2), Output(0)],
            groups,
        })
    }

    fn reference(&self, types: &Types, inputs: &[Vec<f64>]) -> Vec<Vec<f64>> {
        let classes = types.inputs[0].shape.last();
        let smoothing = f64::from(self.smoothing);
        let counts = |label: &f64| *label != f64::from(IGNORE);
        let count = inputs[1].iter().filter(|label| counts(label)).count() as f64;
        let element = |at: usize| {
            let (row, c) = (at / classes, at % classes);
            let (z, label) = (&inputs[0][row * classes..][..classes], inputs[1][row]);
            let total: f64 = z.iter().map(|z| z.exp()).sum();
            let target = f64::from(c as f64 == label) * (1.0 - smoothing) + smoothing / classes as f64;
            if counts(&label) { inputs[2][0] * (z[c].exp() / total - target) / count } else { 0.0 }
        };
        vec![(0..inputs[0].len()).map(element).collect()]
    }
}

/// Test cases of this op.
pub fn cases() -> Vec<Case> {
    let case = |rows: usize, classes: usize, smoothing, largest: f32| {
        let inputs = vec![
            (TensorType::f32([rows, classes]), Fill::Uniform(-largest, largest)),
            (TensorType::u32([rows]), Fill::Labels(classes as u32)),
            (TensorType::f32([1]), Fill::Constant(0.7)),
        ];
        Case::new(SoftmaxCrossEntropyGrad { smoothing }, inputs)
    };
    vec![
        case(7, 10, 0.1, 4.0),
        case(300, 3, 0.0, 4.0),
        // Exponentials that would overflow.
        case(40, 10, 0.0, 200.0),
        case(4, 1000, 0.2, 4.0),
    ]
}
