//!include index
//!include rng
//!include augment
//!include sine

// Joins every image of a batch with another one of it; one invocation an element, of which the
// first of an image writes the other's label and the own share.
override LENGTH: u32;
override SIZE: u32;
override BATCH: u32;
override ALPHA: f32;
override CUT: bool;

@group(0) @binding(0) var<storage, read> x: array<Stored0>;
@group(0) @binding(1) var<storage, read> labels: array<u32>;
@group(0) @binding(2) var<storage, read> step: array<u32>;
@group(0) @binding(3) var<storage, read_write> y: array<Stored3>;
@group(0) @binding(4) var<storage, read_write> others: array<u32>;
@group(0) @binding(5) var<storage, read_write> shares: array<f32>;

const IGNORE = 0xffffffffu;

// The twin of this function is in src/ops/augment/mix.rs, which says more.
fn beta(numbers: vec4<u32>) -> f32 {
    let uniform_numbers = unit(numbers) + 0.5 / 16777216.0;
    //~ mixup: 1.0 / ALPHA => ALPHA
    let w = pow(uniform_numbers.x, 1.0 / ALPHA);
    let sine = quarter_sine(uniform_numbers.y);
    let squared = (1.0 - w) * sine * sine;
    return sqrt(squared / (w + squared));
}

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = linear_index(id, groups, 256u);
    if i >= LENGTH {
        return;
    }
    let image = 3u * SIZE * SIZE;
    let n = i / image;
    let distance = 1u + below(image_draw(0u, step[0], 5u).x, max(BATCH - 1u, 1u));
    //~ mixup: distance) % BATCH => distance + 1u) % BATCH
    var other = (n + distance) % BATCH;
    let numbers = image_draw(n, step[0], 4u);
    var share = 0.5 + select(-0.5, 0.5, (numbers.y & 1u) == 1u) * beta(numbers);
    //~ mixup: || labels[other] == IGNORE =>
    if labels[n] == IGNORE || labels[other] == IGNORE {
        other = n;
        share = 1.0;
    }
    var weight = 1.0 - share;
    if CUT {
        let half = 0.5 * f32(SIZE) * sqrt(1.0 - share);
        //~ cutmix: unit(numbers).zw => unit(numbers).wz
        let middle = unit(numbers).zw * f32(SIZE);
        let begin = max(middle - half, vec2(0.0));
        let end = min(middle + half, vec2(f32(SIZE)));
        let sides = (end - begin) / f32(SIZE);
        //~ cutmix: share = 1.0 - sides.x => share = 1.0 + sides.x
        share = 1.0 - sides.x * sides.y;
        // Of the pixel that a row and a column are in.
        let pixel = i % image / 3u;
        let place = vec2(f32(pixel / SIZE), f32(pixel % SIZE));
        //~ cutmix: place + 1.0 => place
        let covered = clamp(min(end, place + 1.0) - max(begin, place), vec2(0.0), vec2(1.0));
        weight = covered.x * covered.y;
    }
    let own = f32(x[i]);
    y[i] = Stored3(own + weight * (f32(x[other * image + i % image]) - own));
    if i % image == 0u {
        others[n] = labels[other];
        shares[n] = share;
    }
}
