//! The error of the algorithm, against sums in `f64`.

use super::super::conv::ConvGeometry;
use super::*;

/// The largest error, relative to the largest result. The rounding of an `f32` is 6e-8; in sums of
/// up to 1152 products the direct way loses up to 1e-6, and this one was measured to lose up to
/// 2.7e-6 on all instruction sets. With the textbook's points it would be 7e-6: this notices a
/// worse choice as well as a bug.
const BOUND: f64 = 4e-6;

/// Numbers in [-1, 1) without a pattern that a tile's size could hide.
fn noise(len: usize, seed: u32) -> Vec<f32> {
    let bits = |i: usize| (i as u32).wrapping_add(seed << 20).wrapping_mul(2_654_435_761);
    (0..len)
        .map(|i| ((bits(i) ^ (bits(i) >> 15)).wrapping_mul(0x2C1B_3C6D) >> 8) as f32 / 8_388_608.0 - 1.0)
        .collect()
}

fn geometry(
    batch: usize,
    [height, width]: [usize; 2],
    [inputs, outputs]: [usize; 2],
    pad: usize,
) -> ConvGeometry {
    ConvGeometry {
        batch,
        in_height: height,
        in_width: width,
        in_channels: inputs,
        kernel_height: 3,
        kernel_width: 3,
        stride: 1,
        pad_top: pad,
        pad_left: pad,
        out_height: height + 2 * pad - 2,
        out_width: width + 2 * pad - 2,
        out_channels: outputs,
        groups: 1,
    }
}

/// Adds every product of the convolution to the sum it belongs to: `add(x, w, y)` is given the
/// indices.
fn each_product(g: &ConvGeometry, mut add: impl FnMut(usize, usize, usize)) {
    for at in 0..g.batch * g.out_height * g.out_width {
        let (n, p, q) =
            (at / (g.out_height * g.out_width), at / g.out_width % g.out_height, at % g.out_width);
        for tap in 0..9 {
            let (i, j) = (p + tap / 3, q + tap % 3);
            if i < g.pad_top || j < g.pad_left || i - g.pad_top >= g.in_height || j - g.pad_left >= g.in_width
            {
                continue;
            }
            let x = ((n * g.in_height + i - g.pad_top) * g.in_width + j - g.pad_left) * g.in_channels;
            for c in 0..g.in_channels {
                for o in 0..g.out_channels {
                    add(x + c, (tap * g.in_channels + c) * g.out_channels + o, at * g.out_channels + o);
                }
            }
        }
    }
}

fn error(found: &[f32], expected: &[f64]) -> f64 {
    let largest = expected.iter().fold(0.0f64, |a, b| a.max(b.abs()));
    let off = found.iter().zip(expected).map(|(&a, b)| (f64::from(a) - b).abs());
    off.fold(0.0, |a: f64, b| if b.is_nan() { f64::INFINITY } else { a.max(b) }) / largest
}

/// The errors of the three directions, with scratch that is not zero.
fn errors(isa: Isa, g: &ConvGeometry) -> [f64; 3] {
    assert!(fits(g));
    let (x, w, dy) =
        (noise(g.batch * g.in_image(), 1), noise(g.weights(), 2), noise(g.batch * g.out_image(), 3));
    let mut exact = [vec![0.0; dy.len()], vec![0.0; x.len()], vec![0.0; w.len()]];
    each_product(g, |i, j, k| {
        exact[0][k] += f64::from(x[i]) * f64::from(w[j]);
        exact[1][i] += f64::from(dy[k]) * f64::from(w[j]);
        exact[2][j] += f64::from(x[i]) * f64::from(dy[k]);
    });
    let mut found = [vec![f32::NAN; dy.len()], vec![f32::NAN; x.len()], vec![f32::NAN; w.len()]];
    let scratch = |(shared, each): (usize, usize)| vec![f32::NAN; shared + each];
    let [y, dx, dw] = found.each_mut().map(Vec::as_mut_slice);
    forward(isa, g, (x[..].into(), &w), None, None, y.into(), &mut scratch(forward_scratch(isa, g)));
    input_gradient(isa, g, &dy, &w, dx.into(), &mut scratch(input_gradient_scratch(isa, g)));
    weight_gradient(isa, g, x[..].into(), &dy, dw, &mut scratch(weight_gradient_scratch(isa, g)));
    std::array::from_fn(|direction| error(&found[direction], &exact[direction]))
}

#[test]
fn errors_are_bounded_at_any_size_on_every_instruction_set() {
    let sizes = [
        geometry(1, [8, 8], [128, 128], 1),
        geometry(3, [13, 18], [65, 33], 1),
        geometry(1, [1, 1], [16, 16], 1),
        geometry(1, [3, 3], [19, 130], 0),
        geometry(9, [5, 2], [40, 16], 2),
        geometry(130, [2, 2], [31, 17], 1),
        geometry(2, [6, 5], [20, 300], 1),
        geometry(1, [7, 7], [260, 130], 1),
    ];
    for isa in Isa::available() {
        for g in &sizes {
            let errors = errors(isa, g);
            assert!(errors.iter().all(|&error| error < BOUND), "{isa}: {errors:?} of {g:?}");
        }
    }
}

#[test]
fn tiles_that_are_almost_empty_do_not_pay() {
    let of = |size: [usize; 2]| geometry(64, size, [512, 512], 1);
    for (size, expected) in
        [([1, 1], false), ([2, 2], false), ([1, 4], false), ([3, 3], true), ([5, 5], true)]
    {
        assert!(fits(&of(size)));
        assert_eq!(pays(&of(size)), expected, "{size:?}");
    }
}
