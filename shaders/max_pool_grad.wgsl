//!include vec4 | vec1
//!include index

// dx = the dy of every window of which x is the first largest element; one invocation a value of
// dx, which looks at each window that it lies in and there at the elements before it: nothing is
// added by two invocations.
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
@group(0) @binding(1) var<storage, read> y: array<Value>;
@group(0) @binding(2) var<storage, read> dy: array<Value>;
@group(0) @binding(3) var<storage, read_write> dx: array<Value>;

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
    //~ max_pool_grad: % HEIGHT + PADDING => % HEIGHT
    let h = at / COLUMNS / WIDTH % HEIGHT + PADDING;
    let n = at / COLUMNS / WIDTH / HEIGHT;
    let value = x[at];
    var sum = Value(0.0);
    //~ max_pool_grad: p <= min(h / STRIDE => p < min(h / STRIDE
    for (var p = first_window(h); p <= min(h / STRIDE, OUT_HEIGHT - 1u); p++) {
        for (var q = first_window(w); q <= min(w / STRIDE, OUT_WIDTH - 1u); q++) {
            let out = ((n * OUT_HEIGHT + p) * OUT_WIDTH + q) * COLUMNS + column;
            let largest = y[out];
            var mine = value == largest;
            let before = (h - p * STRIDE) * WINDOW + w - q * STRIDE;
            //~ max_pool_grad: tap < before => tap + 1u < before
            for (var tap = 0u; tap < before; tap++) {
                // Less than 0 is more than any size.
                let row = p * STRIDE + tap / WINDOW - PADDING;
                let pixel = q * STRIDE + tap % WINDOW - PADDING;
                //~ max_pool_grad: row < HEIGHT && pixel < WIDTH => true
                if row < HEIGHT && pixel < WIDTH {
                    mine = mine & (x[((n * HEIGHT + row) * WIDTH + pixel) * COLUMNS + column] != largest);
                }
            }
            sum += select(Value(0.0), dy[out], mine);
        }
    }
    dx[at] = sum;
}
