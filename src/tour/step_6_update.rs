//! Step 6: an updated weight, the one on paper.
//!
//! Gradient descent moves each parameter against its gradient, by the learning rate. With a rate of
//! 1/2, and dw from [step 3](super::step_3_backward#convolution):
//!
//! ```text
//!                  -1 0 1      1   -2   4  -5      1   -14  -4  21
//! w - 1/2 dw   =   -1 0 1  -  --- * -3   1  -2  =  --- * -13  -1  18
//!                  -1 0 1     16    4  -5   0     16   -20   5  16
//! ```
//!
//! One run of the program does all of it, forward, backward and update:
//!
//! ```
//! use cifar_engine::prelude::*;
//! use cifar_engine::tour::Block;
//!
//! let mut block = Block::new()?;
//! block.learn(0.5)?;
//! let mut program = block.program(device::cpu()?)?;
//! program.run()?;
//! let w: Vec<f32> = program.read("w")?.into_iter().collect();
//! let sixteenths = [-14.0, -4.0, 21.0, -13.0, -1.0, 18.0, -20.0, 5.0, 16.0];
//! assert_eq!(w, sixteenths.map(|n| n / 16.0));
//!
//! // The next run finds the image to be what it is, beyond doubt.
//! assert_eq!(program.read("loss")?[0], 2.0_f32.ln());
//! program.run()?;
//! assert!(program.read("loss")?[0] < 1e-6);
//! # Ok::<(), Error>(())
//! ```
//!
//! A training is no more than this, with more layers, many images, and a loop around it
//! ([`train::session`](crate::train::session)).
//!
//! # Is it the same everywhere?
//!
//! The kernels differ from one instruction set to the next, and sums in another order are rounded
//! in another way. Here nothing is rounded, so that all agree to the last bit. A GPU may be a
//! little off all the same: WGSL does not ask for exact quotients and roots.
//!
//! ```
//! use cifar_engine::exec::cpu::Cpu;
//! use cifar_engine::kernels::simd::Isa;
//! use cifar_engine::prelude::*;
//! use cifar_engine::tour::Block;
//!
//! let mut block = Block::new()?;
//! block.learn(0.5)?;
//! let updated = |device: Box<dyn Device>| {
//!     let mut program = block.program(device)?;
//!     program.run()?;
//!     program.read("w")
//! };
//! let w = updated(device::cpu()?)?;
//! for isa in Isa::available() {
//!     assert_eq!(updated(Box::new(Cpu::new(2, isa)?))?, w);
//! }
//! if let Ok(gpu) = device::gpu() {
//!     assert!((updated(gpu)? - w).iter().all(|difference| difference.abs() < 1e-5));
//! }
//! # Ok::<(), Error>(())
//! ```
//!
//! Now it is your turn: [step 7](super::step_7_exercises).
