//!include vec4 | vec1
//!include index
//!include place
//!include windows
//!include nan

// y[n, p, q, c] = the largest of a window of x; one invocation a value of y. A place in the padding
// stands for the pixel nearest to it, which lies in the window as well.

@group(0) @binding(0) var<storage, read> x: array<StoredValue0>;
@group(0) @binding(1) var<storage, read_write> y: array<StoredValue1>;

// Of place i of a window along a dimension, the pixel.
fn pixel(window: u32, i: u32, size: u32) -> u32 {
    //~ max_pool: clamp(window * STRIDE + i, PADDING, PADDING + size - 1u) - PADDING => window * STRIDE + i
    return clamp(window * STRIDE + i, PADDING, PADDING + size - 1u) - PADDING;
}

// The place in x of row i and pixel j of a window.
fn tap(out: Place, i: u32, j: u32) -> Place {
    return Place(out.n, pixel(out.row, i, HEIGHT), pixel(out.pixel, j, WIDTH), out.column);
}

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let at = linear_index(id, groups, 256u);
    if at >= LENGTH {
        return;
    }
    let out = place_of(at, OUT_HEIGHT, OUT_WIDTH);
    var largest = Value(x[index_of(tap(out, 0u, 0u), HEIGHT, WIDTH)]);
    for (var i = 0u; i < WINDOW; i++) {
        for (var j = 0u; j < WINDOW; j++) {
            let value = Value(x[index_of(tap(out, i, j), HEIGHT, WIDTH)]);
            // NaN wins, so that a broken activation shows in the loss.
            //~ max_pool: value > largest => value < largest
            largest = select(largest, value, (value > largest) | is_nan(value));
        }
    }
    y[at] = StoredValue1(largest);
}
