//!include vec4 | vec1
//!include index
//!include nan
//!include function
//!include batch_norm

// y = activation(gamma (x - mean) / sqrt(variance + epsilon) + beta + residual); one invocation a
// value.
override LENGTH: u32;
// Values of a row.
override COLUMNS: u32;
override RESIDUAL: bool;

@group(0) @binding(0) var<storage, read> x: array<StoredValue0>;
@group(0) @binding(1) var<storage, read> gamma: array<Value>;
@group(0) @binding(2) var<storage, read> beta: array<Value>;
@group(0) @binding(3) var<storage, read> mean: array<Value>;
@group(0) @binding(4) var<storage, read> variance: array<Value>;
@group(0) @binding(5) var<storage, read_write> y: array<StoredValue5>;
@group(0) @binding(6) var<storage, read> residual: array<StoredValue6>;

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = linear_index(id, groups, 256u);
    if i < LENGTH {
        let column = i % COLUMNS;
        let scale = gamma[column] * inverse_deviation(variance[column]);
        //~ batch_norm_infer: - mean[column] * scale =>
        //~ batch_norm: - mean[column] * scale =>
        var value = normalise(Value(x[i]), scale, beta[column] - mean[column] * scale);
        if RESIDUAL {
            //~ batch_norm_infer: value += => value -=
            value += Value(residual[i]);
        }
        y[i] = StoredValue5(activate(value));
    }
}
