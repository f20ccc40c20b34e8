//! Max pooling: the largest value of each window.
//!
//! `y[n, p, q, c] = max over i, j < window  x[n, p stride + i - padding, q stride + j - padding,
//! c]`, of the pixels inside the borders only: padding never is the largest. Pixels that fill no
//! whole window are left out.

use super::max_pool_grad::MaxPoolGrad;
use crate::kernels::pool::{self, PoolGeometry};
use crate::ops::*;

/// Maxima over windows. Input `[N, H, W, C]`, output `[N, P, Q, C]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaxPool {
    /// Side of a window in pixels.
    pub window: usize,
    /// Step of the window in pixels, in both directions.
    pub stride: usize,
    /// Pixels by which windows may reach over every border, at most half a window.
    pub padding: usize,
}

impl MaxPool {
    /// Windows side by side, without padding.
    pub const fn side_by_side(window: usize) -> MaxPool {
        MaxPool { window, stride: window, padding: 0 }
    }

    pub(crate) fn geometry(&self, x: &[usize]) -> std::result::Result<PoolGeometry, String> {
        let MaxPool { window, stride, padding } = *self;
        let &[_, height, width, channels] = x else {
            return Err("x must be [N, H, W, C]".into());
        };
        require(window > 0 && stride > 0, "window and stride must be positive")?;
        // Then a window has a pixel inside the borders, and its outermost ones are inside or beside
        // it.
        require(2 * padding <= window, "padding must be at most half a window")?;
        let (padded_height, padded_width) = (height + 2 * padding, width + 2 * padding);
        require(
            padded_height >= window && padded_width >= window,
            format_args!("a window of {window} does not fit {height}x{width}"),
        )?;
        let out_height = (padded_height - window) / stride + 1;
        let out_width = (padded_width - window) / stride + 1;
        Ok(PoolGeometry { height, width, channels, window, stride, padding, out_height, out_width })
    }

    /// The constants that both shaders share.
    pub(crate) fn constants(&self, x: &TensorType) -> Vec<(&'static str, f64)> {
        let g = self.checked_geometry(x);
        let named = [
            ("HEIGHT", g.height),
            ("WIDTH", g.width),
            ("COLUMNS", g.channels / width(g.channels)),
            ("OUT_HEIGHT", g.out_height),
            ("OUT_WIDTH", g.out_width),
            ("WINDOW", g.window),
            ("STRIDE", g.stride),
            ("PADDING", g.padding),
        ];
        named.map(|(name, value)| (name, value as f64)).to_vec()
    }

    /// The geometry of a node whose types the shape rule has accepted.
    pub(crate) fn checked_geometry(&self, x: &TensorType) -> PoolGeometry {
        checked(self.geometry(x.dims()))
    }
}

impl Op for MaxPool {
    fn name(&self) -> &'static str {
        "max_pool"
    }

    fn output_types(&self, inputs: &[&TensorType]) -> Inferred {
        let [x] = floats(inputs)?;
        let g = self.geometry(x.dims())?;
        Ok(vec![TensorType::f32([x.dims()[0], g.out_height, g.out_width, g.channels])])
    }

    fn gradient(&self, graph: &mut Graph, node: &Node, grads: &[Option<Value>], _: &[bool]) -> Gradients {
        let (op, x, y) = (MaxPoolGrad { pool: *self }, node.inputs[0], node.outputs[0]);
        let dx = grads[0].map(|dy| graph.apply1(op, &[x, y, dy]));
        Ok(vec![dx.transpose()?])
    }

    fn tile(&self, types: &Types, axis: Axis, part: Range<usize>) -> Option<Tile> {
        Tile::images(*self, types, axis, &[0], &part)
    }

    fn cpu(&self, types: &Types, target: CpuTarget) -> CpuStep {
        let g = self.checked_geometry(&types.inputs[0]);
        CpuStep::new(move |args| pool::forward(target.isa, g, args.inputs[0], args.output().0))
    }

    fn gpu(&self, types: &Types) -> Dispatches {
        let x = &types.inputs[0];
        let channels = x.shape.last();
        let shader = wide_shader!(channels, "max_pool");
        let bindings = vec![Operand::Input(0), Operand::Output(0)];
        each_value(shader, types.outputs[0].len() / width(channels), &self.constants(x), bindings)
    }

    fn reference(&self, inputs: &[ArrayViewD<f64>]) -> Vec<ArrayD<f64>> {
        let x = view::<Ix4>(&inputs[0]);
        let g = checked(self.geometry(inputs[0].shape()));
        let largest =
            |(n, p, q, c)| window(g, p, q).map(|(i, j)| x[[n, i, j, c]]).fold(f64::NEG_INFINITY, f64::max);
        let y = Array4::from_shape_fn((x.dim().0, g.out_height, g.out_width, g.channels), largest);
        vec![y.into_dyn()]
    }
}

/// The pixels `(i, j)` of window `(p, q)` that lie inside the borders, in order.
pub(crate) fn window(g: PoolGeometry, p: usize, q: usize) -> impl Iterator<Item = (usize, usize)> {
    let inside = move |at: usize, size: usize| at.checked_sub(g.padding).filter(|&at| at < size);
    indices([g.window, g.window])
        .into_iter()
        .filter_map(move |(r, s)| inside(p * g.stride + r, g.height).zip(inside(q * g.stride + s, g.width)))
}
