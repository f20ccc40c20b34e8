//!include index

// y = factor y, elementwise, with a factor that is computed; one invocation a vec4.
@group(0) @binding(0) var<storage, read_write> y: array<vec4<f32>>;
// Binding 1 has numbers, of which this needs none.
@group(0) @binding(2) var<storage, read> factor: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = linear_index(id, groups, 256u);
    if i < arrayLength(&y) {
        //~ clip: factor[0] * => 1.0 *
        y[i] = factor[0] * y[i];
    }
}
