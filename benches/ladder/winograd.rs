//! The rung of the convolution's ladder with another algorithm: Winograd's minimal filtering, as in
//! Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (2015).
//!
//! ```text
//! y = A^T [ sum over channels (G w G^T) . (B^T d B) ] A        d: 4 x 4 pixels, y: 2 x 2
//! ```
//!
//! Four pixels of y take 16 multiplications a channel instead of 36. For each of the 16 places of
//! the transformed matrices, called points, the sum over channels is a product of matrices:
//!
//! ```text
//!   image                       16 points               16 points                 image
//!  +-+-+-+-+       B^T d B     [tiles, C]    times     [tiles, O]     A^T m A    +-+-+
//!  | | | | |     ---------->     v         [C, O]  =       m        ---------->  | | |
//!  +-+-+-+-+  each tile of           (G w G^T, u)                                +-+-+
//!  | | | | |  4 x 4, two apart                                                   | | |
//! ```

use cifar_engine::kernels::parallel;
use cifar_engine::kernels::simd::{Isa, Kernel, Simd};

use super::Scratch;
use super::conv::Convolution;
use super::tile::{self, Right};

/// Places of a transformed tile.
const POINTS: usize = 16;
/// Tiles whose sums stay in registers.
const ROWS: usize = 8;

/// The sizes that the algorithm needs.
#[derive(Clone, Copy)]
struct Sizes {
    down: usize,
    across: usize,
    /// Elements of the image with its border, of v and of m; of u for each point.
    padded: usize,
    v: usize,
    m: usize,
    u: usize,
}

impl Sizes {
    fn new(isa: Isa, c: &Convolution) -> Sizes {
        let (down, across) = (c.height.div_ceil(2), c.width.div_ceil(2));
        let (tiles, u) = (down * across, tile::packed_len(isa, c.inputs, c.outputs));
        let padded = (2 * down + 2) * (2 * across + 2) * c.inputs;
        Sizes { down, across, padded, v: POINTS * tiles * c.inputs, m: POINTS * tiles * c.outputs, u }
    }
}

/// 2.25 times fewer multiplications, for transformations on the way in and out.
pub fn winograd(c: &Convolution, y: &mut [f32], [scratch, transformed]: &mut Scratch) {
    let isa = Isa::detect();
    let sizes = Sizes::new(isa, c);
    let transformed = transformed.room(POINTS * (sizes.u + c.inputs * c.outputs));
    let (u, plain) = transformed.split_at_mut(POINTS * sizes.u);
    isa.run(Weights { c, u: plain });
    for (u, plain) in u.chunks_exact_mut(sizes.u).zip(plain.chunks_exact(c.inputs * c.outputs)) {
        tile::pack(isa, plain, c.outputs, u);
    }
    let each = sizes.padded + sizes.v + sizes.m;
    let scratch = scratch.room(parallel::workers() * each);
    let images = y.chunks_exact_mut(c.height * c.width * c.outputs).enumerate();
    parallel::for_each(images, scratch, each, |(image, y), scratch| {
        let (padded, rest) = scratch.split_at_mut(sizes.padded);
        let (v, m) = rest.split_at_mut(sizes.v);
        pad(c, &sizes, image, padded);
        isa.run(Inputs { c, sizes, padded, v });
        isa.run(Products { c, u, v, m });
        isa.run(Outputs { c, sizes, m, y });
    });
}

/// Copies an image into zeros: one pixel of them before it, one or two behind.
fn pad(c: &Convolution, sizes: &Sizes, image: usize, padded: &mut [f32]) {
    let (to, from) = ((2 * sizes.across + 2) * c.inputs, c.width * c.inputs);
    let x = c.x[image * c.height * from..].chunks_exact(from).take(c.height);
    padded.fill(0.0);
    for (padded, x) in padded[to..].chunks_exact_mut(to).zip(x) {
        padded[c.inputs..][..from].copy_from_slice(x);
    }
}

/// `M X M^T`, where `one` is the product of M and a vector.
#[inline(always)]
fn both<S: Simd, const N: usize, const T: usize>(
    simd: S,
    x: [[S::Vector; N]; N],
    one: impl Fn([S::Vector; N]) -> [S::Vector; T],
) -> [[S::Vector; T]; T] {
    let (mut half, mut whole) = ([[simd.zero(); T]; N], [[simd.zero(); T]; T]);
    for (to, column) in half.iter_mut().zip(transposed(simd, x)) {
        *to = one(column);
    }
    for (to, row) in whole.iter_mut().zip(transposed(simd, half)) {
        *to = one(row);
    }
    whole
}

#[inline(always)]
fn transposed<S: Simd, const N: usize, const T: usize>(
    simd: S,
    x: [[S::Vector; T]; N],
) -> [[S::Vector; N]; T] {
    let mut to = [[simd.zero(); N]; T];
    for (i, row) in x.into_iter().enumerate() {
        for (j, value) in row.into_iter().enumerate() {
            to[j][i] = value;
        }
    }
    to
}

/// A square of vectors, the lanes that these slices have.
#[inline(always)]
fn square<'a, S: Simd, const N: usize>(
    simd: S,
    at: impl Fn(usize, usize) -> &'a [f32],
) -> [[S::Vector; N]; N] {
    let mut to = [[simd.zero(); N]; N];
    for (i, row) in to.iter_mut().enumerate() {
        for (j, to) in row.iter_mut().enumerate() {
            *to = simd.read(at(i, j));
        }
    }
    to
}

/// Sums and differences of vectors, by multiplication with 1 and -1.
#[derive(Clone, Copy)]
struct Arithmetic<S>(S);

