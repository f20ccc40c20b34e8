// y[n, p, q, c] = the largest of a window of x; one invocation a value of y.
override LENGTH: u32;
override HEIGHT: u32;
override WIDTH: u32;
// Values of a pixel.
override COLUMNS: u32;
override OUT_HEIGHT: u32;
override OUT_WIDTH: u32;
override WINDOW: u32;
override STRIDE: u32;

@group(0) @binding(0) var<storage, read> x: array<Value>;
@group(0) @binding(1) var<storage, read_write> y: array<Value>;

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
    let first = ((n * HEIGHT + p * STRIDE) * WIDTH + q * STRIDE) * COLUMNS + column;
    var largest = x[first];
    for (var i = 0u; i < WINDOW; i++) {
        for (var j = 0u; j < WINDOW; j++) {
            let value = x[first + (i * WIDTH + j) * COLUMNS];
            // NaN wins, so that a broken activation shows in the loss.
            largest = select(largest, value, (value > largest) | is_nan(value));
        }
    }
    y[at] = largest;
}
