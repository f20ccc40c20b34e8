//! Ten classes of drawn images, for a machine without CIFAR-10: the outline alone tells the
//! class.
//!
//! Colours, place, size, rotation, stretch, shading, background and clutter are random and
//! independent of the class, so that no weighting of single pixels tells much. Everything derives
//! from counter-based random numbers by additions, products, quotients and square roots, which IEEE
//! 754 rounds alike everywhere: an image is the same bytes on every machine.

use rayon::prelude::*;

use super::images::allocate;
use super::watch::{ImageProgress, Unwatched};
use super::{CHANNELS, Dataset, Images, Options};
use crate::error::Result;
use crate::kernels::rng::{self, Stream};

/// The ten classes in label order.
pub const CLASSES: [&str; 10] =
    ["circle", "ring", "square", "frame", "triangle", "cross", "star", "crescent", "heart", "arrow"];

/// Images of the default sets.
pub const TRAIN: usize = 10_000;
/// Images of the default test set.
pub const TEST: usize = 2_000;

/// The default set: [`TRAIN`] (or none) and [`TEST`] images of `size` x `size`.
///
/// # Errors
/// As [`sized`]; [`Error::Interrupted`](crate::error::Error::Interrupted) where the options say
/// stop.
pub fn dataset(size: usize, options: &Options) -> Result<Dataset> {
    let train = if options.test_only { 0 } else { TRAIN };
    let progress = ImageProgress::new(options.watch, "drawing", train + TEST);
    drawn(train, TEST, size, options.shapes_seed, &progress)
}

/// `train_n` and `test_n` images of `size` x `size`. Image `i` of a split has class `i % 10` and
/// depends on `(seed, split, i)` alone, so a smaller set is the beginning of a larger one.
///
/// # Errors
/// If the images do not fit into memory.
pub fn sized(train_n: usize, test_n: usize, size: usize, seed: u32) -> Result<Dataset> {
    drawn(train_n, test_n, size, seed, &ImageProgress::new(&Unwatched, "drawing", train_n + test_n))
}

fn drawn(train_n: usize, test_n: usize, size: usize, seed: u32, progress: &ImageProgress) -> Result<Dataset> {
    Ok(Dataset {
        name: "shapes".into(),
        classes: CLASSES.map(String::from).to_vec(),
        train: split(train_n, size, seed, 0, progress)?,
        // The upper half of the step counter belongs to the test set.
        test: split(test_n, size, seed, 1 << 31, progress)?,
        ..Dataset::default()
    })
}

fn split(n: usize, size: usize, seed: u32, first_step: u32, progress: &ImageProgress) -> Result<Images> {
    let mut pixels = allocate(n, size)?;
    let draw = |(i, image): (usize, &mut [u8])| {
        progress.one()?;
        let mut dice = Dice { seed, index: i as u32, step: first_step, pool: [0; 4], left: 0 };
        let scene = Scene::new(i % CLASSES.len(), &mut dice);
        scene.paint(image, size, &mut dice);
        Ok(())
    };
    pixels.par_chunks_mut((size * size * CHANNELS).max(1)).enumerate().try_for_each(draw)?;
    let labels = (0..n).map(|i| (i % CLASSES.len()) as u32).collect();
    Ok(Images { pixels: pixels.into(), labels, size, files: Vec::new() })
}

/// One image's own sequence of random numbers.
struct Dice {
    seed: u32,
    index: u32,
    step: u32,
    pool: [u32; 4],
    left: usize,
}

impl Dice {
    fn bits(&mut self) -> u32 {
        if self.left == 0 {
            self.pool = rng::draw(self.seed, Stream::Shapes, self.step, self.index);
            self.step += 1;
            self.left = 4;
        }
        self.left -= 1;
        self.pool[self.left]
    }

    fn range(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * rng::unit(self.bits())
    }

    fn chance(&mut self, probability: f32) -> bool {
        rng::unit(self.bits()) < probability
    }

    fn colour(&mut self) -> Rgb {
        [self.range(0.0, 1.0), self.range(0.0, 1.0), self.range(0.0, 1.0)]
    }

    /// A unit vector in any direction: a point of the unit disc, drawn by rejection, scaled to the
    /// rim. Sine and cosine would differ in the last bit from one mathematical library to the next.
    fn direction(&mut self) -> [f32; 2] {
        for _ in 0..16 {
            let [x, y] = [self.range(-1.0, 1.0), self.range(-1.0, 1.0)];
            let length = norm(x, y);
            if length > 0.1 && length <= 1.0 {
                return [x / length, y / length];
            }
        }
        [1.0, 0.0]
    }