impl<S: Simd> Arithmetic<S> {
    #[inline(always)]
    fn add(self, a: S::Vector, b: S::Vector) -> S::Vector {
        self.0.multiply_add(a, self.0.splat(1.0), b)
    }

    #[inline(always)]
    fn sub(self, a: S::Vector, b: S::Vector) -> S::Vector {
        self.0.multiply_add(b, self.0.splat(-1.0), a)
    }
}

/// `u = G w G^T`, `[16, C, O]`.
struct Weights<'a> {
    c: &'a Convolution,
    u: &'a mut [f32],
}

impl Kernel for Weights<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let (f, matrix) = (Arithmetic(simd), self.c.inputs * self.c.outputs);
        let half = simd.splat(0.5);
        for at in (0..matrix).step_by(S::LANES) {
            let lanes = at..(at + S::LANES).min(matrix);
            let w = square::<S, 3>(
                simd,
                #[inline(always)]
                |r, s| &self.c.w[(r * 3 + s) * matrix..][lanes.clone()],
            );
            let u = both(
                simd,
                w,
                #[inline(always)]
                |[a, b, c]| {
                    let outer = simd.multiply_add(half, f.add(a, c), simd.zero());
                    [
                        a,
                        simd.multiply_add(half, b, outer),
                        f.sub(outer, simd.multiply_add(half, b, simd.zero())),
                        c,
                    ]
                },
            );
            for (point, u) in u.into_iter().flatten().enumerate() {
                simd.write(&mut self.u[point * matrix..][lanes.clone()], u);
            }
        }
    }
}

/// `v = B^T d B`, `[16, tiles, C]`.
struct Inputs<'a> {
    c: &'a Convolution,
    sizes: Sizes,
    padded: &'a [f32],
    v: &'a mut [f32],
}

impl Kernel for Inputs<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Inputs { c: Convolution { inputs, .. }, sizes: Sizes { down, across, .. }, padded, v } = self;
        let (f, row, point) = (Arithmetic(simd), (2 * across + 2) * inputs, down * across * inputs);
        for tile in 0..down * across {
            let first = 2 * (tile / across) * row + 2 * (tile % across) * inputs;
            for k in (0..*inputs).step_by(S::LANES) {
                let lanes = k..(k + S::LANES).min(*inputs);
                let d = square::<S, 4>(
                    simd,
                    #[inline(always)]
                    |i, j| &padded[first + i * row + j * inputs..][lanes.clone()],
                );
                let d = both(
                    simd,
                    d,
                    #[inline(always)]
                    |[a, b, c, d]| [f.sub(a, c), f.add(b, c), f.sub(c, b), f.sub(b, d)],
                );
                for (number, d) in d.into_iter().flatten().enumerate() {
                    simd.write(&mut v[number * point + tile * inputs..][lanes.clone()], d);
                }
            }
        }
    }
}

/// `m = v u`, point by point: `[16, tiles, O]`.
struct Products<'a> {
    c: &'a Convolution,
    u: &'a [f32],
    v: &'a [f32],
    m: &'a mut [f32],
}

impl Kernel for Products<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Products { c: Convolution { inputs, outputs, .. }, u, v, m } = self;
        let (tiles, step) = (v.len() / POINTS / inputs, 2 * S::LANES);
        let points = u.chunks_exact(u.len() / POINTS).zip(v.chunks_exact(tiles * inputs));
        for ((u, v), m) in points.zip(m.chunks_exact_mut(tiles * outputs)) {
            for o in (0..*outputs).step_by(step) {
                let right = Right { rows: &u[o * inputs..], step, columns: step };
                for first in (0..tiles).step_by(ROWS) {
                    let mut sums = [[simd.zero(); 2]; ROWS];
                    let v = tile::rows_of(&v[first * inputs..], *inputs, tiles - first, *inputs);
                    tile::multiply(simd, &mut sums, v, right);
                    for (tile, sums) in (first..tiles).zip(sums) {
                        tile::write(simd, &mut m[tile * outputs..][o..(o + step).min(*outputs)], sums);
                    }
                }
            }
        }
    }
}

/// `y = A^T m A` with the bias and ReLU; of a tile at the border, what lies in the image.
struct Outputs<'a> {
    c: &'a Convolution,
    sizes: Sizes,
    m: &'a [f32],
    y: &'a mut [f32],
}

impl Kernel for Outputs<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Outputs { c: Convolution { height, width, outputs, bias, .. }, sizes, m, y } = self;
        let (f, zero, point) = (Arithmetic(simd), simd.zero(), sizes.down * sizes.across * outputs);
        for tile in 0..sizes.down * sizes.across {
            for o in (0..*outputs).step_by(S::LANES) {
                let lanes = o..(o + S::LANES).min(*outputs);
                let (bias, from) = (simd.read(&bias[lanes.clone()]), tile * outputs);
                let m = square::<S, 4>(
                    simd,
                    #[inline(always)]
                    |i, j| &m[(4 * i + j) * point + from..][lanes.clone()],
                );
                let values = both(
                    simd,
                    m,
                    #[inline(always)]
                    |[a, b, c, d]| [f.add(a, f.add(b, c)), f.sub(f.sub(b, c), d)],
                );
                for (i, row) in values.into_iter().enumerate() {
                    for (j, value) in row.into_iter().enumerate() {
                        let (p, q) = (2 * (tile / sizes.across) + i, 2 * (tile % sizes.across) + j);
                        if p < *height && q < *width {
                            let value = f.add(value, bias);
                            let y = &mut y[(p * width + q) * outputs..][lanes.clone()];
                            simd.write(y, simd.select_gt(value, zero, value, zero));
                        }
                    }
                }
            }
        }
    }
}
