//! Step 2: the block as a graph, printed and run.
//!
//! This is the file `src/tour/block.rs`, which the following pages use as [`Block`](super::Block).
//! A user of the library could have written it: states are what stays on the device, inputs are
//! what the host writes, and each method or op adds a node.
//!
//! ```
#![doc = include_str!("block.rs")]
//!
//! // A graph prints itself: a line a node, with types, op, operands and layer.
//! println!("{}", Block::new()?.graph);
//! # Ok::<(), Error>(())
//! ```
//!
//! It prints:
//!
//! ```text
#![doc = include_str!("printed/forward.txt")]
//! ```
//!
//! What to see in it:
//!
//! - Nothing has been calculated: the graph is a list of what is to be. The types are known all the
//!   same, because every op has a shape rule ([`Op::output_types`](crate::ops::Op::output_types));
//!   a layer that does not fit is an error here, before anything runs.
//! - `%7` stands for a value without a name. Each is computed once, by the node that stands left of
//!   the `=`, so the order of the lines is one in which they can run.
//! - A batch normalisation has three results, since mean and variance are needed again: by the
//!   backward pass, and by whoever keeps running statistics.
//! - The pixels are `[N, H, W, C]`: images, rows, columns, channels.
//!
//! Made an output, any value can be read after a run. They are those on paper, without any error of
//! rounding, since all are small fractions of powers of two:
//!
//! ```
//! use cifar_engine::prelude::*;
//! use cifar_engine::tour::Block;
//!
//! let mut block = Block::new()?;
//! for (name, value) in ["c", "n", "a", "h", "z"].into_iter().zip(block.layers) {
//!     block.graph.output(name, value);
//! }
//! let mut program = block.program(device::cpu()?)?;
//! program.run()?;
//! let read = |name: &str| Ok::<_, Error>(program.read(name)?.into_iter().collect::<Vec<f32>>());
//! assert_eq!(read("c")?, [0.0, 2.0, 1.0, 5.0]);
//! assert_eq!(read("n")?, [-3.0, 1.0, -1.0, 7.0]);
//! assert_eq!(read("a")?, [0.0, 1.0, 0.0, 7.0]);
//! assert_eq!(read("h")?, [7.0]);
//! assert_eq!(read("z")?, [0.0, 0.0]);
//! assert_eq!(read("loss")?, [std::f32::consts::LN_2]);
//! # Ok::<(), Error>(())
//! ```
//!
//! Next: [step 3](super::step_3_backward), the way back.
