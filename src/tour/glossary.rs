//! The glossary: the words of this project, each with one meaning.
//!
//! - **alias**: memory that an output of an op shares with an input, as a view of the same elements
//!   or in place of them. [`Alias`](crate::ops::Alias)
//! - **architecture**: a kind of model: the function that builds it, and what else is to be known
//!   about it. [`Architecture`](crate::models::Architecture)
//! - **batch**: the images that go through a plan in one run. In shapes it is N, the first
//!   dimension. [`Axis::Batch`](crate::ops::Axis::Batch)
//! - **checkpoint**: everything from which an interrupted training goes on to the same bits.
//!   [`Checkpoint`](crate::train::checkpoint::Checkpoint)
//! - **device**: something that runs plans, a CPU or a GPU. [`Device`](crate::exec::Device)
//! - **dispatch**: a launch of a shader, as data: constants, operands, workgroups.
//!   [`Dispatch`](crate::ops::dispatch::Dispatch)
//! - **epilogue**: what a kernel does to each block of its output before it leaves the cache.
//!   [`Epilogue`](crate::kernels::parallel::Epilogue)
//! - **epoch**: once through all training images. [`Session`](crate::train::session::Session)
//! - **features**: what the frozen part of a model makes of an image; computed once, in
//!   fine-tuning. [`train::features`](crate::train::features)
//! - **gradient**: the derivative of a loss with respect to a value; of that value's shape. That of
//!   x is called dx. [`differentiate`](crate::grad::differentiate)
//! - **graph**: what is to be computed, as nodes and values. [`Graph`](crate::graph::Graph)
//! - **input**: a value that the host writes before a run.
//!   [`Source::Input`](crate::graph::Source::Input)
//! - **instruction set**: what kernels are compiled for: AVX-512, AVX2, NEON, or plain Rust.
//!   [`Isa`](crate::kernels::simd::Isa)
//! - **kernel**: a CPU loop that knows slices, and no graph. (Of a convolution, in signatures, the
//!   side of its window.) [`kernels`](crate::kernels)
//! - **layer**: the nodes and parameters that belong together under a name in a model.
//!   [`Layer`](crate::nn::Layer)
//! - **layout**: the order of a tensor's dimensions in a file of weights.
//!   [`Layout`](crate::weights::Layout)
//! - **node**: an op applied to values. [`Node`](crate::graph::Node)
//! - **op**: a pure function of tensors: shapes, gradient, CPU and GPU work, reference.
//!   [`Op`](crate::ops::Op)
//! - **optimizer**: what is added to a graph for each parameter and its gradient, so that a run
//!   moves the parameter. [`Optimizer`](crate::train::optimizers::Optimizer)
//! - **parameter**: a state that belongs to a model, and its place in a file.
//!   [`Parameter`](crate::nn::Parameter)
//! - **plan**: a graph as a list of steps over slots and states. [`Plan`](crate::exec::plan::Plan)
//! - **recipe**: a set of settings under a name. [`Recipe`](crate::train::settings::Recipe)
//! - **reference**: an op's specification: the naive formula in `f64`.
//!   [`Op::reference`](crate::ops::Op::reference)
//! - **rewrite**: one application of a rule to a graph. [`Rewrite`](crate::graph::rewrite::Rewrite)
//! - **rule**: a replacement of a few nodes by cheaper ones, of a device's table.
//!   [`Rule`](crate::graph::rewrite::Rule)
//! - **scratch**: memory for the duration of a step, with any values in it.
//!   [`CpuArgs::scratch`](crate::ops::cpu_step::CpuArgs::scratch)
//! - **segment**: steps that a CPU runs tile by tile, all of them on one tile before the next.
//!   [`exec::cpu`](crate::exec::cpu)
//! - **shader**: a program for a GPU, in WGSL. [`Shader`](crate::ops::dispatch::Shader)
//! - **slot**: temporary memory of a plan, in which values live one after the other.
//!   [`Location::Slot`](crate::exec::plan::Location::Slot)
//! - **state**: a value that stays on the device from run to run, under its name.
//!   [`Source::State`](crate::graph::Source::State)
//! - **step**: an op of a plan with the locations of its operands. A training step is a run of the
//!   whole plan. [`Step`](crate::exec::plan::Step)
//! - **tile**: a part of an op's output along an axis, and what it takes of the inputs.
//!   [`Tile`](crate::ops::Tile)
//! - **unit**: a part of a model that is frozen and trained as a whole.
//!   [`Builder::unit`](crate::nn::Builder::unit)
//! - **update**: a state, and the value that it holds after a run.
//!   [`Graph::update`](crate::graph::Graph::update)
//! - **value**: what a node computes, or an input or state: a tensor with a type, computed once.
//!   [`Value`](crate::graph::Value)
