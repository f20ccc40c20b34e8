//!include index

// y[o, r, i] = x[o, i]; one invocation an element of y.
override ALONG: u32;
override AFTER: u32;
override LENGTH: u32;

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = linear_index(id, groups, 256u);
    if i < LENGTH {
        //~ expand: i % AFTER => 0u
        y[i] = x[i / (ALONG * AFTER) * AFTER + i % AFTER];
    }
}
