//! The ladder of the convolution: 3 x 3, stride 1, a border of one pixel of zeros, a bias, ReLU.
//!
//! `y[n, p, q, o] = max(0, bias[o] + sum over r, s, c of x[n, p + r - 1, q + s - 1, c] w[r, s, c,
//! o])`

use std::rc::Rc;

use cifar_engine::kernels::parallel;
use cifar_engine::kernels::simd::{Isa, Kernel, Simd};
use cifar_engine::ops::Function;
use cifar_engine::ops::conv::{Conv, Padding};

use super::engine::{Chain, Input};
use super::tile::{self, Right};
use super::winograd::winograd;
use super::{Floats, Ladder, Scratch, Work, compiled, functions, noise, rung};

/// The operands, pixels and weights with their channels last, and for the first rung first.
pub struct Convolution {
    pub images: usize,
    pub height: usize,
    pub width: usize,
    /// Channels of x and of y.
    pub inputs: usize,
    pub outputs: usize,
    /// `[N, H, W, C]`.
    pub x: Floats,
    /// `[3, 3, C, O]`.
    pub w: Floats,
    pub bias: Floats,
    /// `[N, C, H, W]`.
    x_planes: Floats,
    /// `[O, C, 3, 3]`.
    w_planes: Floats,
}

/// A layer in the middle of a small net for CIFAR-10.
pub fn timed() -> Ladder {
    ladder([32, 16, 16, 64, 64])
}

pub fn odd() -> Vec<Ladder> {
    vec![
        ladder([1, 1, 1, 1, 1]),
        ladder([2, 5, 7, 3, 19]),
        ladder([3, 9, 11, 17, 35]),
        ladder([1, 4, 21, 40, 64]),
    ]
}

fn ladder([images, height, width, inputs, outputs]: [usize; 5]) -> Ladder {
    let (x_dims, w_dims) = ([images, height, width, inputs], [3, 3, inputs, outputs]);
    let x = noise(x_dims.iter().product(), 1);
    let w = noise(w_dims.iter().product(), 2);
    let bias = noise(outputs, 3);
    let x_planes = channels_first(&x, height * width, inputs);
    let w_planes = channels_first(&channels_first(&w, 9 * inputs, outputs), 9, inputs);
    let op = Conv { activation: Some(Function::Relu), ..Conv::new(1, Padding::Same, 1).with_bias() };
    let operands = [Input::floats(&x_dims, &x), Input::floats(&w_dims, &w), Input::floats(&[outputs], &bias)];
    let engine = Chain::of(op, operands.to_vec());
    let operands = Convolution { images, height, width, inputs, outputs, x, w, bias, x_planes, w_planes };
    let (operands, len) = (Rc::new(operands), images * height * width * outputs);
    let mut rungs = vec![rung("naive", &operands, len, naive, channels_last)];
    rungs.extend(functions(&operands, len, RUNGS));
    rungs.push(engine.on_cpu("engine"));
    Ladder {
        title: format!("conv: {images} images of {height} x {width}, 3 x 3, {inputs} to {outputs} channels"),
        cost: engine.cost(),
        exact: Box::new(move || engine.exact()),
        tolerance: 1e-5,
        rungs,
    }
}

const RUNGS: &[(&str, Work<Convolution>)] = &[
    ("channels last", channels_last_loops),
    ("loop order", loop_order),
    ("vectors", vectors),
    ("padding", padding),
    ("register tile", register_tile),
    ("packing", packing),
    ("epilogue", epilogue),
    ("threads", threads),
    ("winograd", winograd),
];

/// Images `[pixels, channels]`, one after the other, as `[channels, pixels]`.
fn channels_first(x: &[f32], pixels: usize, channels: usize) -> Floats {
    let image = |x: &[f32]| (0..pixels * channels).map(|i| x[i % pixels * channels + i / pixels]).collect();
    x.chunks_exact(pixels * channels).flat_map(|x| -> Vec<f32> { image(x) }).collect()
}

/// The result of the first rung in the order of the others.
fn channels_last(c: &Convolution, y: &[f32]) -> Vec<f32> {
    channels_first(y, c.outputs, c.height * c.width).to_vec()
}

/// The weights that meet row p of pixels inside the image, by their row: `(r, p + r - 1)`.
fn inside(p: usize, size: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..3).filter_map(move |r| Some((r, (p + r).checked_sub(1)?))).filter(move |&(_, at)| at < size)
}

