//!include vec4 | vec1
//!include index
//!include batch_norm

// w' = w scale and, in the invocations of the first row, b' = beta + (b - mean) scale; one
// invocation a value of w.
override LENGTH: u32;
// Values of a row.
override COLUMNS: u32;
override HAS_BIAS: bool;

@group(0) @binding(0) var<storage, read> w: array<Value>;
@group(0) @binding(1) var<storage, read> gamma: array<Value>;
@group(0) @binding(2) var<storage, read> beta: array<Value>;
@group(0) @binding(3) var<storage, read> mean: array<Value>;
@group(0) @binding(4) var<storage, read> variance: array<Value>;
@group(0) @binding(5) var<storage, read> bias: array<Value>;
@group(0) @binding(6) var<storage, read_write> folded: array<Value>;
@group(0) @binding(7) var<storage, read_write> folded_bias: array<Value>;

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = linear_index(id, groups, 256u);
    if i < LENGTH {
        let column = i % COLUMNS;
        let scale = gamma[column] * inverse_deviation(variance[column]);
        folded[i] = w[i] * scale;
        if i < COLUMNS {
            //~ fold_batch_norm: bias[column], HAS_BIAS => bias[column], !HAS_BIAS
            let old = select(Value(0.0), bias[column], HAS_BIAS);
            //~ fold_batch_norm: old - mean[column] => old + mean[column]
            folded_bias[column] = beta[column] + (old - mean[column]) * scale;
        }
    }
}
