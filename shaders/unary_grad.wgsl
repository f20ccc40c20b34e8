//!include vec4
//!include index
//!include nan
//!include function

// dx = dy f'(v), elementwise, dx in the place of dy; one invocation a vec4.
override LENGTH: u32;

@group(0) @binding(0) var<storage, read> v: array<StoredValue0>;
@group(0) @binding(1) var<storage, read_write> dx: array<StoredValue1>;

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = linear_index(id, groups, 256u);
    if i < LENGTH {
        //~ tanh_grad: Value(dx[i]) * slope_at => slope_at
        dx[i] = StoredValue1(Value(dx[i]) * slope_at(Value(v[i])));
    }
}