/// The formula, on images and weights that have their channels first, as books and PyTorch do.
fn naive(c: &Convolution, y: &mut [f32], _: &mut Scratch) {
    let (x, w) = (&*c.x_planes, &*c.w_planes);
    let Convolution { images, height, width, inputs, outputs, .. } = *c;
    for n in 0..images {
        for o in 0..outputs {
            for p in 0..height {
                for q in 0..width {
                    let mut sum = 0.0;
                    for k in 0..inputs {
                        for (r, i) in inside(p, height) {
                            for (s, j) in inside(q, width) {
                                sum += x[((n * inputs + k) * height + i) * width + j]
                                    * w[((o * inputs + k) * 3 + r) * 3 + s];
                            }
                        }
                    }
                    y[((n * outputs + o) * height + p) * width + q] = sum;
                }
            }
        }
    }
    for (plane, y) in y.chunks_exact_mut(height * width).enumerate() {
        y.iter_mut().for_each(|y| *y += c.bias[plane % outputs]);
    }
    relu(y);
}

fn relu(y: &mut [f32]) {
    y.iter_mut().for_each(|y| *y = y.max(0.0));
}

/// Adds the bias in one pass over y, and cuts it in another.
fn add_bias_then_relu(c: &Convolution, y: &mut [f32]) {
    for y in y.chunks_exact_mut(c.outputs) {
        y.iter_mut().zip(&*c.bias).for_each(|(y, bias)| *y += bias);
    }
    relu(y);
}

/// Channels last, and innermost: a border is looked for once for all of them, and what is summed
/// over lies side by side. The weights of one output do not, yet.
fn channels_last_loops(c: &Convolution, y: &mut [f32], _: &mut Scratch) {
    let Convolution { height, width, inputs, outputs, .. } = *c;
    for (pixel, y) in y.chunks_exact_mut(outputs).enumerate() {
        let (n, p, q) = (pixel / (height * width), pixel / width % height, pixel % width);
        for (o, y) in y.iter_mut().enumerate() {
            let mut sum = 0.0;
            for (r, i) in inside(p, height) {
                for (s, j) in inside(q, width) {
                    let x = &c.x[((n * height + i) * width + j) * inputs..][..inputs];
                    let w = c.w[(r * 3 + s) * inputs * outputs + o..].iter().step_by(outputs);
                    for (x, w) in x.iter().zip(w) {
                        sum += x * w;
                    }
                }
            }
            *y = sum;
        }
    }
    add_bias_then_relu(c, y);
}

/// The outputs innermost: weights lie side by side, and no addition waits for another, so that the
/// compiler makes vectors of them.
fn loop_order(c: &Convolution, y: &mut [f32], _: &mut Scratch) {
    each_pixel(c, y);
}

#[inline(always)]
fn each_pixel(c: &Convolution, y: &mut [f32]) {
    let Convolution { height, width, inputs, outputs, .. } = *c;
    for (pixel, y) in y.chunks_exact_mut(outputs).enumerate() {
        let (n, p, q) = (pixel / (height * width), pixel / width % height, pixel % width);
        y.fill(0.0);
        for (r, i) in inside(p, height) {
            for (s, j) in inside(q, width) {
                let x = &c.x[((n * height + i) * width + j) * inputs..][..inputs];
                let w = &c.w[(r * 3 + s) * inputs * outputs..];
                for (x, w) in x.iter().zip(w.chunks_exact(outputs)) {
                    y.iter_mut().zip(w).for_each(|(y, w)| *y += x * w);
                }
            }
        }
    }
    add_bias_then_relu(c, y);
}

/// The same loops, compiled for the vectors that this processor has.
fn vectors(c: &Convolution, y: &mut [f32], _: &mut Scratch) {
    compiled(
        #[inline(always)]
        || each_pixel(c, y),
    );
}

/// Elements of an image with its border.
fn padded_len(c: &Convolution) -> usize {
    (c.height + 2) * (c.width + 2) * c.inputs
}

/// Copies an image into a border of zeros.
fn pad(c: &Convolution, image: usize, padded: &mut [f32]) {
    let (row, rows) = ((c.width + 2) * c.inputs, c.width * c.inputs);
    let x = c.x[image * c.height * rows..].chunks_exact(rows).take(c.height);
    padded.fill(0.0);
    for (padded, x) in padded[row..].chunks_exact_mut(row).zip(x) {
        padded[c.inputs..][..rows].copy_from_slice(x);
    }
}

/// Each image in a copy with its border: nothing asks for borders any more, and the three weights
/// of a row meet pixels that lie side by side, so that the sum over them and their channels is one.
fn padding(c: &Convolution, y: &mut [f32], [padded, _]: &mut Scratch) {
    let padded = padded.room(padded_len(c));
    for (image, y) in y.chunks_exact_mut(c.height * c.width * c.outputs).enumerate() {
        pad(c, image, padded);
        compiled(
            #[inline(always)]
            || each_padded_pixel(c, padded, y),
        );
    }
    add_bias_then_relu(c, y);
}

#[inline(always)]
fn each_padded_pixel(c: &Convolution, padded: &[f32], y: &mut [f32]) {
    let Convolution { width, inputs, outputs, .. } = *c;
    for (pixel, y) in y.chunks_exact_mut(outputs).enumerate() {
        y.fill(0.0);
        for (r, w) in c.w.chunks_exact(3 * inputs * outputs).enumerate() {
            let x = &padded[((pixel / width + r) * (width + 2) + pixel % width) * inputs..];
            for (x, w) in x.iter().zip(w.chunks_exact(outputs)) {
                y.iter_mut().zip(w).for_each(|(y, w)| *y += x * w);
            }
        }
    }
}

