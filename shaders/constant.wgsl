//!include index

// y = VALUE; one invocation a vec4.
override LENGTH: u32;
override VALUE: f32;

@group(0) @binding(0) var<storage, read_write> y: array<vec4<f32>>;

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = linear_index(id, groups, 256u);
    if i < LENGTH {
        //~ constant: vec4<f32>(VALUE) => vec4<f32>(1.0)
        y[i] = vec4<f32>(VALUE);
    }
}
