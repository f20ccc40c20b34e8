//! Step 5: the plan, a list of steps over numbered slots of memory.
//!
//! [`Plan::compile`](crate::exec::plan::Plan::compile) puts the nodes into their final order and
//! gives each value a place. States have one of their own, for as long as the program lives.
//! Everything else is temporary, and two values that are never needed at the same time may have the
//! same slot, one after the other.
//!
//! ```
//! use cifar_engine::prelude::*;
//! use cifar_engine::tour::Block;
//!
//! let mut block = Block::new()?;
//! block.learn(0.5)?;
//! println!("{}", device::cpu()?.plan(&block.graph)?);
//! # Ok::<(), Error>(())
//! ```
//!
//! prints, with `#3` for slot 3:
//!
//! ```text
#![doc = include_str!("printed/plan.txt")]
//! ```
//!
//! The same as a picture: a column is a step, a row a slot with its size in elements, and a bar is
//! a value from the step that writes it to the last one that reads it. Light bars keep their slot
//! for themselves: inputs, the output, and what is computed once.
#![doc = include_str!("slots.svg")]
//!
//! What to see in it:
//!
//! - The first step is the constant 1 that the backward pass begins with. It depends on nothing
//!   that changes, so only the first run computes it
//!   ([`Plan::constants`](crate::exec::plan::Plan::constants)).
//! - The reshape is gone: it computes nothing, so its result is its operand under another shape
//!   ([`Alias::View`](crate::ops::Alias::View)).
//! - `Scale` writes where it reads: it works in place, which the planner allows where nobody needs
//!   the old value any more ([`Alias::InPlace`](crate::ops::Alias::InPlace)).
//! - `Sub` does not, so the five new values of the parameters are copied into their states at the
//!   end. The optimizers of the engine are ops that work in place and save that
//!   ([exercise 7](super::step_7_exercises#7-no-copies)).
//!
//! The plan is plain data, too: any question about it can be asked. How many elements of temporary
//! memory would it need if each value had its own, and how many does it need?
//!
//! ```
//! use cifar_engine::exec::plan::Location;
//! use cifar_engine::prelude::*;
//! use cifar_engine::tour::Block;
//!
//! let mut block = Block::new()?;
//! block.learn(0.5)?;
//! let plan = device::cpu()?.plan(&block.graph)?;
//! let results = plan.steps.iter().flat_map(|step| step.outputs.iter().zip(&step.types.outputs));
//! let temporary = results.filter(|(location, _)| matches!(location, Location::Slot(_)));
//! let given: usize = plan.inputs.iter().map(|input| input.ty.len()).sum();
//! let one_each = given + temporary.map(|(_, ty)| ty.len()).sum::<usize>();
//! let slots: usize = plan.slots.iter().sum();
//! assert_eq!((one_each, slots), (85, 46));
//! # Ok::<(), Error>(())
//! ```
//!
//! Then each device makes of every step, once, the closure ([`Op::cpu`](crate::ops::Op::cpu)) or
//! the shaders ([`Op::gpu`](crate::ops::Op::gpu)) that do its work. [The map](super::map#one-call)
//! follows a convolution down there.
//!
//! Next: [step 6](super::step_6_update), a run.
