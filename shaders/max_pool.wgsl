//!include vec4 | vec1
//!include index
//!include nan

// y[n, p, q, c] = the largest of a window of x; one invocation a value of y. A place in the padding
// stands for the pixel nearest to it, which lies in the window as well.
override LENGTH: u32;
override HEIGHT: u32;
override WIDTH: u32;
// Values of a pixel.
override COLUMNS: u32;
override OUT_HEIGHT: u32;
override OUT_WIDTH: u32;
override WINDOW: u32;
override STRIDE: u32;
// Pixels by which windows may reach over every border.
override PADDING: u32;

@group(0) @binding(0) var<storage, read> x: array<Value>;
@group(0) @binding(1) var<storage, read_write> y: array<Value>;

// Of place i of a window along a dimension, the pixel.
fn pixel(window: u32, i: u32, size: u32) -> u32 {
    //~ max_pool: clamp(window * STRIDE + i, PADDING, PADDING + size - 1u) - PADDING => window * STRIDE + i
    return clamp(window * STRIDE + i, PADDING, PADDING + size - 1u) - PADDING;
}

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let at = linear_index(id, groups, 256u);
    if at >= LENGTH {
        return;
    }
    let column = at % COLUMNS;
    let q = at / COLUMNS % OUT_WIDTH;
    let p = at / COLUMNS / OUT_WIDTH % OUT_HEIGHT;
    let n = at / COLUMNS / OUT_WIDTH / OUT_HEIGHT;
    var largest = x[((n * HEIGHT + pixel(p, 0u, HEIGHT)) * WIDTH + pixel(q, 0u, WIDTH)) * COLUMNS + column];
    for (var i = 0u; i < WINDOW; i++) {
        let row = (n * HEIGHT + pixel(p, i, HEIGHT)) * WIDTH;
        for (var j = 0u; j < WINDOW; j++) {
            let value = x[(row + pixel(q, j, WIDTH)) * COLUMNS + column];
            // NaN wins, so that a broken activation shows in the loss.
            //~ max_pool: value > largest => value < largest
            largest = select(largest, value, (value > largest) | is_nan(value));
        }
    }
    y[at] = largest;
}
