//!include vec4
//!include index
//!include nan
//!include function

// y = f(y), elementwise; one invocation a vec4.
override LENGTH: u32;

@group(0) @binding(0) var<storage, read_write> y: array<StoredValue0>;

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = linear_index(id, groups, 256u);
    if i < LENGTH {
        //~ sqrt: value_at(Value(y[i])) => y[i]
        y[i] = StoredValue0(value_at(Value(y[i])));
    }
}
