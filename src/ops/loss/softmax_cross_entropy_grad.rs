//! The gradient of [`super::softmax_cross_entropy`]: `dz = dloss w (softmax(z) - t) / count`, 0 in
//! ignored rows; the weight w of a row is 1 where classes have none.

use super::softmax_cross_entropy::{Extras, IGNORE, Targets, check, softmax, softmax_of, targets, weight};
use crate::ops::*;

/// Inputs: dloss `[1]`, then the forward node's; output dz `[N, C]`.
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
        require(inputs.len() >= 3, "takes dloss, logits and labels")?;
        check(&inputs[1..])?;
        require(inputs[0] == &TensorType::f32([1]), "dloss must be f32[1]")?;
        Ok(vec![inputs[1].clone()])
    }

    fn cpu(&self, types: &Types, _: CpuTarget) -> CpuStep {
        let (classes, smoothing) = (types.inputs[1].shape.last(), self.smoothing);
        let extras = Extras::of(types.inputs.len() - 3);
        CpuStep::new(move |args| {
            let (dloss, logits, labels) = (args.inputs[0][0], args.inputs[1], args.input_u32(2));
            let (others, shares, weights) = extras.inputs(args, 2);
            let count = labels.iter().filter(|label| **label != IGNORE).count();
            let scale = dloss / count as f32;
            let spread = smoothing / classes as f32;
            let (dz, _) = args.output();
            let rows = dz.chunks_exact_mut(classes).zip(logits.chunks_exact(classes));
            for ((dz, z), ([label, other], share)) in rows.zip(targets(labels, others, shares)) {
                if label == IGNORE {
                    dz.fill(0.0);
                    continue;
                }
                let largest = z.iter().fold(f32::NEG_INFINITY, |a, &b| a.max(b));
                let total: f32 = z.iter().map(|z| (z - largest).exp()).sum();
                let [own, other_part] =
                    [share * weight(weights, label), (1.0 - share) * weight(weights, other)];
                // 1 but for rounding, where classes have no weights.
                let both = if weights.is_empty() { 1.0 } else { own + other_part };
                for (c, (dz, z)) in dz.iter_mut().zip(z).enumerate() {
                    let is = |label: u32| f32::from(c == label as usize);
                    let hot = own * is(label) + other_part * is(other);
                    let target = hot * (1.0 - smoothing) + both * spread;
                    *dz = scale * (both * ((z - largest).exp() / total) - target);
                }
            }
        })
    }

    fn gpu(&self, types: &Types) -> Dispatches {
        use Operand::{Input, Output};
        let extras = Extras::of(types.inputs.len() - 3);
        let (constants, groups) = softmax(&types.inputs[1], self.smoothing, extras);
        let [others, shares, weights] = extras.places(2);
        Dispatches::from(Dispatch {
            shader: shader!("softmax_cross_entropy_grad"),
            entry: "main",
            constants,
            bindings: vec![
                Input(1),
                Input(2),
                Input(0),
                Input(others),
                Input(shares),
                Output(0),
                Input(weights),
            ],
            groups,
        })
    }

    fn reference(&self, inputs: &[ArrayViewD<f64>]) -> Vec<ArrayD<f64>> {
        let (dloss, z) = (single(&inputs[0]), view::<Ix2>(&inputs[1]));
        let targets = Targets::new(&inputs[2..]);
        let counts = targets.counts();
        let rows = targets.row_weights().insert_axis(ndarray::Axis(1));
        let dz = dloss * (softmax_of(&z) * rows - targets.t(z.ncols(), self.smoothing)) / counts.sum();
        vec![(dz * counts.insert_axis(ndarray::Axis(1))).into_dyn()]
    }
}
