// What happens to a finished element of a matrix product before it is stored.
override BIAS: bool;

// `shift` is what `bias` holds for the element's column, if there is one.
fn epilogue(value: vec4<f32>, shift: vec4<f32>) -> vec4<f32> {
    if BIAS {
        return value + shift;
    }
    return value;
}
