//! The forward pass, and the input's gradient, which is a forward pass with other weights.

use super::super::brgemm::{Start, Strips, Sum, SumAxis};
use super::super::conv::{ConvGeometry, Scratch};
use super::super::function::{Activation, Clamp, activate, beyond_clamp, clamp_of};
use super::super::input::Input;
use super::super::parallel::{self, Destination, OutputBlock};
use super::super::simd::{Isa, Kernel, Simd};
use super::transform::{Finish, G, TilePosition, transform_input, transform_output};
use super::{IN, LINE, OUT, POINTS, fits, whole_vectors};

/// Tiles of a work item, if they come in whole rows: as many as leave room in a L2 cache of 1 MB
/// for the weights of up to 64 channels, few enough to share out.
const TILES: usize = 32;

/// How the output is cut into work items: some whole images, or some rows of tiles of one image.
#[derive(Clone, Copy)]
struct Items {
    images: usize,
    rows: usize,
    /// Tiles of the image.
    across: usize,
    down: usize,
}

impl Items {
    fn new(g: &ConvGeometry) -> Items {
        let (down, across) = (g.out_height.div_ceil(OUT), g.out_width.div_ceil(OUT));
        // A small batch is cut finer, so that there is something to share out.
        let tiles = TILES.min(g.batch * down * across / 16);
        if tiles >= down * across {
            Items { images: tiles / (down * across), rows: down, across, down }
        } else {
            Items { images: 1, rows: (tiles / across).max(1), across, down }
        }
    }

    /// Tiles of the largest item.
    fn tiles(&self) -> usize {
        self.images * self.rows * self.across
    }

    /// Items of an image, or 1 if they are larger.
    fn of_image(&self) -> usize {
        self.down.div_ceil(self.rows)
    }

    /// How many there are.
    fn count(&self, g: &ConvGeometry) -> usize {
        g.batch.div_ceil(self.images) * self.of_image()
    }

    /// The output, cut.
    fn cut<'a>(&self, g: &ConvGeometry, y: &'a mut [f32]) -> impl Iterator<Item = &'a mut [f32]> + Send {
        let images = self.images * g.out_image();
        let item = if self.images > 1 { images } else { self.rows * OUT * g.out_width * g.out_channels };
        y.chunks_mut(images).flat_map(move |y| y.chunks_mut(item))
    }
}

/// Elements of the transformed weights: for every point, strips of a tile's columns as
/// [`super::super::brgemm`] wants them.
fn transformed_len(isa: Isa, g: &ConvGeometry) -> usize {
    POINTS * g.in_channels * g.out_channels.next_multiple_of(isa.tile_columns())
}

/// Distances between the points' matrices of transformed inputs and of products.
fn point_strides(isa: Isa, g: &ConvGeometry) -> [usize; 2] {
    let tiles = Items::new(g).tiles();
    [g.in_channels, g.out_channels].map(|channels| tiles * whole_vectors(isa, channels) + LINE)
}

/// Scratch of [`forward`].
pub fn forward_scratch(isa: Isa, g: &ConvGeometry) -> Scratch {
    let points = POINTS * point_strides(isa, g).iter().sum::<usize>();
    (transformed_len(isa, g), points + POINTS * g.in_channels)
}

/// Blocks of rows of the output that an epilogue of [`forward`] gets to see.
pub fn forward_blocks(g: &ConvGeometry) -> usize {
    Items::new(g).count(g)
}

