//! What a program of a library user begins with.
//!
//! A model is trained, saved and asked in five lines:
//!
//! ```
//! use cifar_engine::prelude::*;
//! # let folder = tempfile::tempdir().unwrap();
//! # let folder = folder.path().join("mine");
//! # let image = Dataset::open("shapes")?.part(1).test;
//!
//! let data = Dataset::open("shapes")?; // or "cifar10", or a folder of images
//! # let data = data.part(300);
//! let (mut model, outcome) = Model::train(data, &Choices::default().epochs(1), folder)?;
//! println!("{:.1} % of the test images", 100.0 * outcome.test.accuracy);
//! # let image = image.array()?;
//! # let image = image.index_axis(ndarray::Axis(0), 0);
//! println!("{:?}", model.predict_pixels(image)?.top(3)); // or predict("photo.jpg")
//! # Ok::<(), Error>(())
//! ```
//!
//! What a model is made of, for one of your own. Exclusive or, learnt by two dense layers:
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
//! let loss = layers.graph.cross_entropy(logits, labels)?;
//!
//! let mut program = training(layers, loss, &SGD, 1, device::cpu()?)?;
//! program.write("x", &array![[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])?;
//! program.write("labels", &array![0u32, 1, 1, 0])?;
//! for _ in 0..200 {
//!     program.step(0.1)?;
//! }
//! assert!(program.read("loss")?[0] < 0.01);
//! # Ok::<(), Error>(())
//! ```
//!
//! [`training`] does what most programs want: its parts are [`minimise`], [`Program::new`] and
//! [`Program::initialise`]. [`Program::plan`] shows what runs.

#[doc(inline)]
pub use crate::data::{Dataset, Images};
#[doc(inline)]
pub use crate::error::{Error, Result};
#[doc(inline)]
pub use crate::exec::{Device, device};
#[doc(inline)]
pub use crate::grad::differentiate;
#[doc(inline)]
pub use crate::graph::{Graph, Value};
#[doc(inline)]
pub use crate::model::{Model, Prediction};
#[doc(inline)]
pub use crate::models::{Architecture, Config, Network};
#[doc(inline)]
pub use crate::nn::{Builder, Init, Mode, Norm, Parameter};
#[doc(inline)]
pub use crate::ops::Function;
#[doc(inline)]
pub use crate::ops::conv::Padding;
#[doc(inline)]
pub use crate::program::Program;
#[doc(inline)]
pub use crate::tensor::TensorType;
#[doc(inline)]
pub use crate::train::optimizers::adam::ADAM;
#[doc(inline)]
pub use crate::train::optimizers::sgd::SGD;
#[doc(inline)]
pub use crate::train::optimizers::{Optimizer, ParameterStep};
#[doc(inline)]
pub use crate::train::schedules::Schedule;
#[doc(inline)]
pub use crate::train::settings::Choices;
#[doc(inline)]
pub use crate::train::updates::{minimise, training};
#[doc(inline)]
pub use crate::train::{Observer, Unobserved};
#[doc(inline)]
pub use crate::weights::Layout;

/// What a program with ops of its own begins with, besides: the interface of an op, its work on a
/// CPU and on a GPU, and the check that it is right. `tools/examples/own_op.rs` has one.
pub mod op {
    pub use crate::graph::Node;
    pub use crate::graph::op::cpu_step::{CpuStep, CpuTarget};
    pub use crate::graph::op::dispatch::{Bindings, Dispatch, Dispatches, Operand, Shader, each_value, grid};
    pub use crate::graph::op::{Alias, Gradients, Inferred, Op, Types};
    pub use crate::selftest::case::{Case, Fill};
    pub use crate::selftest::check::{Checked, check};
}
