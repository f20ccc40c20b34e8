//! The block of the tour, in the way in which a user of the library writes a program.

use cifar_engine::ops::conv::Conv;
use cifar_engine::ops::movement::reshape::Reshape;
use cifar_engine::ops::norm::batch_norm::BatchNorm;
use cifar_engine::ops::pool::max_pool::MaxPool;
use cifar_engine::prelude::*;
use ndarray::{Array4, array};

/// The image, row by row.
const IMAGE: [[f32; 4]; 4] =
    [[1.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0], [0.0, 1.0, 0.0, 2.0], [0.0, 0.0, 1.0, 3.0]];

/// Each row of w.
const COLUMNS: [f32; 3] = [-1.0, 0.0, 1.0];

/// A graph of the block, and its values by the names that they have on paper.
pub struct Block {
    /// The graph.
    pub graph: Graph,
    /// The image `[1, 4, 4, 1]`.
    pub x: Value,
    /// Results of the layers: c, n and a `[1, 2, 2, 1]`, h `[1, 1, 1, 1]`, z `[1, 2]`.
    pub layers: [Value; 5],
    /// The loss `[1]`.
    pub loss: Value,
    /// Parameters, which learn: w `[3, 3, 1, 1]`, gamma and beta `[1]`, v `[1, 2]`, b `[2]`.
    pub parameters: [Value; 5],
}

impl Block {
    /// The forward pass.
    ///
    /// # Errors
    /// None but those of [`Graph::apply`].
    pub fn new() -> Result<Block> {
        let mut graph = Graph::new();
        let x = graph.input("x", TensorType::f32([1, 4, 4, 1]));
        let label = graph.input("label", TensorType::u32([1]));
        let w = graph.state("w", TensorType::f32([3, 3, 1, 1]))?;
        let gamma = graph.state("gamma", TensorType::f32([1]))?;
        let beta = graph.state("beta", TensorType::f32([1]))?;
        let v = graph.state("v", TensorType::f32([1, 2]))?;
        let b = graph.state("b", TensorType::f32([2]))?;

        graph.set_layer("conv");
        let c = graph.apply1(Conv::new(1, Padding::Symmetric(0), 1), &[x, w])?;
        graph.set_layer("norm");
        let norm = BatchNorm { epsilon: 0.5, activation: None };
        let n = graph.apply(norm, &[c, gamma, beta])?[0];
        graph.set_layer("relu");
        let a = graph.map(Function::Relu, n)?;
        graph.set_layer("pool");
        let h = graph.apply1(MaxPool::side_by_side(2), &[a])?;
        graph.set_layer("dense");
        let row = graph.apply1(Reshape { shape: [1, 1].into() }, &[h])?;
        let product = graph.matmul(row, v)?;
        let z = graph.add(product, b)?;
        graph.set_layer("loss");
        let loss = graph.cross_entropy(z, label)?;
        graph.output("loss", loss);
        let (layers, parameters) = ([c, n, a, h, z], [w, gamma, beta, v, b]);
        Ok(Block { graph, x, layers, loss, parameters })
    }

    /// Adds the backward pass, and a step of gradient descent of every parameter; returns the
    /// gradients in the order of the parameters.
    ///
    /// # Errors
    /// None but those of [`Graph::apply`].
    pub fn learn(&mut self, rate: f32) -> Result<Vec<Value>> {
        self.graph.set_layer("loss");
        let one = self.graph.constant(1.0, [1])?;
        let seed = (self.loss, one);
        let gradients = differentiate(&mut self.graph, &[seed], &self.parameters)?;
        self.graph.set_layer("update");
        for (parameter, &gradient) in self.parameters.into_iter().zip(&gradients) {
            let step = self.graph.scale(gradient, rate)?;
            let next = self.graph.sub(parameter, step)?;
            self.graph.update(parameter, next)?;
        }
        Ok(gradients)
    }

    /// The block as a program of a device, with the tour's numbers in it.
    ///
    /// # Errors
    /// Those of [`Program::new`].
    pub fn program(&self, device: Box<dyn Device>) -> Result<Program> {
        let mut program = Program::new(&self.graph, device)?;
        program.write("x", &Array4::from_shape_fn([1, 4, 4, 1], |(_, i, j, _)| IMAGE[i][j]))?;
        program.write("label", &array![0u32])?;
        program.write("w", &Array4::from_shape_fn([3, 3, 1, 1], |(_, s, _, _)| COLUMNS[s]))?;
        program.write("gamma", &array![4.0])?;
        program.write("beta", &array![1.0])?;
        program.write("v", &array![[1.0, -1.0]])?;
        program.write("b", &array![-7.0, 7.0])?;
        Ok(program)
    }
}
