//!include vec1
//!include index
//!include batch_norm

// Scale and shift of a normalisation, one invocation a channel. How many there are the buffer
// tells, whose last vector is half empty if their number is odd.
override ODD: bool;

@group(0) @binding(0) var<storage, read> gamma: array<f32>;
@group(0) @binding(1) var<storage, read> beta: array<f32>;
@group(0) @binding(2) var<storage, read> mean: array<f32>;
@group(0) @binding(3) var<storage, read> variance: array<f32>;
@group(0) @binding(4) var<storage, read_write> both: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = linear_index(id, groups, 256u);
    let length = arrayLength(&both) / 2u - u32(ODD);
    if i < length {
        let scale = gamma[i] * inverse_deviation(variance[i]);
        both[i] = scale;
        //~ scale_shift: beta[i] - mean[i] => beta[i] + mean[i]
        both[length + i] = beta[i] - mean[i] * scale;
    }
}
