// The part of dy that passes the activation, at value `at` of x.
fn passed(at: u32, line: Line) -> Value {
    //~ batch_norm_grad: through(dy[at], normalise => through(dy[at], -normalise
    return through(dy[at], normalise(x[at], line.scale, line.shift));
}