/// `y [N, OH, OW, O] = activation(x [N, H, W, I] * w [3, 3, I, O] + bias [O])`.
pub fn forward(
    isa: Isa,
    g: &ConvGeometry,
    (x, w): (Input, &[f32]),
    bias: Option<&[f32]>,
    activation: Activation,
    Destination { y, epilogue }: Destination,
    scratch: &mut [f32],
) {
    assert!(fits(g) && g.is_countable());
    assert!(x.x.len() == g.batch * g.in_image() && y.len() == g.batch * g.out_image());
    let (shared, each) = forward_scratch(isa, g);
    let (u, scratch) = scratch.split_at_mut(shared);
    parallel::for_each(u.chunks_exact_mut(shared / IN).enumerate(), &mut [], 0, |(row, u), _| {
        isa.run(TransformWeights { g, row, w, u });
    });
    let (u, items) = (&*u, Items::new(g));
    let strides = point_strides(isa, g);
    let outputs = epilogue.with(items.cut(g, y)).enumerate();
    parallel::for_each(outputs, scratch, each, |(index, (y, finish)), scratch| {
        let first_row = index % items.of_image() * items.rows;
        let images = y.len().div_ceil(g.out_image());
        let height = y.len() / images / (g.out_width * g.out_channels);
        let item = Item { g, images, height, first_row, across: items.across, strides };
        let first = index / items.of_image() * items.images;
        let from = first * g.out_image() + first_row * OUT * g.out_width * g.out_channels;
        let (v, rest) = scratch.split_at_mut(POINTS * strides[0]);
        let (m, patch) = rest.split_at_mut(POINTS * strides[1]);
        let x = Input { x: &x.x[first * g.in_image()..][..images * g.in_image()], ..x };
        isa.run(Inputs { item, x, v, patch });
        multiply(isa, &item, u, v, m);
        isa.run(Outputs { item, m, bias, clamp: clamp_of(activation), y: &mut *y });
        activate(isa, beyond_clamp(activation), y);
        finish(OutputBlock { from, rows: y });
    });
}

/// Scratch of [`input_gradient`].
pub fn input_gradient_scratch(isa: Isa, g: &ConvGeometry) -> Scratch {
    let (shared, each) = forward_scratch(isa, &g.reversed());
    (shared + g.weights(), each)
}

/// `dx [N, H, W, I]` from `dy [N, OH, OW, O]` and `w [3, 3, I, O]`: a convolution with the weights
/// turned by half a circle and their channels exchanged.
pub fn input_gradient(
    isa: Isa,
    g: &ConvGeometry,
    dy: &[f32],
    w: &[f32],
    dx: Destination,
    scratch: &mut [f32],
) {
    let (rotated, scratch) = scratch.split_at_mut(g.weights());
    let (i, o) = (g.in_channels, g.out_channels);
    let taps = rotated.chunks_exact_mut(i * o).zip(w.chunks_exact(i * o).rev());
    parallel::for_each(taps, &mut [], 0, |(to, from), _| {
        for (o, to) in to.chunks_exact_mut(i).enumerate() {
            for (to, from) in to.iter_mut().zip(from.chunks_exact(g.out_channels)) {
                *to = from[o];
            }
        }
    });
    forward(isa, &g.reversed(), (dy.into(), rotated), None, None, dx, scratch);
}

/// `G w G^T` at the six points of one row.
struct TransformWeights<'a> {
    g: &'a ConvGeometry,
    row: usize,
    w: &'a [f32],
    u: &'a mut [f32],
}

impl Kernel for TransformWeights<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let (inputs, outputs) = (self.g.in_channels, self.g.out_channels);
        let width = 2 * S::LANES;
        let point = self.u.len() / IN;
        for c in 0..inputs {
            for o in (0..outputs.next_multiple_of(width)).step_by(S::LANES) {
                let lanes = S::LANES.min(outputs.saturating_sub(o));
                let mut half = [simd.zero(); 3];
                for (tap, from) in self.w.chunks_exact(inputs * outputs).enumerate() {
                    let from = &from[c * outputs + o.min(outputs)..][..lanes];
                    // SAFETY: the slice holds as many elements as are loaded.
                    let w = unsafe { simd.load_first(from.as_ptr(), lanes) };
                    let factor = simd.splat(G[self.row][tap / 3]);
                    half[tap % 3] = simd.multiply_add(factor, w, half[tap % 3]);
                }
                let at = (o / width * inputs + c) * width + o % width;
                for (j, factors) in G.iter().enumerate() {
                    let mut value = simd.zero();
                    for (half, factor) in half.iter().zip(factors) {
                        value = simd.multiply_add(simd.splat(*factor), *half, value);
                    }
                    let to = &mut self.u[j * point + at..][..S::LANES];
                    // SAFETY: the slice holds a vector.
                    unsafe { simd.store(to.as_mut_ptr(), value) };
                }
            }
        }
    }
}

/// One work item: `height` rows of outputs, from row `first_row` of tiles on, of each of some
/// images.
#[derive(Clone, Copy)]
struct Item<'a> {
    g: &'a ConvGeometry,
    images: usize,
    height: usize,
    first_row: usize,
    across: usize,
    strides: [usize; 2],
}

