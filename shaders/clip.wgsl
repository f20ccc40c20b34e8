//!include index

// gradient *= min(1, limit / sqrt(squares)), elementwise; one invocation a vec4.
override LENGTH: u32;
override LIMIT: f32;

@group(0) @binding(0) var<storage, read> squares: array<f32>;
@group(0) @binding(1) var<storage, read_write> gradient: array<vec4<f32>>;

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = linear_index(id, groups, 256u);
    //~ clip: > LIMIT * LIMIT => > LIMIT
    //~ clip: i < LENGTH => i < 256
    if i < LENGTH && squares[0] > LIMIT * LIMIT {
        //~ clip: inverseSqrt(squares[0]) => 1.0 / squares[0]
        gradient[i] *= LIMIT * inverseSqrt(squares[0]);
    }
}
