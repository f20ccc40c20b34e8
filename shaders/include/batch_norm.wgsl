override EPSILON: f32;

fn inverse_deviation(variance: Value) -> Value {
    //~ batch_norm_infer: variance + EPSILON => variance
    return inverseSqrt(variance + EPSILON);
}

// The activation's argument. Forward and backward pass compute it alike, so that they agree on what
// is cut.
fn normalise(x: Value, scale: Value, shift: Value) -> Value {
    return fma(x, scale, shift);
}
