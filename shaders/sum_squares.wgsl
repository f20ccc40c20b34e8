//!include vec1
//!include tree

// The sum of x^2 over all elements, in two stages: of what each workgroup strides over, then of
// their sums.
override LENGTH: u32;
override GROUPS: u32;

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> sums: array<f32>;

@group(0) @binding(0) var<storage, read_write> partial: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(256)
fn blocks(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    var sum = 0.0;
    //~ sum_squares: i += GROUPS * 256u => i += LENGTH
    for (var i = group.x * 256u + local; i < LENGTH; i += GROUPS * 256u) {
        //~ sum_squares: x[i] * x[i] => x[i]
        sum += x[i] * x[i];
    }
    sum = tree_sum(local, sum, 1u);
    if local == 0u {
        sums[group.x] = sum;
    }
}

@compute @workgroup_size(256)
fn total(@builtin(local_invocation_index) local: u32) {
    var sum = 0.0;
    //~ sum_squares: i < GROUPS => i < 1u
    for (var i = local; i < GROUPS; i += 256u) {
        sum += partial[i];
    }
    sum = tree_sum(local, sum, 1u);
    if local == 0u {
        y[0] = sum;
    }
}
