//! Enlarges images, by bilinear interpolation between the centres of their pixels: along each
//! dimension
//!
//! `y[p] = (1 - t) x[i] + t x[min(i + 1, size - 1)]`, with `i + t = clamp((p + 1/2) size / out_size
//! - 1/2, 0, size - 1)`
//!
//! as OpenCV and PyTorch (`align_corners=False`) do it. There is no gradient: it is applied to
//! images, which need none.

use crate::kernels::resize;
use crate::ops::*;

/// Enlargement by bilinear interpolation. Input `[N, H, W, C]`, output `[N, height, width, C]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Resize {
    /// Height of the output in pixels; at least the input's, because to shrink an image takes a
    /// mean, not two neighbours.
    pub height: usize,
    /// Width of the output in pixels; at least the input's.
    pub width: usize,
}

/// Sizes in and out, `[height, width, channels]`.
fn sizes(types: &Types) -> [[usize; 3]; 2] {
    [&types.inputs[0], &types.outputs[0]].map(|ty| match *ty.dims() {
        [_, height, width, channels] => [height, width, channels],
        _ => unreachable!("the shape rule asks for four dimensions"),
    })
}

impl Op for Resize {
    fn name(&self) -> &'static str {
        "resize"
    }

    fn output_types(&self, inputs: &[&TensorType]) -> Inferred {
        let [x] = floats(inputs)?;
        let &[batch, height, width, channels] = x.dims() else {
            return Err("x must be [N, H, W, C]".into());
        };
        require(height > 0 && width > 0, "x must have pixels")?;
        require(self.height >= height && self.width >= width, "images can only be enlarged")?;
        Ok(vec![TensorType::f32([batch, self.height, self.width, channels])])
    }

    fn tile(&self, types: &Types, axis: Axis, part: Range<usize>) -> Option<Tile> {
        Tile::images(*self, types, axis, &[0], &part)
    }

    fn cpu(&self, types: &Types, target: CpuTarget) -> CpuStep {
        let [size, out_size] = sizes(types);
        CpuStep::new(move |args| {
            resize::bilinear(target.isa, args.inputs[0], size, args.output().0, out_size);
        })
    }

    fn gpu(&self, types: &Types) -> Dispatches {
        let [[height, width_in, channels], [out_height, out_width, _]] = sizes(types);
        let named = [
            ("HEIGHT", height),
            ("WIDTH", width_in),
            ("COLUMNS", channels / width(channels)),
            ("OUT_HEIGHT", out_height),
            ("OUT_WIDTH", out_width),
        ];
        let constants = named.map(|(name, value)| (name, value as f64));
        let shader = wide_shader!(channels, "resize");
        let bindings = vec![Operand::Input(0), Operand::Output(0)];
        each_value(shader, types.outputs[0].len() / width(channels), &constants, bindings)
    }

    fn reference(&self, inputs: &[ArrayViewD<f64>]) -> Vec<ArrayD<f64>> {
        let x = view::<Ix4>(&inputs[0]);
        let (batch, height, width, channels) = x.dim();
        let line = |out: usize, out_size: usize, size: usize| {
            let scale = size as f64 / out_size as f64;
            let position = ((out as f64 + 0.5) * scale - 0.5).clamp(0.0, (size - 1) as f64);
            let first = position.floor();
            [(first as usize, 1.0 - position + first), ((first as usize + 1).min(size - 1), position - first)]
        };
        let mut y = Array4::zeros((batch, self.height, self.width, channels));
        for (n, p, q, c) in indices(y.raw_dim()) {
            for (i, vertical) in line(p, self.height, height) {
                for (j, horizontal) in line(q, self.width, width) {
                    y[[n, p, q, c]] += vertical * horizontal * x[[n, i, j, c]];
                }
            }
        }
        vec![y.into_dyn()]
    }
}
