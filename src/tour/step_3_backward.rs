//! Step 3: each gradient, from the chain rule to the line of code.
//!
//! How much would the loss change if a number of the block were a little larger? That is the
//! derivative of the loss with respect to that number; all those of a tensor t are its gradient,
//! here written dt and of the shape of t. The chain rule says how to get from one to the next:
//! where y is computed from x,
//!
//! ```text
//! dx[i] = sum over j of  dy[j] (derivative of y[j] with respect to x[i])
//! ```
//!
//! So the gradients are found from the loss backwards, and each op needs to know only its own
//! derivatives: its gradient rule ([`Op::gradient`](crate::ops::Op::gradient)) takes dy and gives
//! dx. A value that several nodes read gets the sum of what they say.
#![doc = include_str!("backward.svg")]
//!
//! Each section derives a rule, shows the line that computes it (of the CPU's kernel, or of the
//! naive reference that is the op's specification and that the kernels are tested against), and
//! goes one step back on paper.
//!
//! # Softmax and cross-entropy
//!
//! With t = label, `loss = -log p[t] = log(sum over m of exp(z[m])) - z[t]`. The first part has the
//! derivative `exp(z[k]) / sum over m of exp(z[m])`, which is `p[k]`, and the second one -1 at the
//! label, 0 elsewhere. With `1[..]` for 1 where that is so and else 0:
//!
//! ```text
//! dz[k] = dloss (p[k] - 1[k = t])          dz = (1/2 - 1, 1/2 - 0) = (-1/2, 1/2)
//! ```
//!
//! of one image, where dloss = 1; of a batch, whose loss is the mean, divided by the number of
//! images (`scale` below is `dloss / count`). The target is more than the label where there is
//! label smoothing, and `both` is 1 unless classes have weights.
//! [`SoftmaxCrossEntropyGrad`](crate::ops::loss::softmax_cross_entropy_grad):
//!
//! > `src/ops/loss/softmax_cross_entropy_grad.rs`:
//! > `*dz = scale * (both * ((z - largest).exp() / total) - target);`
//!
//! # Dense layer
//!
//! `z[k] = sum over i of h[i] v[i, k] + b[k]`, of every row of h. The derivative of `z[k]` is
//! `v[i, k]` with respect to `h[i]`, `h[i]` with respect to `v[i, k]` and 1 with respect to `b[k]`.
//! All rows share v and b, whose gradients are sums over the rows. As products of matrices:
//!
//! ```text
//! dh = dz transpose(v)    = -1/2 * 1 + 1/2 * -1 = -1
//! dv = transpose(h) dz    = 7 (-1/2, 1/2)       = (-7/2, 7/2)
//! db = sum of rows of dz                        = (-1/2, 1/2)
//! ```
//!
//! [`Matmul`](crate::ops::linear::matmul::Matmul#method.gradient), where a is h and b is v, and
//! [`Binary`](crate::ops::map::binary::Binary#method.gradient), for the sum with b:
//!
//! > `src/ops/linear/matmul.rs`:
//! > `product(dy, b, false, !tb)?`
//!
//! > `src/ops/linear/matmul.rs`:
//! > `product(a, dy, !ta, false)?`
//!
//! > `src/ops/map/binary.rs`:
//! > `Some(Cover::Row) => graph.apply1(SumRows, &[gradient]),`
//!
//! # Max pooling
//!
//! The largest of a window is one of its elements: with respect to that one the derivative is 1, to
//! the others 0. (Where two are equally large there is no derivative; the first one gets it.)
//!
//! ```text
//! da = 0  0
//!      0 -1
//! ```
//!
//! [`MaxPoolGrad`](crate::ops::pool::max_pool_grad::MaxPoolGrad), where (i, j) is the place of the
//! first largest:
//!
//! > `src/ops/pool/max_pool_grad.rs`:
//! > `dx[[n, i, j, c]] += dy[[n, p, q, c]];`
//!
//! # ReLU
//!
//! `max(n, 0)` has the slope 1 where n is positive, and so the result, and 0 elsewhere:
//!
//! ```text
//! dn = 0  0
//!      0 -1
//! ```
//!
//! A row of [`Function`](crate::kernels::function::Function) has value and slope side by side; the
//! `Y` says that the slope is computed from the result:
//!
//! > `src/kernels/function.rs`:
//! > `Relu, "relu", |x| x.between(0.0, f64::INFINITY), Y |y| T::indicator(y > c(0.0));`
//!
//! # Batch normalisation
//!
//! `n[i] = gamma x_hat[i] + beta`, so for the two parameters, with g for dn,
//!
//! ```text
//! dbeta  = sum of g[i]             = -1
//! dgamma = sum of g[i] x_hat[i]    = -1 * 3/2 = -3/2
//! ```
//!
//! c is in x_hat three times: by itself, in the mean, and in the standard deviation,
//! `std = sqrt(variance + epsilon)`. Their derivatives with respect to `c[j]` are:
//!
//! ```text
//!                                             derivative with respect to c[j]
//! c[i]                                        1[i = j]
//! mean      = sum of c[i] / N                 1 / N
//! variance  = sum of (c[i] - mean)^2 / N      2 (c[j] - mean) / N        (1)
//! std       = sqrt(variance + epsilon)        1 / (2 std) times that = x_hat[j] / N
//! x_hat[i]  = (c[i] - mean) / std             (1[i = j] - 1/N - x_hat[i] x_hat[j] / N) / std
//! ```
//!
//! (1) The mean in there moves too, but times the sum of all `c[i] - mean`, which is 0. The chain
//! rule sums the last line over i, times `gamma g[i]`, and finds the two sums from above again:
//!
//! ```text
//! dc[j] = gamma / std (g[j] - dbeta / N - x_hat[j] dgamma / N)
//!
//!         4     0 + 1/4 - 1 * 3/8      0 + 1/4 +  0  * 3/8       -1/4   1/2
//! dc  =  --- *  0 + 1/4 - 1/2 * 3/8   -1 + 1/4 + 3/2 * 3/8   =    1/8  -3/8
//!         2
//! ```
//!
//! The four add up to 0, as they must: the same number added to all of c changes nothing. That is
//! why a convolution before a normalisation needs no bias.
//! [`BatchNormGrad`](crate::ops::norm::batch_norm_grad::BatchNormGrad):
//!
//! > `src/ops/norm/batch_norm_grad.rs`:
//! > `let dx = gamma * &inv_std * (g - &dbeta / count - x_hat * &dgamma / count);`
//!
//! # Convolution
//!
//! `c[p, q]` is a sum of products `x[i, j] w[r, s]` with i = p + r and j = q + s. The derivative is
//! the other factor. So all three passes run through the same triples of an element of x, one of w
//! and one of c, and differ in what they multiply and where they add it:
//!
//! ```text
//! forward   c[p, q]  += x[i, j] w[r, s]
//! weights   dw[r, s] += x[i, j] dc[p, q]
//! input     dx[i, j] += dc[p, q] w[r, s]
//! ```
//!
//! Sorted by what they add to: `dw[r, s]` is the sum over the window of x that `w[r, s]` met, and
//! `dx[i, j]` one over the places that looked at `x[i, j]`, a convolution with w turned around.
//!
//! ```text
//! dw[0, 0] = x[0, 0] dc[0, 0] + x[0, 1] dc[0, 1] + x[1, 0] dc[1, 0] + x[1, 1] dc[1, 1]
//!          =    1    * -1/4   +    0    *  1/2   +    0    *  1/8   +    0    * -3/8   = -1/4
//!
//!        1   -2   4  -5
//! dw =  --- * -3   1  -2
//!        8    4  -5   0
//! ```
//!
//! [`Conv`](crate::ops::conv::Conv#method.gradient) adds a node of itself, for another
//! [`Pass`](crate::ops::conv::Pass); here are the node, and the three sums of its reference:
//!
//! > `src/ops/conv/mod.rs`:
//! > `out[1] = Some(graph.apply1(Conv { pass, ..plain }, &[x, dy])?);`
//!
//! > `src/ops/conv/reference.rs`:
//! > `y[[n, p, q, o]] += x[[n, i, j, c]] * w[[r, s, k, o]];`
//!
//! > `src/ops/conv/reference.rs`:
//! > `dw[[r, s, k, o]] += x[[n, i, j, c]] * dy[[n, p, q, o]];`
//!
//! > `src/ops/conv/reference.rs`:
//! > `dx[[n, i, j, c]] += dy[[n, p, q, o]] * w[[r, s, k, o]];`
//!
//! # In the program
//!
//! [`differentiate`](crate::grad::differentiate) visits the nodes from the last to the first, has
//! each add the nodes of its gradient, and adds up what reaches a value on several ways.
//! `Block::learn` calls it, and then adds for each parameter the two nodes of its step. After the
//! nodes of the forward pass the graph now has these:
//!
//! ```text
#![doc = include_str!("printed/backward.txt")]
//! ```
//!
//! and the gradients are those on paper:
//!
//! ```
//! use cifar_engine::prelude::*;
//! use cifar_engine::tour::Block;
//!
//! let mut block = Block::new()?;
//! let gradients = block.learn(0.5)?;
//! for (name, gradient) in ["dw", "dgamma", "dbeta", "dv", "db"].into_iter().zip(gradients) {
//!     block.graph.output(name, gradient);
//! }
//! let mut program = block.program(device::cpu()?)?;
//! program.run()?;
//! let read = |name: &str| Ok::<_, Error>(program.read(name)?.into_iter().collect::<Vec<f32>>());
//! let eighths = [-2.0, 4.0, -5.0, -3.0, 1.0, -2.0, 4.0, -5.0, 0.0];
//! assert_eq!(read("dw")?, eighths.map(|n| n / 8.0));
//! assert_eq!(read("dgamma")?, [-1.5]);
//! assert_eq!(read("dbeta")?, [-1.0]);
//! assert_eq!(read("dv")?, [-3.5, 3.5]);
//! assert_eq!(read("db")?, [-0.5, 0.5]);
//! # Ok::<(), Error>(())
//! ```
//!
//! A gradient of x is not among them: nobody asked for it, so no node was added
//! ([exercise 1](super::step_7_exercises) asks). The way back needs values of the way there (%7, %9
//! to %13, %15): they must be kept, which is most of what a training needs memory for.
//!
//! Next: [step 4](super::step_4_rules), what a device makes of it.