    /// Cosine and sine of an angle within 39 degrees either way, by the half-angle formulas for the
    /// same reason. Upright enough that a small network needs only an epoch or two to know a shape.
    fn tilt(&mut self) -> [f32; 2] {
        let half = self.range(-0.35, 0.35);
        [(1.0 - half * half) / (1.0 + half * half), 2.0 * half / (1.0 + half * half)]
    }
}

/// Red, green, blue from 0 to 1.
type Rgb = [f32; 3];

fn norm(x: f32, y: f32) -> f32 {
    (x * x + y * y).sqrt()
}

fn mix(a: Rgb, b: Rgb, t: f32) -> Rgb {
    [0, 1, 2].map(|c| a[c] + (b[c] - a[c]) * t)
}

fn contrast(a: Rgb, b: Rgb) -> f32 {
    let [r, g, b] = [0, 1, 2].map(|c| a[c] - b[c]);
    (r * r + g * g + b * b).sqrt()
}

/// A colour that can be told from both ends of the background.
fn foreground(background: [Rgb; 2], dice: &mut Dice) -> Rgb {
    for _ in 0..24 {
        let colour = dice.colour();
        if background.iter().all(|&b| contrast(b, colour) > 0.5) {
            return colour;
        }
    }
    // The corner of the colour cube that is farthest from the middle of the background.
    mix(background[0], background[1], 0.5).map(|c| if c > 0.5 { 0.0 } else { 1.0 })
}

/// A thick line from `from` to `to`; a dot where they are one. In units of the image's side.
struct Stroke {
    from: [f32; 2],
    to: [f32; 2],
    radius: f32,
    colour: Rgb,
}

impl Stroke {
    fn line(dice: &mut Dice) -> Stroke {
        let from = [dice.range(0.0, 1.0), dice.range(0.0, 1.0)];
        let ([x, y], length) = (dice.direction(), dice.range(0.2, 0.6));
        let to = [from[0] + x * length, from[1] + y * length];
        Stroke { from, to, radius: dice.range(0.008, 0.02), colour: dice.colour() }
    }

    fn dot(dice: &mut Dice) -> Stroke {
        let at = [dice.range(0.0, 1.0), dice.range(0.0, 1.0)];
        Stroke { from: at, to: at, radius: dice.range(0.02, 0.06), colour: dice.colour() }
    }

    fn paint(&self, canvas: &mut Raster) {
        let middle = [0, 1].map(|a| 0.5 * (self.from[a] + self.to[a]));
        let reach = [0, 1].map(|a| 0.5 * (self.from[a] - self.to[a]).abs() + self.radius);
        canvas.blend(middle, reach, |x, y| (self.colour, segment(self.from, self.to, x, y) - self.radius));
    }
}

/// Distance from `(x, y)` to the segment `a b`.
fn segment(a: [f32; 2], b: [f32; 2], x: f32, y: f32) -> f32 {
    let [ex, ey] = [b[0] - a[0], b[1] - a[1]];
    let [px, py] = [x - a[0], y - a[1]];
    let length2 = ex * ex + ey * ey;
    let t = if length2 > 0.0 { ((px * ex + py * ey) / length2).clamp(0.0, 1.0) } else { 0.0 };
    norm(px - ex * t, py - ey * t)
}

/// All that an image shows, free of pixels: lengths are in units of its side.
struct Scene {
    class: usize,
    background: [Rgb; 2],
    /// Direction in which one background colour turns into the other.
    slope: [f32; 2],
    /// Strength and frequency of the background's stripes.
    stripes: [f32; 2],
    behind: Vec<Stroke>,
    centre: [f32; 2],
    radius: f32,
    rotation: [f32; 2],
    stretch: f32,
    colour: Rgb,
    shade: [f32; 2],
    in_front: Vec<Stroke>,
    noise: f32,
}

