//! The map of the code: one call from a model down to the machine, and every file in a line.
//!
//! # One call
//!
//! What becomes of `b.conv2d("conv1", x, 32, 3, 1, Padding::Same)`, the first layer of a model,
//! file by file:
//!
//! 1. `src/models/cnn.rs`, `sized_cnn`: the model calls its layers in order.
//! 2. `src/nn/mod.rs`, `conv2d`: the layer makes states of its parameters, notes how they begin,
//!    and adds a node.
//! 3. `src/graph/mod.rs`, `apply_shared`: the node is checked by the op's shape rule and stored.
//! 4. `src/ops/conv/mod.rs`, `output_types`: that rule: the sizes of the output.
//! 5. `src/grad.rs`, `differentiate`: for a training, the graph is followed back from the loss.
//! 6. `src/ops/conv/mod.rs`, `gradient`: the two nodes that compute dx and dw.
//! 7. `src/train/plans.rs`, `training`: augmentation before it, loss and optimizer after it: the
//!    graph of a training step is whole.
//! 8. `src/graph/rewrite.rs`, `rewrite`: the device's rules are applied.
//! 9. `src/exec/gathered_rules.rs`, `gathered_moments`: one of them: the convolution gathers the
//!    statistics of the normalisation behind it.
//! 10. `src/exec/plan.rs`, `compile`: nodes become steps, values get slots.
//!
//! On a CPU, further:
//!
//! 11. `src/exec/cpu/mod.rs`, `load_plan`: each step becomes a closure, and memory is allocated.
//! 12. `src/ops/conv/cpu.rs`, `step`: the closure of a convolution: geometry, scratch and kernel
//!     are
//!     settled.
//! 13. `src/exec/cpu/mod.rs`, `run_with`: a run calls the closures one after the other.
//! 14. `src/kernels/conv/mod.rs`, `forward`: the loops around the matrix kernel, shared out to
//!     threads.
//! 15. `src/kernels/brgemm.rs`, `multiply`: the tile of sums in registers.
//! 16. `src/kernels/simd/avx512.rs`, `multiply_add`: one instruction: sixteen multiplications and
//!     additions.
//!
//! On a GPU, in place of that:
//!
//! 11. `src/exec/gpu/mod.rs`, `load_plan`: each step becomes a list of launches.
//! 12. `src/ops/conv/gpu.rs`, `dispatches`: shader, constants and workgroups of a convolution.
//! 13. `src/exec/gpu/pipelines.rs`, `compile`: the driver compiles each shader with its constants.
//! 14. `src/exec/gpu/program.rs`, `run`: all launches of a run are submitted at once.
//! 15. `shaders/include/tile.wgsl`, `product`: a workgroup's tile of a matrix product.
//! 16. `shaders/conv2d.wgsl`, `fetch_a`: what makes a convolution of it: where its pixels lie.
//!
//! # Every file
//!
//! In the order of the rooms of the [front page](crate), each with the first paragraph of its
//! documentation. What has a page here is a link; the rest is private.
//!
#![doc = include_str!("map.md")]
