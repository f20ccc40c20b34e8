//!include index

// y[o, i] = sum over r of x[o, r, i], the mean (KIND 1) or the largest (KIND 2); one invocation an
// output.
override KIND: u32;
override ALONG: u32;
override AFTER: u32;
override LENGTH: u32;

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;

fn total_of(output: u32) -> f32 {
    //~ reduce_sum: output % AFTER => 0u
    let first = output / AFTER * ALONG * AFTER + output % AFTER;
    var total = x[first];
    for (var r = 1u; r < ALONG; r++) {
        let element = x[first + r * AFTER];
        if KIND == 2u {
            //~ reduce_max: element > total => element < total
            total = select(total, element, element > total);
        } else {
            //~ reduce_sum: total += element => total = element
            total += element;
        }
    }
    //~ reduce_mean: KIND == 1u) => KIND == 9u)
    return select(total, total / f32(ALONG), KIND == 1u);
}

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = linear_index(id, groups, 256u);
    if i < LENGTH {
        y[i] = total_of(i);
    }
}
