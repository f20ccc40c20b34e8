//! Step 1: the forward pass on paper.
//!
//! An image x of 4 x 4 pixels with one channel goes through a convolution, a batch normalisation, a
//! ReLU, a max pooling and a dense layer; a softmax makes probabilities of two classes of what
//! comes out. The image is of class 0. Take a sheet and work along: every result but the loss is a
//! fraction that a computer holds exactly.
//!
//! ```text
//!       1 0 1 0            -1 0 1
//! x  =  0 0 0 1      w  =  -1 0 1     gamma = 4, beta = 1, epsilon = 1/2     v = (1, -1)
//!       0 1 0 2            -1 0 1                                            b = (-7, 7)
//!       0 0 1 3
//! ```
//!
//! # Convolution
//!
//! The window of w lies on each place of x where it fits, and the products of what lies on each
//! other are added up. That is a cross-correlation (w is not turned around), as in every framework:
//!
//! ```text
//! c[p, q] = sum over r, s of  x[p + r, q + s] w[r, s]
//! ```
#![doc = include_str!("window.svg")]
//!
//! Here w takes the right column of a window minus its left one, so it finds edges:
//!
//! ```text
//! c[0, 0] = (1 + 0 + 0) - (1 + 0 + 0) = 0      c[0, 1] = (0 + 1 + 2) - (0 + 0 + 1) = 2
//! c[1, 0] = (0 + 0 + 1) - (0 + 0 + 0) = 1      c[1, 1] = (1 + 2 + 3) - (0 + 1 + 0) = 5
//! ```
//!
//! # Batch normalisation
//!
//! Over all images and pixels of a channel, here the N = 4 values of c, with the batch's own mean
//! and its variance (divided by N, not N - 1). The usual epsilon is 1e-5 and only keeps the root
//! from being zero; 1/2 makes this root a whole number.
//!
//! ```text
//! mean     = (0 + 2 + 1 + 5) / 4 = 2
//! variance = (4 + 0 + 1 + 9) / 4 = 7/2          std = sqrt(7/2 + 1/2) = 2
//! x_hat    = (c - mean) / std     =  -1    0
//!                                   -1/2  3/2
//! n        = gamma x_hat + beta   =  -3    1
//!                                    -1    7
//! ```
//!
//! # ReLU and max pooling
//!
//! ```text
//! a = max(n, 0) = 0 1      h = the largest of the 2 x 2 window = 7
//!                 0 7
//! ```
//!
//! # Dense layer
//!
//! A matrix product and a bias; the results are called logits:
//!
//! ```text
//! z = h v + b = (7 - 7, -7 + 7) = (0, 0)
//! ```
//!
//! # Softmax and cross-entropy
//!
//! ```text
//! p[k] = exp(z[k]) / sum over m of exp(z[m])     p = (1/2, 1/2)
//! loss = -log p[label]                           loss = log 2 = 0.6931..
//! ```
//!
//! The block has no idea: both classes are equally likely to it. What it has to learn is in
//! [step 3](super::step_3_backward); first, [step 2](super::step_2_graph) has the program calculate
//! the same.