impl Scene {
    fn new(class: usize, dice: &mut Dice) -> Scene {
        let first = dice.colour();
        let drift = dice.range(0.1, 0.5);
        let background = [first, mix(first, dice.colour(), drift)];
        let stripes =
            if dice.chance(0.5) { [dice.range(0.05, 0.2), dice.range(2.0, 7.0)] } else { [0.0, 1.0] };
        let slope = dice.direction();
        let [lines, dots] = [1 + dice.bits() % 2, 1 + dice.bits() % 3];
        let mut behind: Vec<Stroke> = (0..lines).map(|_| Stroke::line(dice)).collect();
        behind.extend((0..dots).map(|_| Stroke::dot(dice)));
        let radius = dice.range(0.27, 0.42);
        let margin = 0.95 * radius;
        Scene {
            class,
            background,
            slope,
            stripes,
            behind,
            centre: [dice.range(margin, 1.0 - margin), dice.range(margin, 1.0 - margin)],
            radius,
            rotation: dice.tilt(),
            stretch: dice.range(0.85, 1.15),
            colour: foreground(background, dice),
            shade: [dice.range(-0.12, 0.12), dice.range(-0.12, 0.12)],
            in_front: if dice.chance(0.25) { vec![Stroke::line(dice)] } else { Vec::new() },
            noise: dice.range(0.02, 0.08),
        }
    }

    /// Fills `[size, size, 3]`, back to front.
    fn paint(&self, image: &mut [u8], size: usize, dice: &mut Dice) {
        let mut canvas = Raster { size, pixels: vec![[0.0; CHANNELS]; size * size] };
        canvas.blend([0.5, 0.5], [0.5, 0.5], |x, y| (self.background_at(x, y), f32::MIN));
        self.behind.iter().for_each(|stroke| stroke.paint(&mut canvas));
        let reach = 1.5 * self.radius; // no outline is longer, stretched or not
        canvas.blend(self.centre, [reach, reach], |x, y| self.shape_at(x, y));
        self.in_front.iter().for_each(|stroke| stroke.paint(&mut canvas));
        for (bytes, colour) in image.chunks_exact_mut(CHANNELS).zip(&canvas.pixels) {
            let noise = dice.bits().to_le_bytes();
            for c in 0..CHANNELS {
                let value = colour[c] + self.noise * (f32::from(noise[c]) / 127.5 - 1.0);
                bytes[c] = (value * 255.0 + 0.5).clamp(0.0, 255.0) as u8;
            }
        }
    }

    /// A drift from one colour to the other, with soft stripes across.
    fn background_at(&self, x: f32, y: f32) -> Rgb {
        let along = (x - 0.5) * self.slope[0] + (y - 0.5) * self.slope[1];
        // Kept positive, so that truncation takes the whole part.
        let phase = along * self.stripes[1] + 8.0;
        let wave = 4.0 * (phase - phase as i32 as f32 - 0.5).abs() - 1.0;
        let colour = mix(self.background[0], self.background[1], (along + 0.5).clamp(0.0, 1.0));
        colour.map(|c| c + 0.5 * self.stripes[0] * wave)
    }

    /// The shape's colour there, and the distance to its outline.
    fn shape_at(&self, x: f32, y: f32) -> (Rgb, f32) {
        let [dx, dy] = [(x - self.centre[0]) / self.radius, (y - self.centre[1]) / self.radius];
        // Into the shape's own frame, where it is upright and about 1 in radius.
        let u = (dx * self.rotation[0] + dy * self.rotation[1]) * self.stretch;
        let v = (dy * self.rotation[0] - dx * self.rotation[1]) / self.stretch;
        let shade = self.shade[0] * dx + self.shade[1] * dy;
        (self.colour.map(|c| c + shade), distance(self.class, u, v) * self.radius)
    }
}

/// `[size, size]` colours before they become bytes.
struct Raster {
    size: usize,
    pixels: Vec<Rgb>,
}

impl Raster {
    /// Lays a colour over the pixels within `reach` of `centre` (both in units of the side).
    /// `layer` gives the colour at a place and the signed distance to the layer's edge, negative
    /// inside.
    fn blend(&mut self, centre: [f32; 2], reach: [f32; 2], layer: impl Fn(f32, f32) -> (Rgb, f32)) {
        let size = self.size as f32;
        let span = |axis: usize| {
            let low = ((centre[axis] - reach[axis]) * size - 1.0).max(0.0) as usize;
            let high = ((centre[axis] + reach[axis]) * size + 2.0).clamp(0.0, size) as usize;
            low..high
        };
        for row in span(1) {
            for column in span(0) {
                let (colour, distance) = layer((column as f32 + 0.5) / size, (row as f32 + 0.5) / size);
                // How much of the pixel lies inside an edge that far away: the anti-aliasing.
                let cover = (0.5 - distance * size).clamp(0.0, 1.0);
                let pixel = &mut self.pixels[row * self.size + column];
                *pixel = mix(*pixel, colour, cover);
            }
        }
    }
}

