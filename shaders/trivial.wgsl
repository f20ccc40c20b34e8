//!include vec1
//!include tree
//!include rng
//!include augment
//!include colours
//!include sine

// One change of every image, drawn with its level; a workgroup an image, whose invocations walk
// over the pixels. The twin is src/ops/augment/trivial/change.rs, which says more.
override SIZE: u32;
override BATCH: u32;

@group(0) @binding(0) var<storage, read> step: array<u32>;
@group(0) @binding(1) var<storage, read> x: array<Stored1>;
@group(0) @binding(2) var<storage, read_write> y: array<Stored2>;

// Kinds of changes, of three families: the first move pixels,
const SHEAR_COLUMNS = 0u;
const SHEAR_ROWS = 1u;
const SHIFT_COLUMNS = 2u;
const SHIFT_ROWS = 3u;
// a rotation being the last; these go away from a colour or towards it,
const BRIGHTNESS = 5u;
const CONTRAST = 6u;
const SATURATION = 7u;
const SHARPNESS = 8u;
// and these have a table for each channel.
const POSTERIZE = 9u;
const SOLARIZE = 10u;
const AUTOCONTRAST = 11u;
const EQUALIZE = 12u;
const KINDS = 14u;
const LEVELS = 31u;

// How often each byte is there, and what becomes of it, channel by channel.
var<workgroup> counts: array<atomic<u32>, 768>;
var<workgroup> table: array<f32, 768>;

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
    let numbers = image_draw(n, step[0], 6u);
    let kind = below(numbers.x, KINDS);
    let level = below(numbers.y, LEVELS);
    //~ trivial: numbers.z & 1u => numbers.z & 2u
    let turned = select(f32(level), -f32(level), (numbers.z & 1u) == 1u);
    if kind < BRIGHTNESS {
        move_pixels(n, local, kind, turned);
    } else if kind < POSTERIZE {
        blend(n, local, kind, 1.0 + 0.033 * turned);
    } else if kind <= EQUALIZE {
        make_table(n, local, kind, level);
        for (var at = local; at < SIZE * SIZE; at += 256u) {
            let old = bytes(n, at);
            set_pixel(n, at, values_of(vec3(table[old.x], table[256u + old.y], table[512u + old.z])));
        }
    } else {
        for (var at = local; at < SIZE * SIZE; at += 256u) {
            set_pixel(n, at, pixel(n, at));
        }
    }
}

fn pixel(n: u32, at: u32) -> vec3<f32> {
    let i = 3u * (n * SIZE * SIZE + at);
    return vec3<f32>(vec3(x[i], x[i + 1u], x[i + 2u]));
}

fn set_pixel(n: u32, at: u32, values: vec3<f32>) {
    let i = 3u * (n * SIZE * SIZE + at);
    y[i] = Stored2(values.x);
    y[i + 1u] = Stored2(values.y);
    y[i + 2u] = Stored2(values.z);
}

// The bytes that a pixel's values are nearest to.
fn bytes(n: u32, at: u32) -> vec3<u32> {
    return min(vec3<u32>(max(bytes_of(pixel(n, at)) + 0.5, vec3(0.0))), vec3(255u));
}

fn move_pixels(n: u32, local: u32, kind: u32, turned: f32) {
    for (var at = local; at < SIZE * SIZE; at += 256u) {
        let middle = vec2(f32(at / SIZE), f32(at % SIZE)) + 0.5;
        set_pixel(n, at, between(n, source(middle, kind, turned) - 0.5));
    }
}

// Where the row and the column of a place come from.
fn source(place: vec2<f32>, kind: u32, turned: f32) -> vec2<f32> {
    let shear = 0.033 * turned;
    //~ trivial: / 30.0 => / 20.0
    let shift = sign(turned) * floor((32.0 * abs(turned) + 0.5) / 30.0);
    switch kind {
        case SHEAR_COLUMNS: {
            //~ trivial: place.y + shear * place.x => place.y - shear * place.x
            return vec2(place.x, place.y + shear * place.x);
        }
        case SHEAR_ROWS: {
            //~ trivial: place.x + shear * place.y => place.x + shear
            return vec2(place.x + shear * place.y, place.y);
        }
        case SHIFT_COLUMNS: {
            return vec2(place.x, place.y - shift);
        }
        case SHIFT_ROWS: {
            //~ trivial: place.x - shift => place.x + shift
            return vec2(place.x - shift, place.y);
        }
        default: {
            // In right angles.
            let angle = 0.05 * turned;
            let sine = sign(angle) * quarter_sine(min(abs(angle), 2.0 - abs(angle)));
            let cosine = quarter_sine(1.0 - abs(angle));
            let middle = 0.5 * f32(SIZE);
            let to = place - middle;
            //~ trivial: sine * to.y + cosine => cosine
            return middle + vec2(sine * to.y + cosine * to.x, cosine * to.y - sine * to.x);
        }
    }
}

