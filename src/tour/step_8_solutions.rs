//! Step 8: the solutions of the exercises, as programs.
//!
//! ## 1. The gradient of a pixel
//!
//! `x[1, 1]` lies in all four windows, each time under another weight:
//!
//! ```text
//! dx[1, 1] = dc[0, 0] w[1, 1] + dc[0, 1] w[1, 0] + dc[1, 0] w[0, 1] + dc[1, 1] w[0, 0]
//!          =   -1/4   *  0    +   1/2    * -1    +   1/8    *  0    +   -3/8   * -1    = -1/8
//! ```
//!
//! The new node is a convolution of the pass [`InputGrad`](crate::ops::conv::Pass::InputGrad).
//!
//! ```
//! use cifar_engine::prelude::*;
//! use cifar_engine::tour::Block;
//!
//! let Block { mut graph, x, loss, .. } = Block::new()?;
//! let one = graph.constant(1.0, [1])?;
//! let dx = differentiate(&mut graph, &[(loss, one)], &[x])?[0];
//! graph.output("dx", dx);
//! assert!(graph.to_string().contains("InputGrad"));
//! let mut program = Block { graph, ..Block::new()? }.program(device::cpu()?)?;
//! program.run()?;
//! assert_eq!(program.read("dx")?[[0, 1, 1, 0]], -1.0 / 8.0);
//! # Ok::<(), Error>(())
//! ```
//!
//! ## 2. A finite difference
//!
//! Of a step h the slope `(loss(w + h) - loss(w - h)) / 2 h` is wrong by a multiple of h^2. But the
//! two losses are rounded to 24 bits, and their difference loses those that they have in common: an
//! h that is too small makes it worse again.
//!
//! ```
//! use cifar_engine::prelude::*;
//! use cifar_engine::tour::Block;
//!
//! let mut program = Block::new()?.program(device::cpu()?)?;
//! let w = program.read("w")?;
//! let mut slope = |h: f32| {
//!     let [mut up, mut down] = [w.clone(), w.clone()];
//!     up[[0, 1, 0, 0]] += h;
//!     down[[0, 1, 0, 0]] -= h;
//!     let mut loss = |w| {
//!         program.write("w", w)?;
//!         program.run()?;
//!         Ok::<f32, Error>(program.read("loss")?[0])
//!     };
//!     Ok::<f32, Error>((loss(&up)? - loss(&down)?) / (2.0 * h))
//! };
//! let mut error = |h| Ok::<f32, Error>((slope(h)? - 0.5).abs());
//! let [large, right, small] = [error(0.5)?, error(0.01)?, error(1e-6)?];
//! assert!(right < 1e-3 && right < large && right < small, "{large} {right} {small}");
//! # Ok::<(), Error>(())
//! ```
//!
//! ## 3. A leaky ReLU
//!
//! `max` sends the gradient to the larger operand, and both are made of x, whose gradient is the
//! sum of what comes from either way: [`differentiate`](crate::grad::differentiate) does that for
//! every composition.
//!
//! ```
//! use cifar_engine::ops::map::binary::Function2;
//! use cifar_engine::prelude::*;
//! use ndarray::array;
//!
//! let mut graph = Graph::new();
//! let x = graph.input("x", TensorType::f32([4]));
//! let tenth = graph.scale(x, 0.1)?;
//! let y = graph.map2(Function2::Max, x, tenth)?;
//! let ones = graph.constant(1.0, [4])?;
//! let dx = differentiate(&mut graph, &[(y, ones)], &[x])?[0];
//! graph.output("y", y);
//! graph.output("dx", dx);
//! let mut program = Program::new(&graph, device::cpu()?)?;
//! program.write("x", &array![-20.0, -10.0, 10.0, 20.0])?;
//! program.run()?;
//! assert_eq!(program.read("y")?, array![-2.0, -1.0, 10.0, 20.0].into_dyn());
//! assert_eq!(program.read("dx")?, array![0.1, 0.1, 1.0, 1.0].into_dyn());
//! # Ok::<(), Error>(())
//! ```
//!
//! ## 4. Label smoothing
//!
//! The loss is still log 2, since both probabilities are 1/2 and the target sums to 1; dz is p
//! minus the target, (1/2 - 9/10, 1/2 - 1/10).
//!
//! ```
//! use cifar_engine::ops::loss::softmax_cross_entropy::SoftmaxCrossEntropy;
//! use cifar_engine::prelude::*;
//! use ndarray::array;
//!
//! let mut graph = Graph::new();
//! let z = graph.input("z", TensorType::f32([1, 2]));
//! let label = graph.input("label", TensorType::u32([1]));
//! let loss = graph.apply(SoftmaxCrossEntropy { smoothing: 0.2 }, &[z, label])?[0];
//! let one = graph.constant(1.0, [1])?;
//! let dz = differentiate(&mut graph, &[(loss, one)], &[z])?[0];
//! graph.output("loss", loss);
//! graph.output("dz", dz);
//! let mut program = Program::new(&graph, device::cpu()?)?;
//! program.write("z", &array![[0.0, 0.0]])?;
//! program.write("label", &array![0u32])?;
//! program.run()?;
//! assert!((program.read("loss")?[0] - 2.0_f32.ln()).abs() < 1e-6);
//! let dz = program.read("dz")?;
//! assert!((dz[[0, 0]] + 0.4).abs() < 1e-6 && (dz[[0, 1]] - 0.4).abs() < 1e-6);
//! # Ok::<(), Error>(())
//! ```
//!
//! ## 5. Momentum
//!
//! ```
//! use cifar_engine::ops::optim::sgd::Sgd;
//! use cifar_engine::prelude::*;
//! use cifar_engine::tour::Block;
//!
//! const RATE: f32 = 1.0 / 64.0;
//!
//! /// w after three steps; `add` adds the update of w and m by dw.
//! fn trained(add: fn(&mut Graph, [Value; 3]) -> Result<()>) -> Result<ndarray::ArrayD<f32>> {
//!     let mut block = Block::new()?;
//!     let Block { graph, loss, parameters: [w, ..], .. } = &mut block;
//!     let one = graph.constant(1.0, [1])?;
//!     let dw = differentiate(graph, &[(*loss, one)], &[*w])?[0];
//!     let m = graph.state("m", TensorType::f32([3, 3, 1, 1]))?;
//!     add(graph, [*w, m, dw])?;
//!     let mut program = block.program(device::cpu()?)?;
//!     program.write("m", &ndarray::Array4::<f32>::zeros([3, 3, 1, 1]))?;
//!     for _ in 0..3 {
//!         program.run()?;
//!     }
//!     program.read("w")
//! }
//!
//! let composed = trained(|graph, [w, m, dw]| {
//!     let kept = graph.scale(m, 0.9)?;
//!     let moved = graph.add(kept, dw)?;
//!     let step = graph.scale(moved, RATE)?;
//!     let next = graph.sub(w, step)?;
//!     graph.update(m, moved)?;
//!     graph.update(w, next)
//! })?;
//! let by_the_op = trained(|graph, [w, m, dw]| {
//!     let rate = graph.constant(RATE, [1])?;
//!     let op = Sgd { momentum: 0.9, nesterov: false, decay: 0.0 };
//!     let next = graph.apply(op, &[w, m, dw, rate])?;
//!     graph.update(w, next[0])?;
//!     graph.update(m, next[1])
//! })?;
//! assert!((composed - by_the_op).iter().all(|difference| difference.abs() < 1e-6));
//! # Ok::<(), Error>(())
//! ```
//!
//! ## 6. Who lives in the slot?
//!
//! c is the first output of the convolution.
//!
//! ```
//! use cifar_engine::prelude::*;
//! use cifar_engine::tour::Block;
//!
//! let mut block = Block::new()?;
//! block.learn(0.5)?;
//! let plan = device::cpu()?.plan(&block.graph)?;
//! let writer = plan.steps.iter().position(|step| step.op.name() == "conv2d").unwrap();
//! let slot = plan.steps[writer].outputs[0];
//! let later = || plan.steps.iter().enumerate().skip(writer + 1);
//! let (next, _) = later().find(|(_, step)| step.outputs.contains(&slot)).unwrap();
//! let readers = later().filter(|(i, step)| *i <= next && step.inputs.contains(&slot));
//! let names: Vec<&str> = readers.map(|(_, step)| step.op.name()).collect();
//! assert_eq!(names, ["batch_norm_max_pool", "batch_norm_max_pool_grad"]);
//! assert_eq!(plan.steps[next].op.name(), "conv2d_weight_grad");
//! # Ok::<(), Error>(())
//! ```
//!
//! ## 7. No copies
//!
//! `Sgd` works in place: the planner lets its result be the state itself, because it is the state's
//! own update and nobody reads the old value later. The five copies are gone, and two nodes are
//! one.
//!
//! ```
//! use cifar_engine::ops::optim::sgd::Sgd;
//! use cifar_engine::prelude::*;
//! use cifar_engine::tour::Block;
//!
//! let mut block = Block::new()?;
//! let Block { graph, loss, parameters, .. } = &mut block;
//! let one = graph.constant(1.0, [1])?;
//! let gradients = differentiate(graph, &[(*loss, one)], parameters)?;
//! let rate = graph.constant(0.5, [1])?;
//! for (&parameter, gradient) in parameters.iter().zip(gradients) {
//!     let name = format!("{}.momentum", graph.name(parameter));
//!     let momentum = graph.state(&name, graph.ty(parameter).clone())?;
//!     let op = Sgd { momentum: 0.0, nesterov: false, decay: 0.0 };
//!     let next = graph.apply(op, &[parameter, momentum, gradient, rate])?;
//!     graph.update(parameter, next[0])?;
//!     graph.update(momentum, next[1])?;
//! }
//! let plan = device::cpu()?.plan(graph)?;
//! assert!(plan.steps.iter().all(|step| step.op.name() != "copy"));
//!
//! let mut usual = Block::new()?;
//! usual.learn(0.5)?;
//! // Five copies and five of ten nodes less, and a second constant: the rate.
//! assert_eq!(plan.steps.len(), device::cpu()?.plan(&usual.graph)?.steps.len() - 9);
//! # Ok::<(), Error>(())
//! ```
//!
//! ## 8. A wrong epsilon
//!
//! ```
//! use cifar_engine::ops::norm::batch_norm::BatchNorm;
//! use cifar_engine::ops::norm::batch_norm_grad::BatchNormGrad;
//! use cifar_engine::prelude::*;
//! use ndarray::{Array2, array};
//!
//! /// How far `BatchNormGrad` with this epsilon is from finite differences of `sum of dy y`.
//! fn error(epsilon: f32) -> Result<f32> {
//!     let mut graph = Graph::new();
//!     let [x, dy] = ["x", "dy"].map(|name| graph.input(name, TensorType::f32([4, 1])));
//!     let [gamma, beta] = ["gamma", "beta"].map(|name| graph.input(name, TensorType::f32([1])));
//!     let y = graph.apply(BatchNorm { epsilon: 0.5, activation: None }, &[x, gamma, beta])?;
//!     let gradient = BatchNormGrad { epsilon, activation: None };
//!     let dx = graph.apply1(gradient, &[dy, x, gamma, beta, y[1], y[2]])?;
//!     graph.output("y", y[0]);
//!     graph.output("dx", dx);
//!     let mut program = Program::new(&graph, device::cpu()?)?;
//!     let x: Array2<f32> = array![[0.0], [2.0], [1.0], [5.0]];
//!     let dy: Array2<f32> = array![[0.0], [0.0], [0.0], [-1.0]];
//!     program.write("dy", &dy)?;
//!     program.write("gamma", &array![4.0])?;
//!     program.write("beta", &array![1.0])?;
//!     let mut run = |x: &Array2<f32>| {
//!         program.write("x", x)?;
//!         program.run()?;
//!         Ok::<_, Error>(((program.read("y")? * &dy).sum(), program.read("dx")?))
//!     };
//!     let dx = run(&x)?.1;
//!     let mut largest = 0.0_f32;
//!     for i in 0..4 {
//!         let [mut up, mut down] = [x.clone(), x.clone()];
//!         up[[i, 0]] += 0.01;
//!         down[[i, 0]] -= 0.01;
//!         let slope = (run(&up)?.0 - run(&down)?.0) / 0.02;
//!         largest = largest.max((slope - dx[[i, 0]]).abs());
//!     }
//!     Ok(largest)
//! }
//!
//! assert!(error(0.5)? < 1e-3);
//! assert!(error(1e-5)? > 1e-2);
//! # Ok::<(), Error>(())
//! ```
//!
//! ## 9. A rule that does not fit
//!
//! A value that the host reads must exist, so the pooling can no longer swallow the normalisation,
//! and the ReLU, which the output has not passed yet, cannot join it either. With the ReLU on its
//! own, its gradient stays a node, too. What is left is the other end.
//!
//! ```
//! use cifar_engine::prelude::*;
//! use cifar_engine::tour::Block;
//!
//! let mut block = Block::new()?;
//! block.learn(0.5)?;
//! block.graph.output("n", block.layers[1]);
//! let (_, rewrites) = device::cpu()?.rewrite(&block.graph)?;
//! let rules: Vec<&str> = rewrites.iter().map(|rewrite| rewrite.rule).collect();
//! assert_eq!(rules, ["statistics", "gathered moments"]);
//! # Ok::<(), Error>(())
//! ```
//!
//! The end of the tour. [The glossary](super::glossary) and [the map](super::map) are for the way
//! from here.