/// Regular, centred, radius 1.1.
const TRIANGLE: [[f32; 2]; 3] = [[0.0, -1.1], [0.952_63, 0.55], [-0.952_63, 0.55]];
/// Five points of radius 1.15, notches of radius 0.46.
const STAR: [[f32; 2]; 10] = [
    [0.0, -1.15],
    [0.270_38, -0.372_15],
    [1.093_71, -0.355_37],
    [0.437_49, 0.142_15],
    [0.675_95, 0.930_37],
    [0.0, 0.46],
    [-0.675_95, 0.930_37],
    [-0.437_49, 0.142_15],
    [-1.093_71, -0.355_37],
    [-0.270_38, -0.372_15],
];
const ARROW: [[f32; 2]; 7] =
    [[1.1, 0.0], [0.15, 0.85], [0.15, 0.3], [-1.05, 0.3], [-1.05, -0.3], [0.15, -0.3], [0.15, -0.85]];

/// Signed distance to the outline of a class at `(x, y)`: negative inside. Radii are chosen so that
/// the classes are of similar area.
fn distance(class: usize, x: f32, y: f32) -> f32 {
    let disc = |cx: f32, cy: f32, radius: f32| norm(x - cx, y - cy) - radius;
    match class {
        0 => disc(0.0, 0.0, 0.85),
        1 => disc(0.0, 0.0, 0.72).abs() - 0.2,
        2 => rectangle(x, y, 0.75, 0.75),
        3 => rectangle(x, y, 0.66, 0.66).abs() - 0.18,
        4 => polygon(&TRIANGLE, x, y),
        5 => rectangle(x, y, 1.0, 0.3).min(rectangle(x, y, 0.3, 1.0)),
        6 => polygon(&STAR, x, y),
        7 => disc(0.0, 0.0, 0.95).max(-disc(0.45, 0.0, 0.72)),
        8 => heart(x, y),
        _ => polygon(&ARROW, x, y),
    }
}

fn rectangle(x: f32, y: f32, half_width: f32, half_height: f32) -> f32 {
    let [dx, dy] = [x.abs() - half_width, y.abs() - half_height];
    norm(dx.max(0.0), dy.max(0.0)) + dx.max(dy).min(0.0)
}

/// A square on its corner with a disc on each upper side.
fn heart(x: f32, y: f32) -> f32 {
    let half = 0.58;
    let y = y - 0.12;
    let diagonal = std::f32::consts::FRAC_1_SQRT_2;
    let square = rectangle((x + y) * diagonal, (y - x) * diagonal, half, half);
    let offset = half * diagonal;
    square.min(norm(x.abs() - offset, y + offset) - half)
}

