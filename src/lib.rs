//! A from-scratch tensor and autodiff engine that trains image classifiers.
//!
//! New here? The [`tour`] takes one block of a network from pixels to an updated weight, first on
//! paper and then in the program. It has a [glossary](tour::glossary), and a [map](tour::map) of
//! all files. The [`prelude`] begins with a program.
//!
//! # The one idea: the program is data
//!
//! ```text
//! models -> Graph -> differentiate | Device::load: rewrite by its rules -> Plan -> lower
//!           (SSA)    (adds nodes)  |              (fewer nodes)      (steps over slots)
//! ```
//!
//! A model is built once as a small static graph. A whole training step (augmentation, forward
//! pass, loss, backward pass, optimizer) is one [`exec::plan::Plan`]: a list of steps over
//! numbered slots of memory that can be printed, counted, checked and run. The host uploads a few
//! integers (the batch's indices, the step, the learning rate) and reads back loss and accuracy.
//!
//! The graph is what all devices share. An op says what is computed; a device decides how: it
//! rewrites the graph by its own table of rules, plans the memory, and makes of every step, once,
//! the closure or the shaders that do its work.
//!
//! # A first program
//!
//! See [`prelude`]: [`model::Model`] loads, trains and asks a model, [`program::Program`] runs a
//! graph, [`graph::Graph`] has the methods it is composed with. `tools/examples` has programs.
//!
//! # Features
//!
//! `cli`, the program, and `gpu`, devices by wgpu, are the default; a program without `gpu`
//! computes on the CPU only, and is smaller. Without `cli`, `download` has data and weights from
//! the network, `plots` the pictures and the page of a finished run, `onnx` and `tensorboard` files
//! for others; a training on a CPU needs none of them. `mpi`, which the program has only where it
//! is asked for, trains in several processes ([`team`]).
//!
//! # Reading order
//!
//! 1. [`ops`]: what an operation is. Read [`ops::norm::batch_norm_infer`] for a small one with
//!    everything: mathematics, shape rule, gradient rule, CPU and GPU work, naive reference; then
//!    [`ops::conv`], the large one. [`ops::map`] has what layers can be composed of. The cases that
//!    ops are tested with are in [`selftest`], which the engine does without.
//! 2. [`graph`]: values and nodes; [`mod@grad`] differentiates by adding nodes, [`graph::rewrite`]
//!    applies rules to them, [`exec::plan`] gives every value its memory.
//! 3. [`kernels`]: the CPU loops behind the ops, which know no graph. [`kernels::brgemm`] is the
//!    one matrix kernel; [`kernels::conv`], [`kernels::winograd`], [`kernels::matmul`] and
//!    [`kernels::separable`] are loops around it; [`kernels::simd`] compiles each for every
//!    instruction set. How such loops come about, from the formula on and a step at a time, with
//!    the time of each, is in `benches/ladder/README.md`. The shaders are explained in
//!    `shaders/README.md`; [`graph::op::dispatch`] is how an op describes its launches,
//!    [`graph::op::cpu_step`] what it gives a CPU.
//! 4. [`exec`]: devices that run graphs: [`exec::cpu`], and [`exec::gpu`], the only place that
//!    knows wgpu; what it launches is data, in [`exec::launches`]. [`exec::rules`] and
//!    [`exec::epilogue_rules`] are rules for both, [`exec::cpu::rules`] those that a CPU adds.
//!    States (parameters, moments, statistics, the data set) belong to the plan they were loaded
//!    with and those loaded beside it ([`exec::Device::load_beside`]): to a model.
//! 5. [`nn`] and [`models`]: layers, and the models made of them.
//! 6. [`train`]: the plans of a training, and the loop around them; [`train::settings`] is the
//!    table of its settings, [`train::optimizers`] and [`train::schedules`] are lists of what there
//!    is; [`train::finetune`] has two stages of it; [`report`] draws what came out; [`inside`]
//!    looks inside a trained model, [`inspect`] inside a program.
//! 7. [`data`], [`weights`], [`files`], [`console`], [`environment`], [`memory`], [`text`]:
//!    everything that comes from or goes to a disk, a network or a terminal. [`registry`]: lists of
//!    what goes by a name.
//! 8. [`cli`]: one file a subcommand.
//!
//! # Rooms
//!
//! Imports run one way: a room uses those that stand below it here, in its tests too.
//!
//! ```text
//! tour         one block by hand and in the program; glossary and map
//! cli          one file a subcommand
//! prelude      what a program of a library user begins with
//! model        a trained model on a device, for library users
//! inspect      plans, times of steps, ops: what there is to look at inside a program
//! train        trainings, their plans and files; evaluation
//! inside       what there is to look at inside a trained model
//! report       tables, curves, pages
//! onnx         trained models as files for other programs
//! models       the models, and weights from elsewhere
//! program      a graph on a device, with arrays in and out
//! nn           layers
//! registry     lists of things with a name
//! selftest     cases that ops are tested with
//! exec         devices: rules, plans, runs
//! grad         differentiation
//! ops          what can be computed
//! graph        values, nodes, rewriting; what an op is
//! tensor       shapes and buffers
//! data         images
//! weights      files of weights
//! files        writing without loss
//! memory       how much is free
//! console      the terminal
//! environment  variables
//! text         words for numbers
//! team         processes that train together
//! error        what goes wrong
//! ```
//!
//! [`kernels`], a crate of its own, is below all of them.
//!
//! # Layouts
//!
//! Activations are NHWC, convolution weights HWIO, dense weights `[in, out]`: a pointwise
//! convolution is then a plain matrix product and batch normalisation reduces over rows. On disk
//! weights have PyTorch's layout; the conversion lives in [`weights::layout`], once.
//!
//! # Promises
//!
//! - The same seed gives the same bits, whatever the number of threads: every reduction runs in a
//!   fixed order ([`kernels::rows`], [`kernels::conv`]), and random numbers are a function of what
//!   they are for ([`kernels::rng`]). Instruction sets differ from each other in the last digits.
//! - A run allocates nothing: a plan's memory is laid out when it is loaded.
//! - An op without a gradient is an error, never an approximation.
//! - No input reaches a panic; every error is one line that says what to do.
//!
//! # Where it departs from the obvious
//!
//! - An op that works in place *always* does: the planner proves that it may, or gives it a copy.
//!   So a kernel has one form, not two, and no op can tell the difference.
//! - There is no im2col: the matrix kernel sums over up to three nested indices, which makes the
//!   forward convolution and both gradients one kernel with other strides.
//! - A convolution hands each block of rows that it has written to an epilogue
//!   ([`kernels::parallel::Epilogue`]), which finds it in the cache: that is how a normalisation
//!   after it gets its statistics, and one before it, in the backward pass, its sums
//!   ([`ops::conv::Output`]). On a GPU the block is a tile of a product, in registers.
//! - A convolution, and the gradient of its weights, can normalise their input as they read it, in
//!   the cache ([`ops::conv::Conv::input`]): the output of a normalisation in training is not
//!   stored.
//! - In inference the threads share out the images of a batch, not the rows of one step after the
//!   other: each takes a few images through all steps that treat images by themselves, in its own
//!   cache. Of a large image alone, each takes bands of rows through the first layers. Both are
//!   tiles along an axis ([`graph::op::Op::tile`]), run by one mechanism.
//! - What depends on nothing but weights that a plan leaves alone, such as weights with their
//!   normalisation folded in, is computed once and kept until somebody writes a state
//!   ([`exec::plan::Plan::constants`]). The planner finds it; no op and no model says so.
//! - Between two steps of a plan threads look for work instead of falling asleep: waking them would
//!   take longer than many a step. While no plan runs, they sleep.
//! - What is known to be zero is not computed: the gradient of a bias that a normalisation takes
//!   away again.
//! - Gradient ops compute what they need again where that is cheaper than to read it: the fused
//!   batch normalisation finds the sign of its output from its input.

#![warn(missing_docs)]
#![deny(unsafe_code)] // only kernels have some: those of the CPU, and `exec/gpu/unchecked.rs`

#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod cli;
#[doc(hidden)]
pub mod console;
pub mod data;
#[doc(hidden)]
pub mod environment;
pub mod error;
pub mod exec;
#[doc(hidden)]
pub mod files;
pub mod grad;
pub mod graph;
pub mod inside;
pub mod inspect;
#[doc(hidden)]
pub mod memory;
pub mod model;
pub mod models;
pub mod nn;
#[cfg(feature = "onnx")]
pub mod onnx;
pub mod ops;
pub mod prelude;
pub mod program;
pub mod registry;
pub mod report;
pub mod selftest;
pub mod team;
pub mod tensor;
#[doc(hidden)]
pub mod text;
pub mod tour;
pub mod train;
pub mod weights;

pub use cifar_engine_kernels as kernels;

// The tour shows a program of a user of the library, which is compiled here under the same name.
extern crate self as cifar_engine;
