//! Step 7: exercises, on paper and in the program.
//!
//! The [solutions](super::step_8_solutions) are programs that the tests run. A file of your own
//! under `tools/examples`, with lines in `Cargo.toml` as those of `two_moons`, is a place to try.
//!
//! ## 1. The gradient of a pixel
//!
//! How much would the loss change with the pixel `x[1, 1]`? Work out `dx[1, 1]` on paper, then ask
//! [`differentiate`](crate::grad::differentiate) for the gradient of x. Which node does it add that
//! was not there before? ([Solution](super::step_8_solutions#1-the-gradient-of-a-pixel))
//!
//! ## 2. A finite difference
//!
//! Check `dw[0, 1] = 1/2` without any mathematics: run the block with that weight a little larger
//! and a little smaller. How good is the estimate, and what happens to it when "a little" becomes
//! less and less? ([Solution](super::step_8_solutions#2-a-finite-difference))
//!
//! ## 3. A leaky ReLU
//!
//! `max(x, x / 10)` lets a tenth of the gradient through where a ReLU stops it. Compose it of two
//! nodes. Its gradient needs no line of yours: why?
//! ([Solution](super::step_8_solutions#3-a-leaky-relu))
//!
//! ## 4. Label smoothing
//!
//! With a smoothing of 1/5 the target of the block's image is no longer (1, 0) but (9/10, 1/10).
//! What are loss and dz? ([Solution](super::step_8_solutions#4-label-smoothing))
//!
//! ## 5. Momentum
//!
//! Let w move by the rate times m, where m becomes `9/10 m + dw` with each step. Write it with a
//! state and the methods of the graph, and compare three steps of it with the op
//! [`Sgd`](crate::ops::optim::sgd::Sgd). ([Solution](super::step_8_solutions#5-momentum))
//!
//! ## 6. Who lives in the slot?
//!
//! In which slot of the plan of [step 5](super::step_5_plan) does c lie, which step is the last to
//! read it, and which overwrites it? Look it up in the picture, then write a program that finds
//! out. ([Solution](super::step_8_solutions#6-who-lives-in-the-slot))
//!
//! ## 7. No copies
//!
//! Update the parameters by [`Sgd`](crate::ops::optim::sgd::Sgd), without momentum, in place of the
//! two nodes of `Block::learn`. How many steps does the plan have now, and why?
//! ([Solution](super::step_8_solutions#7-no-copies))
//!
//! ## 8. A wrong epsilon
//!
//! The backward pass of a normalisation has to use the epsilon of the forward pass. Give
//! [`BatchNormGrad`](crate::ops::norm::batch_norm_grad::BatchNormGrad) another one, and have finite
//! differences find out. That is how `tests/ops.rs` checks every gradient rule.
//! ([Solution](super::step_8_solutions#8-a-wrong-epsilon))
//!
//! ## 9. A rule that does not fit
//!
//! Make n an output of the block, so that it has to be stored. Which of the five rules of
//! [step 4](super::step_4_rules) still apply?
//! ([Solution](super::step_8_solutions#9-a-rule-that-does-not-fit))