/// Its inputs are transformed: v `[points, tiles, I]`.
struct Inputs<'a> {
    item: Item<'a>,
    /// The item's images.
    x: Input<'a>,
    v: &'a mut [f32],
    /// For one tile.
    patch: &'a mut [f32],
}

impl Kernel for Inputs<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Item { g, height, first_row, across, strides: [stride, _], .. } = self.item;
        let channels = g.in_channels.next_multiple_of(S::LANES);
        let mut to = 0;
        for x in self.x.x.chunks_exact(g.in_image()) {
            let x = Input { x, ..self.x };
            for (i, j) in tiles(height, across) {
                let top = (first_row + i) * OUT;
                let at = (top as isize - g.pad_top as isize, (j * OUT) as isize - g.pad_left as isize);
                let place = TilePosition::new(IN, at, (g.in_height, g.in_width), g.in_channels);
                let tile = place.source(simd, x, 0..g.in_channels, self.patch);
                for c in (0..g.in_channels).step_by(S::LANES) {
                    let tile = tile.channels::<S>(c, g.in_channels);
                    let to = &mut self.v[to + c..][..(POINTS - 1) * stride + S::LANES];
                    // SAFETY: `to` holds the vectors of 36 points.
                    unsafe { transform_input(simd, &tile, to.as_mut_ptr(), stride) };
                }
                to += channels;
            }
        }
    }
}

/// One product a point: `m [tiles, O] = v [tiles, I] * u [I, O]`.
fn multiply(isa: Isa, item: &Item, u: &[f32], v: &[f32], m: &mut [f32]) {
    let (g, width) = (item.g, isa.tile_columns());
    let rows = item.images * item.height.div_ceil(OUT) * item.across;
    let [a_row, columns] = [g.in_channels, g.out_channels].map(|channels| whole_vectors(isa, channels));
    let inner = SumAxis { count: g.in_channels, a: 1, b: width };
    for (point, u) in u.chunks_exact(u.len() / POINTS).enumerate() {
        let a = &v[point * item.strides[0]..];
        isa.run(Strips {
            sum: Sum { a, b: u, a_row, axes: [SumAxis::ONE, SumAxis::ONE, inner] },
            a_from: 0,
            strip: g.in_channels * width,
            start: Start::Zero,
            c: &mut m[point * item.strides[1]..],
            c_row: columns,
            rows,
            columns,
        });
    }
}

/// The products are transformed back, to the item's part of y.
struct Outputs<'a> {
    item: Item<'a>,
    m: &'a [f32],
    bias: Option<&'a [f32]>,
    clamp: Clamp,
    y: &'a mut [f32],
}

impl Kernel for Outputs<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Item { g, images, height, across, strides: [_, stride], .. } = self.item;
        let channels = g.out_channels.next_multiple_of(S::LANES);
        let (low, high) = (simd.splat(self.clamp.0), simd.splat(self.clamp.1));
        let mut from = 0;
        for y in self.y.chunks_exact_mut(self.y.len() / images) {
            for (i, j) in tiles(height, across) {
                let at = ((i * OUT) as isize, (j * OUT) as isize);
                let place = TilePosition::new(OUT, at, (height, g.out_width), g.out_channels);
                for o in (0..g.out_channels).step_by(S::LANES) {
                    let lanes = S::LANES.min(g.out_channels - o);
                    let from = self.m[from + o..][..(POINTS - 1) * stride + S::LANES].as_ptr();
                    // SAFETY: the bias, if any, holds `lanes` elements from o on; `from` holds the
                    // vectors of 36 points; y is an image of `height` rows, of which `lanes`
                    // channels from o on are written.
                    unsafe {
                        let bias = match self.bias {
                            Some(bias) => simd.load_first(bias[o..][..lanes].as_ptr(), lanes),
                            None => simd.zero(),
                        };
                        let finish = Finish { bias, low, high };
                        transform_output(simd, &place, from, stride, finish, y[o..].as_mut_ptr(), lanes);
                    }
                }
                from += channels;
            }
        }
    }
}

/// The tiles of so many rows of outputs.
#[inline(always)]
fn tiles(height: usize, across: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..height.div_ceil(OUT)).flat_map(move |i| (0..across).map(move |j| (i, j)))
}
