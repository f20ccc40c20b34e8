//!include vec4
//!include nan
//!include function
//!include epilogue

// Adds up the slices that a tile product was cut into: y[i] = sum over s of partials[s, i]. Of the
// WAYS invocations that work on an element, number w sums slices w, w + WAYS, ... in order; their
// sums are added as a tree.
// A power of two.
override WAYS: u32;
// Elements of a workgroup: 256 / WAYS.
override ELEMENTS: u32;

@group(0) @binding(0) var<storage, read_write> partials: array<f32>;
@group(0) @binding(1) var<storage, read> bias: array<Stored1>;
@group(0) @binding(2) var<storage, read_write> y: array<Stored2>;
@group(0) @binding(3) var<storage, read> other: array<Stored3>;
@group(0) @binding(4) var<storage, read_write> kept: array<Stored4>;
// Length of y, number of slices, length of the bias: as data, so that a pipeline serves many sums.
@group(0) @binding(5) var<storage, read> numbers: array<vec4<u32>>;

var<workgroup> sums: array<f32, 256>;

@compute @workgroup_size(ELEMENTS, WAYS)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
) {
    let length = numbers[0].x;
    let slices = numbers[0].y;
    let columns = numbers[0].z;
    let i = (group.y * groups.x + group.x) * ELEMENTS + local.x;
    var sum = 0.0;
    if i < length {
        for (var slice = local.y; slice < slices; slice += WAYS) {
            sum += partials[slice * length + i];
        }
    }
    sums[index] = sum;
    for (var ways = WAYS / 2u; ways > 0u; ways /= 2u) {
        workgroupBarrier();
        if local.y < ways {
            sums[index] += sums[index + ways * ELEMENTS];
        }
    }
    if local.y == 0u && i < length {
        var shift = 0.0;
        if BIAS {
            //~ matmul: f32(bias[i % columns]) => 0.0
            shift = f32(bias[i % columns]);
        }
        var beside = 0.0;
        if OTHER != 0u {
            beside = f32(other[i]);
        }
        let z = before_activation(Value(sums[index]), Value(shift), Value(beside));
        if KEPT {
            //~ conv2d: Stored4(z.x) => Stored4(0.0)
            kept[i] = Stored4(z.x);
        }
        y[i] = Stored2(after_activation(z, Value(beside)).x);
    }
}
