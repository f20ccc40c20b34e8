//!include vec1
//!include tree
//!include rng
//!include augment
//!include colours

// Brightness, contrast and saturation of every image, in its order; a workgroup an image, whose
// invocations walk over the pixels. Only the mean grey needs those of others.
override SIZE: u32;
override BATCH: u32;
override STRENGTH: f32;

@group(0) @binding(0) var<storage, read> step: array<u32>;
@group(0) @binding(1) var<storage, read_write> x: array<Stored1>;

// What is changed: brightness is number 0.
const CONTRAST = 1u;
const SATURATION = 2u;

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let n = group.x + group.y * groups.x;
    if n >= BATCH {
        return;
    }
    let numbers = image_draw(n, step[0], 3u);
    let order = below(numbers.w, 6u);
    for (var turn = 0u; turn < 3u; turn++) {
        //~ colour: turn * (1u + order / 3u) => turn
        let kind = (order + turn * (1u + order / 3u)) % 3u;
        //~ colour: unit(numbers)[kind] => unit(numbers)[turn]
        let factor = 1.0 + STRENGTH * (2.0 * unit(numbers)[kind] - 1.0);
        var sum = 0.0;
        for (var at = local; at < SIZE * SIZE; at += 256u) {
            sum += dot(GREY, pixel(n, at));
        }
        let mean = tree_sum(local, sum, 1u) / f32(SIZE * SIZE);
        //~ colour: kind == CONTRAST => false
        let of_image = select(0.0, mean, kind == CONTRAST);
        for (var at = local; at < SIZE * SIZE; at += 256u) {
            let old = pixel(n, at);
            let origin = vec3(select(of_image, dot(GREY, old), kind == SATURATION));
            //~ colour: vec3(255.0) => vec3(300.0)
            set_pixel(n, at, clamp(origin + factor * (old - origin), vec3(0.0), vec3(255.0)));
        }
    }
}

// A pixel on the scale of its bytes.
fn pixel(n: u32, at: u32) -> vec3<f32> {
    let i = 3u * (n * SIZE * SIZE + at);
    return bytes_of(vec3<f32>(vec3(x[i], x[i + 1u], x[i + 2u])));
}

fn set_pixel(n: u32, at: u32, bytes: vec3<f32>) {
    let i = 3u * (n * SIZE * SIZE + at);
    let value = values_of(bytes);
    x[i] = Stored1(value.x);
    x[i + 1u] = Stored1(value.y);
    x[i + 2u] = Stored1(value.z);
}
