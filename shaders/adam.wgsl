//!include index
//!include joint

// Moments m and v, and p -= rate (decay p + corrected m / (sqrt(corrected v) + epsilon)); one
// invocation a vec4.
override BETA1: f32;
override BETA2: f32;
override LN_BETA1: f32;
override LN_BETA2: f32;
override EPSILON: f32;
// Whether epsilon is added before the correction.
override KERAS: bool;

@group(0) @binding(0) var<storage, read> gradient: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> p: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> m: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> v: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> numbers: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read> rate: array<f32>;
@group(0) @binding(6) var<storage, read> step: array<u32>;

// 1 - exp(x) for x <= 0. Near 0 the difference would cancel (at beta 0.999 four digits in the first
// step): there a Taylor polynomial, whose error below 1/2 is under a tenth of a rounding.
fn one_minus_exp(x: f32) -> f32 {
    //~ adam: if x < -0.5 => if x < 0.5
    if x < -0.5 {
        //~ adam: 1.0 - exp(x) => exp(x)
        return 1.0 - exp(x);
    }
    let tail = 1.0 + x / 5.0 * (1.0 + x / 6.0 * (1.0 + x / 7.0 * (1.0 + x / 8.0)));
    //~ adam: x / 2.0 => x / 3.0
    return -x * (1.0 + x / 2.0 * (1.0 + x / 3.0 * (1.0 + x / 4.0 * tail)));
}

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = linear_index(id, groups, 256u);
    if i >= arrayLength(&p) {
        return;
    }
    let t = f32(step[0]) + 1.0;
    let correct_m = 1.0 / one_minus_exp(t * LN_BETA1);
    let correct_v = 1.0 / one_minus_exp(t * LN_BETA2);
    //~ adam: KERAS) => !KERAS)
    let epsilon = EPSILON * select(1.0, sqrt(correct_v), KERAS);

    let g = gradient[i];
    //~ adam: (1.0 - BETA1) * g => BETA1 * g
    let new_m = BETA1 * m[i] + (1.0 - BETA1) * g;
    let new_v = BETA2 * v[i] + (1.0 - BETA2) * g * g;
    m[i] = new_m;
    v[i] = new_v;
    let decay = numbers_at(i).x;
    p[i] -= rate[0] * (decay * p[i] + new_m * correct_m / (sqrt(new_v * correct_v) + epsilon));
}
