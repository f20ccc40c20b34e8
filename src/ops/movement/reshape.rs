//! The same elements under another shape.
//!
//! Costs nothing: the planner lets both values share memory.

use crate::ops::*;
use crate::tensor::Shape;

/// Gives its input this shape, which must have as many elements.
#[derive(Clone, Debug)]
pub struct Reshape {
    /// Shape of the output; as many elements as the input has.
    pub shape: Shape,
}

impl Op for Reshape {
    fn name(&self) -> &'static str {
        "reshape"
    }

    fn output_types(&self, inputs: &[&TensorType]) -> Inferred {
        let [x] = expect(inputs)?;
        require(x.len() == self.shape.len(), format!("{} has another number of elements", self.shape))?;
        Ok(vec![TensorType { shape: self.shape.clone(), dtype: x.dtype }])
    }

    fn gradient(&self, graph: &mut Graph, node: &Node, grads: &[Option<Value>], _: &[bool]) -> Gradients {
        let shape = graph.ty(node.inputs[0]).shape.clone();
        let dx = grads[0].map(|dy| graph.apply1(Reshape { shape }, &[dy]));
        Ok(vec![dx.transpose()?])
    }

    fn alias(&self) -> Alias {
        Alias::View(0)
    }

    /// Never planned as a step.
    fn cpu(&self, _: &Types, _: CpuTarget) -> CpuStep {
        CpuStep::new(|_| {})
    }

    /// Never planned as a step.
    fn gpu(&self, _: &Types) -> Dispatches {
        Dispatches::default()
    }

    fn reference(&self, inputs: &[ArrayViewD<f64>]) -> Vec<ArrayD<f64>> {
        vec![shaped(&inputs[0], self.shape.dims())]
    }
}
