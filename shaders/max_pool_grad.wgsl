//!include vec4 | vec1
//!include index
//!include place
//!include windows

// dx = the dy of every window of which x is the first largest element; one invocation a value of
// dx, which looks at each window that it lies in and there at the elements before it: nothing is
// added by two invocations.

@group(0) @binding(0) var<storage, read> x: array<Value>;
@group(0) @binding(1) var<storage, read> y: array<Value>;
@group(0) @binding(2) var<storage, read> dy: array<Value>;
@group(0) @binding(3) var<storage, read_write> dx: array<Value>;

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let at = linear_index(id, groups, 256u);
    if at >= LENGTH {
        return;
    }
    let own = place_of(at, HEIGHT, WIDTH);
    //~ max_pool_grad: + PADDING =>
    let h = own.row + PADDING;
    let w = own.pixel + PADDING;
    let rows = windows_over(h, OUT_HEIGHT);
    let columns = windows_over(w, OUT_WIDTH);
    let value = x[at];
    var sum = Value(0.0);
    //~ max_pool_grad: p <= rows => p < rows
    for (var p = rows.first; p <= rows.last; p++) {
        for (var q = columns.first; q <= columns.last; q++) {
            let out = index_of(Place(own.n, p, q, own.column), OUT_HEIGHT, OUT_WIDTH);
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
                    mine = mine & (x[index_of(Place(own.n, row, pixel, own.column), HEIGHT, WIDTH)] != largest);
                }
            }
            sum += select(Value(0.0), dy[out], mine);
        }
    }
    dx[at] = sum;
}
