//! 1x1 convolutions that take every pixel are plain matrix products, in all three directions.

use super::conv::ConvGeometry;
use super::matmul::Product;

/// y = x w: the product of pixels x channels with the weights.
pub fn forward(g: &ConvGeometry) -> Option<Product> {
    let alone = g.kernel_height * g.kernel_width * g.stride == 1 && g.pad_top + g.pad_left == 0;
    let same = (g.in_height, g.in_width) == (g.out_height, g.out_width);
    let (m, n, k) = (g.batch * g.out_height * g.out_width, g.out_channels, g.in_channels);
    (alone && same).then_some(Product { m, n, k, a_transposed: false, b_transposed: false })
}

/// dx = dy w'.
pub fn input_gradient(g: &ConvGeometry) -> Option<Product> {
    forward(g).map(|p| Product { n: p.k, k: p.n, b_transposed: true, ..p })
}

/// dw = x' dy, where the weights are many: groups of images, each with a sum of its own, would take
/// longer to add than to compute. Every work item of the product reads all of dy, which must not be
/// too large.
pub fn weight_gradient(g: &ConvGeometry) -> Option<Product> {
    let Product { m, n, k, .. } = forward(g)?;
    let pays = n * k >= 1 << 14 && m * n <= 2 << 20;
    pays.then_some(Product { m: k, n, k: m, a_transposed: true, b_transposed: false })
}
