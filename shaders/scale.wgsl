//!include index

// y = FACTOR y, elementwise; one invocation a vec4.
override FACTOR: f32;
override LENGTH: u32;

@group(0) @binding(0) var<storage, read_write> y: array<vec4<f32>>;

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = linear_index(id, groups, 256u);
    if i < LENGTH {
        //~ scale: FACTOR * y[i] => y[i]
        y[i] = FACTOR * y[i];
    }
}
