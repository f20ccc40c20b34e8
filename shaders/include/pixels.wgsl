// Pixels that a convolution's patches begin with.

// Indices of four elements, and where they are pixels, their positions. In front of the borders all
// these wrap around: huge numbers are outside as well, and a sum that ends up inside has wrapped
// back.
struct Source {
    at: vec4<u32>,
    y: vec4<u32>,
    x: vec4<u32>,
}

// Four pixels in a row, each so many pixels and elements after the one before, from the first
// alone: a loop then keeps three numbers instead of twelve.
fn in_a_row(first: Source, pixels: u32, elements: u32) -> Source {
    return Source(first.at.x + elements * LANES, first.y.xxxx, first.x.x + pixels * LANES);
}