/// Distance to the nearest edge; crossing an odd number of edges on the way out means inside.
fn polygon(corners: &[[f32; 2]], x: f32, y: f32) -> f32 {
    let mut nearest = f32::MAX;
    let mut inside = false;
    let mut previous = corners[corners.len() - 1];
    for &corner in corners {
        nearest = nearest.min(segment(previous, corner, x, y));
        if (corner[1] > y) != (previous[1] > y) {
            let crossing =
                corner[0] + (y - corner[1]) / (previous[1] - corner[1]) * (previous[0] - corner[0]);
            inside ^= x < crossing;
        }
        previous = corner;
    }
    if inside { -nearest } else { nearest }
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::*;
    use crate::data::Pixels;

    /// Multinomial logistic regression on pixels by plain SGD: `[classes, 3072 + 1]` weights, the
    /// last of each row the bias. Returns the accuracy on `test`.
    fn linear_accuracy(train: &Images, test: &Images, epochs: usize) -> f32 {
        let (inputs, classes) = (train.stride(), CLASSES.len());
        let mut weights = vec![0.0f32; classes * (inputs + 1)];
        let centred = |image: &[u8]| image.iter().map(|&p| f32::from(p) / 127.5 - 1.0).collect::<Vec<_>>();
        let scores = |weights: &[f32], x: &[f32]| {
            let dot = |row: &[f32]| row[inputs] + row.iter().zip(x).map(|(w, x)| w * x).sum::<f32>();
            weights.chunks_exact(inputs + 1).map(dot).collect::<Vec<f32>>()
        };
        for epoch in 0..epochs {
            let rate = 0.002 * (1.0 - epoch as f32 / epochs as f32);
            for i in rng::permutation(train.len(), 1, Stream::Shuffle, epoch as u32) {
                let x = centred(&train.image(i as usize).unwrap());
                let scores = scores(&weights, &x);
                let top = scores.iter().copied().fold(f32::MIN, f32::max);
                let total: f32 = scores.iter().map(|s| (s - top).exp()).sum();
                for (class, row) in weights.chunks_exact_mut(inputs + 1).enumerate() {
                    let target = f32::from(u8::from(class as u32 == train.labels[i as usize]));
                    let step = rate * ((scores[class] - top).exp() / total - target);
                    row[inputs] -= step;
                    row.iter_mut().zip(&x).for_each(|(w, x)| *w -= step * x);
                }
            }
        }
        let right = (0..test.len()).filter(|&i| {
            let scores = scores(&weights, &centred(&test.image(i).unwrap()));
            let best = (0..classes).max_by(|&a, &b| scores[a].total_cmp(&scores[b]));
            best == Some(test.labels[i] as usize)
        });
        right.count() as f32 / test.len() as f32
    }

    #[test]
    fn a_linear_model_fails_here_but_not_where_colour_tells_the_class() {
        let data = sized(4000, 1000, 32, 7).unwrap();
        let accuracy = linear_accuracy(&data.train, &data.test, 4);
        println!("linear model on pixels: {accuracy:.3}");
        assert!(accuracy < 0.6, "accuracy {accuracy}");
        // The same model must find the class once a single corner pixel gives it away.
        let tell = |mut images: Images| {
            let stride = images.stride();
            let Pixels::Memory(pixels) = &mut images.pixels else { panic!("in memory") };
            for (image, &label) in pixels.chunks_exact_mut(stride).zip(&images.labels) {
                for (k, byte) in image[..30].iter_mut().enumerate() {
                    *byte = if k % 10 == label as usize { 255 } else { 0 };
                }
            }
            images
        };
        let accuracy = linear_accuracy(&tell(data.train), &tell(data.test), 4);
        println!("with the class given away: {accuracy:.3}");
        assert!(accuracy > 0.9, "accuracy {accuracy}");
    }

    #[test]
    fn labels_are_balanced_and_every_class_has_a_name() {
        let data = sized(200, 30, 32, 0).unwrap();
        assert_eq!(data.train.counts(10), [20; 10]);
        assert_eq!(data.test.counts(10), [3; 10]);
        assert_eq!((data.classes.len(), data.name.as_str()), (10, "shapes"));
    }

    #[test]
    fn an_image_depends_on_seed_split_and_index_alone() {
        let (small, large) = (sized(30, 20, 32, 3).unwrap(), sized(60, 40, 32, 3).unwrap());
        let first = |images: &Images, count: u32| images.subset(&(0..count).collect::<Vec<_>>());
        assert_eq!(small.train.pixels, first(&large.train, 30).pixels);
        assert_eq!(small.test.pixels, first(&large.test, 20).pixels);
        assert_ne!(small.train.image(0).unwrap(), small.test.image(0).unwrap());
        assert_ne!(small.train.pixels, sized(30, 20, 32, 4).unwrap().train.pixels);
    }

    #[test]
    fn images_are_the_same_on_every_machine() {
        let data = sized(100, 0, 32, 0).unwrap();
        let digest: String =
            Sha256::digest(data.train.pixels.bytes().unwrap()).iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(digest, "35b982cb3c3bca17fd6dc6f0e828a22421cfa7169a384f23971ee7ff0a0914b1");
    }

    #[test]
    fn any_size_shows_the_same_scene() {
        // The mean colour of an image hardly changes with its resolution.
        let (small, large) = (sized(40, 0, 32, 1).unwrap().train, sized(40, 0, 96, 1).unwrap().train);
        let mean = |image: &[u8]| image.iter().map(|&b| f64::from(b)).sum::<f64>() / image.len() as f64;
        for i in 0..small.len() {
            let (a, b) = (mean(&small.image(i).unwrap()), mean(&large.image(i).unwrap()));
            assert!((a - b).abs() < 4.0, "image {i}: {a} and {b}");
        }
    }

    #[test]
    fn outlines_have_an_inside_and_an_outside() {
        for (class, name) in CLASSES.iter().enumerate() {
            let grid = (0..10_000).map(|i| ((i % 100) as f32 / 33.0 - 1.5, (i / 100) as f32 / 33.0 - 1.5));
            let inside = grid.filter(|&(x, y)| distance(class, x, y) < 0.0).count() as f32 / 33.0 / 33.0;
            assert!((0.8..3.0).contains(&inside), "{name} covers {inside}");
            assert!(distance(class, 1.5, 1.5) > 0.0, "{name}");
        }
    }
}
