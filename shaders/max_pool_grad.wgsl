//!include vec4 | vec1
//!include index
//!include place
//!include windows

// dx = the dy of every window of which x is the first largest element; one invocation a value of
// dx, which looks at each window that it lies in and there at the elements before it: nothing is
// added by two invocations.

@group(0) @binding(0) var<storage, read> x: array<StoredValue0>;
@group(0) @binding(1) var<storage, read> y: array<StoredValue1>;
@group(0) @binding(2) var<storage, read> dy: array<StoredValue2>;
@group(0) @binding(3) var<storage, read_write> dx: array<StoredValue3>;

// A value of x as y holds it, which may be rounded.
fn in_y(at: u32) -> StoredValue1 {
    return StoredValue1(x[at]);
}

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
    let value = in_y(at);
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
                    mine = mine & (in_y(index_of(Place(own.n, row, pixel, own.column), HEIGHT, WIDTH)) != largest);
                }
            }
            sum += select(Value(0.0), Value(dy[out]), mine);
        }
    }
    dx[at] = StoredValue3(sum);
}
