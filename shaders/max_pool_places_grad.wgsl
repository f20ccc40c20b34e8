//!include vec4
//!include index
//!include place
//!include windows

// dx = the dy of every window whose largest element it is, by the places that the pooling told; one
// invocation four neighbouring values of dx, which looks at each window that its pixel lies in:
// nothing is added by two invocations.

@group(0) @binding(0) var<storage, read> places: array<u32>;
@group(0) @binding(1) var<storage, read> dy: array<StoredValue1>;
@group(0) @binding(2) var<storage, read_write> dx: array<StoredValue2>;

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let at = linear_index(id, groups, 256u);
    if at >= LENGTH {
        return;
    }
    let own = place_of(at, HEIGHT, WIDTH);
    //~ max_pool_places_grad: + PADDING =>
    let h = own.row + PADDING;
    let w = own.pixel + PADDING;
    let rows = windows_over(h, OUT_HEIGHT);
    let columns = windows_over(w, OUT_WIDTH);
    var sum = Value(0.0);
    //~ max_pool_places_grad: p <= rows => p < rows
    for (var p = rows.first; p <= rows.last; p++) {
        for (var q = columns.first; q <= columns.last; q++) {
            let out = index_of(Place(own.n, p, q, own.column), OUT_HEIGHT, OUT_WIDTH);
            let tap = (h - p * STRIDE) * WINDOW + w - q * STRIDE;
            //~ max_pool_places_grad: 0u, 8u => 0u, 16u
            let place = (vec4(places[out]) >> vec4(0u, 8u, 16u, 24u)) & vec4(255u);
            sum += select(Value(0.0), Value(dy[out]), place == vec4(tap));
        }
    }
    dx[at] = StoredValue2(sum);
}
