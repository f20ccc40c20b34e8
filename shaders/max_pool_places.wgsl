//!include vec4
//!include index
//!include place
//!include windows
//!include nan

// y[n, p, q, c] = the largest of a window of x, and where in the window it lies: a byte each, those
// of four channels in a word. One invocation four neighbouring values of y. A place in the padding
// stands for no pixel.

@group(0) @binding(0) var<storage, read> x: array<StoredValue0>;
@group(0) @binding(1) var<storage, read_write> y: array<StoredValue1>;
@group(0) @binding(2) var<storage, read_write> places: array<u32>;

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let at = linear_index(id, groups, 256u);
    if at >= LENGTH {
        return;
    }
    let out = place_of(at, OUT_HEIGHT, OUT_WIDTH);
    var largest = Value(0.0);
    var place = Bits(0u);
    var found = false;
    for (var i = 0u; i < WINDOW; i++) {
        for (var j = 0u; j < WINDOW; j++) {
            // Less than 0 is more than any size.
            let row = out.row * STRIDE + i - PADDING;
            let pixel = out.pixel * STRIDE + j - PADDING;
            //~ max_pool_places: row < HEIGHT && pixel < WIDTH => true
            if row < HEIGHT && pixel < WIDTH {
                let value = Value(x[index_of(Place(out.n, row, pixel, out.column), HEIGHT, WIDTH)]);
                // NaN wins, so that a broken activation shows in the loss.
                //~ max_pool_places: value > largest => value >= largest
                let larger = (value > largest) | is_nan(value) | Bools(!found);
                largest = select(largest, value, larger);
                //~ max_pool_places: i * WINDOW + j => j * WINDOW + i
                place = select(place, Bits(i * WINDOW + j), larger);
                found = true;
            }
        }
    }
    y[at] = StoredValue1(largest);
    //~ max_pool_places: place.y << 8u => place.y << 9u
    places[at] = place.x | (place.y << 8u) | (place.z << 16u) | (place.w << 24u);
}
