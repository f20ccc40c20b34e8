// The mean of all losses, by a single invocation.
override ROWS: u32;

@group(0) @binding(0) var<storage, read> losses: array<f32>;
@group(0) @binding(1) var<storage, read_write> mean: array<f32>;

@compute @workgroup_size(1)
fn main() {
    var sum = 0.0;
    for (var row = 0u; row < ROWS; row++) {
        sum += losses[row];
    }
    mean[0] = sum / f32(ROWS);
}
