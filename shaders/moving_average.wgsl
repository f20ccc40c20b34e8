//!include index
//!include joint

// average += momentum (scale x - average), elementwise; one invocation a vec4.
override MOMENTUM: f32;

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> average: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> numbers: array<vec4<f32>>;

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = linear_index(id, groups, 256u);
    if i < arrayLength(&average) {
        let scale = numbers_at(i).x;
        //~ moving_average: scale * x[i] => x[i]
        average[i] += MOMENTUM * (scale * x[i] - average[i]);
    }
}
