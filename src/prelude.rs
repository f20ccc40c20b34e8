//! What a program that composes and trains models of its own begins with.
//!
//! Exclusive or, learnt by two dense layers:
//!
//! ```
//! use cifar_engine::prelude::*;
//! use ndarray::array;
//!
//! let mut graph = Graph::new();
//! let x = graph.input("x", TensorType::f32([4, 2]));
//! let labels = graph.input("labels", TensorType::u32([4]));
//! let mut layers = Builder::new(&mut graph, Mode::Infer, Norm::default());
//! let hidden = layers.dense("fc1", x, 16, Layout::Dense)?;
//! let hidden = layers.relu("relu1", hidden)?;
//! let logits = layers.dense("fc2", hidden, 2, Layout::Dense)?;
//! let parameters = layers.parameters;
//! let loss = graph.cross_entropy(logits, labels)?;
//! graph.output("loss", loss);
//! minimise(&mut graph, loss, &parameters, &SGD)?;
//!
//! let mut program = Program::new(&graph, device::cpu()?)?;
//! program.initialise(&parameters, 1)?;
//! program.write("x", &array![[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])?;
//! program.write("labels", &array![0u32, 1, 1, 0])?;
//! program.write("rate", &array![0.1])?;
//! for step in 0..200 {
//!     program.write("step", &array![step])?;
//!     program.run()?;
//! }
//! assert!(program.read("loss")?[0] < 0.01);
//! # Ok::<(), Error>(())
//! ```

pub use crate::error::{Error, Result};
pub use crate::exec::{Device, device};
pub use crate::grad::differentiate;
pub use crate::graph::{Graph, Value};
pub use crate::nn::{Builder, Init, Mode, Norm, Parameter};
pub use crate::ops::Function;
pub use crate::program::Program;
pub use crate::tensor::TensorType;
pub use crate::train::optimizers::adam::ADAM;
pub use crate::train::optimizers::sgd::SGD;
pub use crate::train::updates::minimise;
pub use crate::weights::Layout;
