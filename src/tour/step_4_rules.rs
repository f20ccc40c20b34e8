//! Step 4: what the rules of a device make of the graph.
//!
//! The graph says what is computed, one op after the other, and each would read and write all of
//! its values. A device may know better: it has a table of rules, each of which replaces a few
//! nodes by others that compute the same with less traffic to memory
//! ([`Device::rules`](crate::exec::Device::rules)). [`rewrite`](crate::graph::rewrite::rewrite)
//! applies them until none fits any more.
//!
//! ```
//! use cifar_engine::prelude::*;
//! use cifar_engine::tour::Block;
//!
//! let mut block = Block::new()?;
//! block.learn(0.5)?;
//! let (graph, rewrites) = device::cpu()?.rewrite(&block.graph)?;
//! rewrites.iter().for_each(|rewrite| println!("{rewrite}"));
//! println!("{graph}");
//! # Ok::<(), Error>(())
//! ```
//!
//! prints what was done,
//!
//! ```text
#![doc = include_str!("printed/rewrites.txt")]
//! ```
//!
//! and the graph that is left:
//!
//! ```text
#![doc = include_str!("printed/rewritten.txt")]
//! ```
//!
//! Hold it against the graphs of steps 2 and 3, from rule to rule:
//!
//! 1. *activation*: a ReLU after a normalisation is applied to each value as it is written. `Unary`
//!    is gone, `activation: Some(Relu)` is in its place.
//! 2. *activation's gradient*: and so on the way back. Whether the ReLU let a value pass is worked
//!    out from the value before the normalisation.
//! 3. *statistics*: the normalisation falls into two, its mean and variance and what they are used
//!    for. That costs a pass over memory, and allows what follows.
//! 4. *pooling*: the normalised values are only pooled, so that they need not be stored: neither n
//!    nor a exists any more. On the way back the largest of each window is found again.
//! 5. *gathered moments*: mean and variance are gathered from each block of c as the convolution
//!    writes it, while it is in the cache: `output: Moments`.
//!
//! The names of the values have stayed. Each rule says in a line what it replaces, and when. These
//! are all of a CPU's, with `op[..]` for an op that has taken something in:
//!
//! ```
//! use cifar_engine::prelude::*;
//!
//! for rule in device::cpu()?.rules() {
//!     println!("{}: {}", rule.name, rule.replaces);
//! }
//! # Ok::<(), Error>(())
//! ```
//!
//! ```text
#![doc = include_str!("printed/rules.txt")]
//! ```
//!
//! Those of [`exec::rules`](crate::exec::rules),
//! [`exec::epilogue_rules`](crate::exec::epilogue_rules) and
//! [`exec::gathered_rules`](crate::exec::gathered_rules) serve every device,
//! [`exec::cpu::rules`](crate::exec::cpu::rules) has the one that a CPU adds: its cache makes it
//! worthwhile.
//!
//! Next: [step 5](super::step_5_plan), where the values get their memory.
