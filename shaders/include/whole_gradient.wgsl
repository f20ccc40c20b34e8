// The part of dy that passes the activation, at value `at` of x.
fn activation_grad(at: u32, affine: Affine) -> Value {
    //~ batch_norm_grad: through(dy[at], normalise => through(dy[at], -normalise
    return through(dy[at], normalise(x[at], affine.scale, affine.shift));
}
