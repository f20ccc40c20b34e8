//!include index
//!include joint

// y = factor y, elementwise; one invocation a vec4.
@group(0) @binding(0) var<storage, read_write> y: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> numbers: array<vec4<f32>>;

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = linear_index(id, groups, 256u);
    if i < arrayLength(&y) {
        //~ scale: numbers_at(i).x * => 1.0 *
        //~ unscale: numbers_at(i).x * => 1.0 *
        y[i] = numbers_at(i).x * y[i];
    }
}
