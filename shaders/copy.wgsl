//!include index

// y = x, as bits; one invocation a vec4.
override LENGTH: u32;

@group(0) @binding(0) var<storage, read> x: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read_write> y: array<vec4<u32>>;

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = linear_index(id, groups, 256u);
    if i < LENGTH {
        //~ copy: = x[i] => = x[i] ^ vec4(1u << 20u)
        y[i] = x[i];
    }
}