/// Eight neighbouring pixels and two vectors of outputs stay in registers over the whole sum: a
/// multiplication and addition no longer loads and stores its sum, and eight pixels share what is
/// loaded of the weights.
fn register_tile(c: &Convolution, y: &mut [f32], [padded, _]: &mut Scratch) {
    let padded = padded.room(padded_len(c));
    for (image, y) in y.chunks_exact_mut(c.height * c.width * c.outputs).enumerate() {
        pad(c, image, padded);
        let w = Weights { values: &c.w, step: c.outputs };
        Isa::detect().run(Tiles { c, padded, w, fused: false, y });
    }
    add_bias_then_relu(c, y);
}

/// The weights as a matrix: as they lie, or packed into strips of `step` columns.
#[derive(Clone, Copy)]
struct Weights<'a> {
    values: &'a [f32],
    step: usize,
}

/// One image, tile by tile.
struct Tiles<'a> {
    c: &'a Convolution,
    padded: &'a [f32],
    w: Weights<'a>,
    /// Whether the bias and ReLU are applied as a tile is written.
    fused: bool,
    y: &'a mut [f32],
}

/// Pixels of a tile.
const PIXELS: usize = 8;

impl Kernel for Tiles<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Tiles { c: Convolution { width, inputs, outputs, bias, .. }, padded, w, fused, y } = self;
        let (run, zero) = (3 * inputs, simd.zero());
        for (p, y) in y.chunks_exact_mut(width * outputs).enumerate() {
            for o in (0..*outputs).step_by(2 * S::LANES) {
                let (columns, strip) = (o..(o + 2 * S::LANES).min(*outputs), o - o % w.step);
                let bias = tile::read(simd, &bias[columns.clone()]);
                for q in (0..*width).step_by(PIXELS) {
                    let mut sums = [if fused { bias } else { [zero; 2] }; PIXELS];
                    for r in 0..3 {
                        let x = &padded[((p + r) * (width + 2) + q) * inputs..];
                        let rows = &w.values[strip * 3 * run + r * run * w.step + o % w.step..];
                        let right = Right { rows, step: w.step, columns: w.step - o % w.step };
                        tile::multiply(simd, &mut sums, tile::rows_of(x, *inputs, width - q, run), right);
                    }
                    for (pixel, sums) in (q..*width).zip(sums) {
                        let [left, right] = sums;
                        let cut = [
                            simd.select_gt(left, zero, left, zero),
                            simd.select_gt(right, zero, right, zero),
                        ];
                        let y = &mut y[pixel * outputs..][columns.clone()];
                        tile::write(simd, y, if fused { cut } else { sums });
                    }
                }
            }
        }
    }
}

/// The weights of a strip of outputs in a copy, one after the other as they are read.
fn packing(c: &Convolution, y: &mut [f32], [padded, packed]: &mut Scratch) {
    with_packed_weights(c, y, [padded, packed], false);
    add_bias_then_relu(c, y);
}

/// The bias is where the sums begin, and ReLU on their way out of the registers: two passes over y
/// less.
fn epilogue(c: &Convolution, y: &mut [f32], [padded, packed]: &mut Scratch) {
    with_packed_weights(c, y, [padded, packed], true);
}

fn with_packed_weights(c: &Convolution, y: &mut [f32], [padded, packed]: [&mut Floats; 2], fused: bool) {
    let isa = Isa::detect();
    let padded = padded.room(padded_len(c));
    let packed = packed.room(tile::packed_len(isa, 9 * c.inputs, c.outputs));
    tile::pack(isa, &c.w, c.outputs, packed);
    let w = Weights { values: packed, step: isa.tile_columns() };
    for (image, y) in y.chunks_exact_mut(c.height * c.width * c.outputs).enumerate() {
        pad(c, image, padded);
        isa.run(Tiles { c, padded, w, fused, y });
    }
}

/// Each image by whichever core is free.
fn threads(c: &Convolution, y: &mut [f32], [padded, packed]: &mut Scratch) {
    let (isa, each) = (Isa::detect(), padded_len(c));
    let padded = padded.room(parallel::workers() * each);
    let packed = packed.room(tile::packed_len(isa, 9 * c.inputs, c.outputs));
    tile::pack(isa, &c.w, c.outputs, packed);
    let w = Weights { values: packed, step: isa.tile_columns() };
    let images = y.chunks_exact_mut(c.height * c.width * c.outputs).enumerate();
    parallel::for_each(images, padded, each, |(image, y), padded| {
        pad(c, image, padded);
        isa.run(Tiles { c, padded, w, fused: true, y });
    });
}
