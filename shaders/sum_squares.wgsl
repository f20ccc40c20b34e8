//!include vec1
//!include tree
//!include index
//!include joint
//!include nan

// The sum of x^2 over all elements of all inputs, in two stages: of blocks of 256 elements, then of
// these.

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
// Of the input that a block is of: its first and its last block, and the elements of the last.
@group(0) @binding(1) var<storage, read> numbers: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> sums: array<f32>;

@group(0) @binding(0) var<storage, read> partial: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
// How many blocks there are, and the largest norm.
@group(0) @binding(2) var<storage, read> all: array<vec4<f32>>;

// Four blocks a workgroup: invocation number l works on block l % 4, so that a tree sums them all
// at once.
@compute @workgroup_size(256)
fn blocks(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let own = 4u * linear_index(group, groups, 1u) + local % 4u;
    let i = 64u * own + local / 4u;
    let block = own + u32(numbers[0].x);
    var sum = 0.0;
    if i < arrayLength(&x) {
        let input = numbers_at(i);
        let count = select(256u, u32(input.z), block == u32(input.y));
        let places = 4u * (local / 4u) + vec4(0u, 1u, 2u, 3u);
        let values = select(vec4(0.0), x[i], places < vec4(count));
        //~ sum_squares: dot(values, values) => dot(values, vec4(1.0))
        sum = dot(values, values);
    }
    sum = tree_sum(local, sum, 4u);
    if local < 4u && i < arrayLength(&x) {
        sums[block] = sum;
    }
}

fn sum_of_blocks(local: u32) -> f32 {
    let count = u32(all[0].x);
    var sum = 0.0;
    //~ clip_factor: i < count => i < 1u
    for (var i = local; i < count; i += 256u) {
        sum += partial[i];
    }
    return tree_sum(local, sum, 1u);
}

@compute @workgroup_size(256)
fn total(@builtin(local_invocation_index) local: u32) {
    let sum = sum_of_blocks(local);
    if local == 0u {
        y[0] = sum;
    }
}

// What gradients are multiplied by, so that their norm is no larger than allowed.
@compute @workgroup_size(256)
fn clip_factor(@builtin(local_invocation_index) local: u32) {
    let sum = sum_of_blocks(local);
    if local == 0u {
        //~ clip_factor: min(1.0, => max(1.0,
        y[0] = select(min(1.0, all[0].y / sqrt(sum)), sum, is_nan(sum));
    }
}
