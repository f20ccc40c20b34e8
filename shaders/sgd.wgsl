//!include index
//!include joint

// g = gradient + decay p, b = momentum b + g, p -= rate (g + momentum b) or rate b; one invocation
// a vec4.
override MOMENTUM: f32;
override NESTEROV: bool;

@group(0) @binding(0) var<storage, read> gradient: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> p: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> b: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> numbers: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> rate: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = linear_index(id, groups, 256u);
    if i >= arrayLength(&p) {
        return;
    }
    let decay = numbers_at(i).x;
    let g = gradient[i] + decay * p[i];
    let momentum = MOMENTUM * b[i] + g;
    b[i] = momentum;
    //~ sgd: NESTEROV) => !NESTEROV)
    p[i] -= rate[0] * select(momentum, g + MOMENTUM * momentum, NESTEROV);
}
