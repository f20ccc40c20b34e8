//!include vec4 | vec1
//!include index
//!include place
//!include nan
//!include function
//!include batch_norm

// y = the largest of a window of 2x2 normalised and activated values; one invocation a value of y.
override LENGTH: u32;
// Values of a pixel.
override COLUMNS: u32;
// Of x.
override HEIGHT: u32;
override WIDTH: u32;

@group(0) @binding(0) var<storage, read> x: array<StoredValue0>;
@group(0) @binding(1) var<storage, read> gamma: array<Value>;
@group(0) @binding(2) var<storage, read> beta: array<Value>;
@group(0) @binding(3) var<storage, read> mean: array<Value>;
@group(0) @binding(4) var<storage, read> variance: array<Value>;
@group(0) @binding(5) var<storage, read_write> y: array<StoredValue5>;

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let at = linear_index(id, groups, 256u);
    if at >= LENGTH {
        return;
    }
    let out = place_of(at, HEIGHT / 2u, WIDTH / 2u);
    let first = index_of(Place(out.n, 2u * out.row, 2u * out.pixel, out.column), HEIGHT, WIDTH);
    let scale = gamma[out.column] * inverse_deviation(variance[out.column]);
    let shift = beta[out.column] - mean[out.column] * scale;
    var largest = activate(normalise(Value(x[first]), scale, shift));
    for (var tap = 1u; tap < 4u; tap++) {
        //~ batch_norm_max_pool: tap / 2u * WIDTH => tap / 2u
        let pixel = Value(x[first + (tap / 2u * WIDTH + tap % 2u) * COLUMNS]);
        let value = activate(normalise(pixel, scale, shift));
        // NaN wins, so that a broken activation shows in the loss.
        //~ batch_norm_max_pool: value > largest => value < largest
        largest = select(largest, value, (value > largest) | is_nan(value));
    }
    y[at] = StoredValue5(largest);
}
