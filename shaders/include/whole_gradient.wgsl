// The part of dy that passes the activation, at value `at` of x.
fn activation_grad(at: u32, affine: Affine) -> Value {
    //~ batch_norm_grad: (dy[at]), normalise => (dy[at]), -normalise
    return through(Value(dy[at]), normalise(Value(x[at]), affine.scale, affine.shift));
}
