//!include index
//!include rng

// y = 0 with probability rate, else y / (1 - rate), elementwise; one invocation a vec4. Element i
// draws from the counter (i / 4, step): one draw serves a vec4.
override LENGTH: u32;
override RATE: f32;
// 1 / (1 - rate)
override KEEP: f32;
override SEED: u32;
override STREAM: u32;

@group(0) @binding(0) var<storage, read> step: array<u32>;
@group(0) @binding(1) var<storage, read_write> y: array<vec4<Stored1>>;

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = linear_index(id, groups, 256u);
    if i < LENGTH {
        //~ dropout: step[0], i) => step[0], i / 4u)
        let chance = unit(draw(SEED, STREAM, step[0], i));
        //~ dropout: chance < vec4(RATE) => chance < vec4(0.4)
        y[i] = vec4<Stored1>(vec4<f32>(y[i]) * select(vec4(KEEP), vec4(0.0), chance < vec4(RATE)));
    }
}
