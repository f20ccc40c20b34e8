//!include vec4 | vec1
//!include index

// y[o, r, i] = x[o, i]; one invocation a value of y.
override ALONG: u32;
// In values.
override AFTER: u32;
override LENGTH: u32;

@group(0) @binding(0) var<storage, read> x: array<StoredValue0>;
@group(0) @binding(1) var<storage, read_write> y: array<StoredValue1>;

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = linear_index(id, groups, 256u);
    if i < LENGTH {
        //~ expand: i % AFTER => 0u
        y[i] = StoredValue1(Value(x[i / (ALONG * AFTER) * AFTER + i % AFTER]));
    }
}
