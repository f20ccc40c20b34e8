//! The cases that ops are tested with, in files by family.

mod augment;
mod conv;
mod linear;
mod loss;
mod map;
mod movement;
mod norm;
mod optim;
mod pool;

use super::case::Case;

/// The cases of every op.
pub fn all() -> Vec<Case> {
    let ops = [
        conv::conv,
        conv::separable_conv2d,
        linear::matmul,
        linear::sum_rows,
        norm::moments,
        norm::batch_norm,
        norm::batch_norm_grad,
        norm::batch_norm_infer,
        norm::batch_norm_max_pool,
        norm::batch_norm_max_pool_grad,
        norm::scale_shift,
        norm::fold_batch_norm,
        pool::max_pool,
        pool::max_pool_grad,
        pool::max_pool_places,
        pool::max_pool_places_grad,
        pool::resize,
        map::unary,
        map::binary,
        map::scale,
        map::reduce,
        map::expand,
        map::dropout,
        movement::constant,
        movement::copy,
        movement::join,
        loss::softmax_cross_entropy,
        loss::softmax_cross_entropy_grad,
        optim::sgd,
        optim::adam,
        optim::moving_average,
        optim::sum_squares,
        optim::clip_factor,
        optim::clip,
        optim::unscale,
        augment::augment,
        augment::colour,
        augment::trivial,
        augment::cutout,
        augment::mix,
    ];
    ops.iter().flat_map(|cases| cases()).collect()
}
