//! `y = f(x)` and its gradient `dx = dy f'(x)`, elementwise, for the functions of
//! [`crate::kernels::function`].

use crate::ops::*;

/// A function of every element of x. Works in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unary {
    /// Which.
    pub function: Function,
}

/// The gradient of [`Unary`]. Inputs: dy, and x or y, whichever the slope is a function of
/// ([`Function::slope_of`]). Works in place on dy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnaryGrad {
    /// The forward node's.
    pub function: Function,
}

impl Op for Unary {
    fn name(&self) -> &'static str {
        self.function.name()
    }

    fn output_types(&self, inputs: &[&TensorType]) -> Inferred {
        let [x] = floats(inputs)?;
        Ok(vec![x.clone()])
    }

    fn gradient(&self, graph: &mut Graph, node: &Node, grads: &[Option<Value>], _: &[bool]) -> Gradients {
        let of = match self.function.slope_of() {
            Of::X => node.inputs[0],
            Of::Y => node.outputs[0],
        };
        let dx = grads[0].map(|dy| graph.apply1(UnaryGrad { function: self.function }, &[dy, of]));
        Ok(vec![dx.transpose()?])
    }

    fn alias(&self) -> Alias {
        Alias::InPlace(&[(0, 0)])
    }

    fn tile(&self, types: &Types, axis: Axis, part: Range<usize>) -> Option<Tile> {
        Tile::images(*self, types, axis, &[0], &part)
    }

    fn cpu(&self, _: &Types, target: CpuTarget) -> CpuStep {
        let function = self.function;
        CpuStep::new(move |args| function.apply(target.isa, args.output().0))
    }

    fn gpu(&self, types: &Types) -> Dispatches {
        let vectors = types.outputs[0].len().div_ceil(4);
        let shader = shader!("unary");
        each_value(shader, vectors, &function_constants(Some(self.function)), vec![Operand::Output(0)])
    }

    fn reference(&self, inputs: &[ArrayViewD<f64>]) -> Vec<ArrayD<f64>> {
        vec![inputs[0].mapv(|x| self.function.value(x))]
    }
}

impl Op for UnaryGrad {
    fn name(&self) -> &'static str {
        self.function.gradient_name()
    }

    fn output_types(&self, inputs: &[&TensorType]) -> Inferred {
        let [dy, of] = floats(inputs)?;
        require(dy == of, "dy and what the slope is of must have one shape")?;
        Ok(vec![dy.clone()])
    }

    fn alias(&self) -> Alias {
        Alias::InPlace(&[(0, 0)])
    }

    fn cpu(&self, _: &Types, target: CpuTarget) -> CpuStep {
        let function = self.function;
        CpuStep::new(move |args| {
            let of = args.inputs[1];
            function.apply_slope(target.isa, args.output().0, of);
        })
    }

    fn gpu(&self, types: &Types) -> Dispatches {
        let vectors = types.outputs[0].len().div_ceil(4);
        let shader = shader!("unary_grad");
        let bindings = vec![Operand::Input(1), Operand::Output(0)];
        each_value(shader, vectors, &function_constants(Some(self.function)), bindings)
    }

    fn reference(&self, inputs: &[ArrayViewD<f64>]) -> Vec<ArrayD<f64>> {
        vec![&inputs[0] * &inputs[1].mapv(|v| self.function.slope(v))]
    }
}
