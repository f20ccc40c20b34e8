//!include vec4
//!include index

// dx = the dy of every window whose largest element it is, by the places that the pooling told; one
// invocation four neighbouring values of dx, which looks at each window that its pixel lies in:
// nothing is added by two invocations.
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

@group(0) @binding(0) var<storage, read> places: array<u32>;
@group(0) @binding(1) var<storage, read> dy: array<Value>;
@group(0) @binding(2) var<storage, read_write> dx: array<Value>;

// The first window that a row (or column) lies in; rows are counted from the padding's first.
fn first_window(at: u32) -> u32 {
    return select((at - WINDOW) / STRIDE + 1u, 0u, at < WINDOW);
}

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let at = linear_index(id, groups, 256u);
    if at >= LENGTH {
        return;
    }
    let column = at % COLUMNS;
    let w = at / COLUMNS % WIDTH + PADDING;
    //~ max_pool_places_grad: % HEIGHT + PADDING => % HEIGHT
    let h = at / COLUMNS / WIDTH % HEIGHT + PADDING;
    let n = at / COLUMNS / WIDTH / HEIGHT;
    var sum = Value(0.0);
    //~ max_pool_places_grad: p <= min(h / STRIDE => p < min(h / STRIDE
    for (var p = first_window(h); p <= min(h / STRIDE, OUT_HEIGHT - 1u); p++) {
        for (var q = first_window(w); q <= min(w / STRIDE, OUT_WIDTH - 1u); q++) {
            let out = ((n * OUT_HEIGHT + p) * OUT_WIDTH + q) * COLUMNS + column;
            let own = (h - p * STRIDE) * WINDOW + w - q * STRIDE;
            //~ max_pool_places_grad: 0u, 8u => 0u, 16u
            let place = vec4(places[out]) >> vec4(0u, 8u, 16u, 24u) & vec4(255u);
            sum += select(Value(0.0), dy[out], place == vec4(own));
        }
    }
    dx[at] = sum;
}