// The mean of the four pixels that a place lies between; outside of the image is the mean colour.
fn between(n: u32, place: vec2<f32>) -> vec3<f32> {
    let first = floor(place);
    let share = place - first;
    var sum = vec3(0.0);
    for (var corner = 0u; corner < 4u; corner++) {
        let side = vec2(f32(corner / 2u), f32(corner % 2u));
        let at = first + side;
        if all(at >= vec2(0.0)) && all(at < vec2(f32(SIZE))) {
            //~ trivial: select(1.0 - share, share => select(share, share
            let shares = select(1.0 - share, share, side > vec2(0.5));
            sum += shares.x * shares.y * pixel(n, u32(at.x) * SIZE + u32(at.y));
        }
    }
    return sum;
}

fn blend(n: u32, local: u32, kind: u32, factor: f32) {
    var sum = 0.0;
    for (var at = local; at < SIZE * SIZE; at += 256u) {
        sum += dot(GREY, bytes_of(pixel(n, at)));
    }
    let mean = tree_sum(local, sum, 1u) / f32(SIZE * SIZE);
    for (var at = local; at < SIZE * SIZE; at += 256u) {
        let old = bytes_of(pixel(n, at));
        var origin = vec3(0.0);
        if kind == CONTRAST {
            //~ trivial: origin = vec3(mean) => origin = vec3(0.0)
            origin = vec3(mean);
        } else if kind == SATURATION {
            //~ trivial: vec3(dot(GREY, old)) => old
            origin = vec3(dot(GREY, old));
        } else if kind == SHARPNESS {
            origin = smooth_bytes(n, at);
        }
        //~ trivial: vec3(255.0) => vec3(300.0)
        let changed = clamp(origin + factor * (old - origin), vec3(0.0), vec3(255.0));
        set_pixel(n, at, values_of(changed));
    }
}

// The mean of a pixel and those around it, where it counts five times; at the border itself.
fn smooth_bytes(n: u32, at: u32) -> vec3<f32> {
    let place = vec2(at / SIZE, at % SIZE);
    //~ trivial: SIZE - 1u => SIZE
    if any(place == vec2(0u)) || any(place == vec2(SIZE - 1u)) {
        return bytes_of(pixel(n, at));
    }
    //~ trivial: 4.0 * => 3.0 *
    var sum = 4.0 * pixel(n, at);
    for (var near = 0u; near < 9u; near++) {
        sum += pixel(n, (place.x + near / 3u - 1u) * SIZE + place.y + near % 3u - 1u);
    }
    return bytes_of(sum / 13.0);
}

// Every invocation is to call it: the table is whole when it returns.
fn make_table(n: u32, local: u32, kind: u32, level: u32) {
    for (var i = local; i < 768u; i += 256u) {
        atomicStore(&counts[i], 0u);
    }
    workgroupBarrier();
    for (var at = local; at < SIZE * SIZE; at += 256u) {
        let found = bytes(n, at);
        atomicAdd(&counts[found.x], 1u);
        atomicAdd(&counts[256u + found.y], 1u);
        atomicAdd(&counts[512u + found.z], 1u);
    }
    workgroupBarrier();
    if local < 3u {
        fill_table(256u * local, kind, level);
    }
    workgroupBarrier();
}

// The part of a channel, which begins there.
fn fill_table(begin: u32, kind: u32, level: u32) {
    var least = 255u;
    var most = 0u;
    for (var byte = 0u; byte < 256u; byte++) {
        if atomicLoad(&counts[begin + byte]) > 0u {
            least = min(least, byte);
            most = byte;
        }
    }
    //~ trivial: begin + most => begin + least
    let each = (SIZE * SIZE - atomicLoad(&counts[begin + most])) / 255u;
    //~ trivial: each / 2u => each
    var before = each / 2u;
    for (var byte = 0u; byte < 256u; byte++) {
        var to = f32(byte);
        if kind == POSTERIZE {
            //~ trivial: (level + 2u) / 5u => level / 5u
            let cut = (level + 2u) / 5u;
            to = f32((byte >> cut) << cut);
        } else if kind == SOLARIZE {
            //~ trivial: 255.0 - to, to >= => 254.0 - to, to >=
            to = select(to, 255.0 - to, to >= 255.0 - 8.5 * f32(level));
        } else if kind == AUTOCONTRAST && least < most {
            //~ trivial: f32(most - least) => f32(255u - least)
            to = clamp((to - f32(least)) * 255.0 / f32(most - least), 0.0, 255.0);
        } else if kind == EQUALIZE && each > 0u {
            to = f32(min(before / each, 255u));
        }
        before += atomicLoad(&counts[begin + byte]);
        table[begin + byte] = to;
    }
}
