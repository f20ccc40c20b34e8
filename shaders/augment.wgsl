//!include index
//!include rng
//!include augment
//!include colours

// Picks the images of a batch, moves their pixels and normalises them; one invocation an element of
// x. The data set may be larger than a binding: there is a dispatch for each piece of it, which
// writes what it finds there.
override SIZE: u32;
// Images of the data set, and the words of one.
override COUNT: u32;
override RECORD: u32;
override BATCH: u32;
// Whether the images are those of the batch, in its order.
override BY_PLACE: u32;
// The words of a piece, and how many lie before this one.
override PIECE: u32;
override BEFORE: u32;
// What is done to the images: 0, or the value that is chosen.
override CROP: f32;
override FLIP: u32;
override BORDER: u32;
override SHIFT: u32;
override EPOCH_STEPS: u32;

@group(0) @binding(0) var<storage, read> indices: array<u32>;
@group(0) @binding(1) var<storage, read> step: array<u32>;
@group(0) @binding(2) var<storage, read_write> x: array<Stored2>;
@group(0) @binding(3) var<storage, read> data: array<u32>;

@group(0) @binding(1) var<storage, read> labels: array<u32>;
@group(0) @binding(2) var<storage, read_write> batch_labels: array<u32>;

const IGNORE = 0xffffffffu;
// The index of an empty place.
const EMPTY = 0xffffffffu;

const ROW = 0u;
const COLUMN = 1u;

const ALTERNATE = 2u;

// Where image n of the batch lies among the images that are given.
fn record_of(n: u32) -> u32 {
    //~ augment: indices[n], n => indices[n], indices[n]
    //~ augment: indices[n] != EMPTY => true
    return select(indices[n], n, BY_PLACE > 0u && indices[n] != EMPTY);
}

// Where a row or column of image n comes from, and so in every function of an augmentation: what is
// done to an image last is asked first. The twins are `places` in the files of src/ops/augment.
fn place(n: u32, axis: u32, x: u32) -> f32 {
    return crop(n, axis, flip(n, axis, border(shift(n, axis, f32(x)))));
}

fn shift(n: u32, axis: u32, at: f32) -> f32 {
    let numbers = image_draw(n, step[0], 0u);
    //~ augment: 2u * SHIFT + 1u => 2u * SHIFT + 2u
    return at + f32(SHIFT) - f32(below(numbers[axis], 2u * SHIFT + 1u));
}

fn border(at: f32) -> f32 {
    let last = f32(SIZE) - 1.0;
    //~ augment: last - abs(last - abs(at)) => abs(at)
    return select(at, last - abs(last - abs(at)), BORDER > 0u);
}

fn flip(n: u32, axis: u32, at: f32) -> f32 {
    if FLIP == 0u || axis != COLUMN {
        return at;
    }
    var bits = image_draw(n, step[0], 0u).z;
    if FLIP == ALTERNATE {
        //~ augment: step[0] / EPOCH_STEPS => step[0]
        //~ augment: image_constant(indices[n]) => image_constant(n)
        bits = image_constant(indices[n]).x + step[0] / EPOCH_STEPS;
    }
    //~ augment: f32(SIZE) - 1.0 - at => at
    return select(at, f32(SIZE) - 1.0 - at, (bits & 1u) == 1u);
}

fn crop(n: u32, axis: u32, at: f32) -> f32 {
    if CROP == 0.0 || !inside(at) {
        return at;
    }
    let numbers = unit(image_draw(n, step[0], 2u));
    let area = CROP + (1.0 - CROP) * numbers.x;
    //~ augment: 1.0 / area => 1.0
    let ratio = pow(min(4.0 / 3.0, 1.0 / area), 2.0 * numbers.y - 1.0);
    let side = sqrt(select(area * ratio, area / ratio, axis == ROW));
    let first = select(numbers.w, numbers.z, axis == ROW) * (1.0 - side) * f32(SIZE);
    //~ augment: (at + 0.5) * side => at * side
    return clamp(first + (at + 0.5) * side - 0.5, 0.0, f32(SIZE) - 1.0);
}

fn inside(at: f32) -> bool {
    return at >= 0.0 && at < f32(SIZE);
}

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = linear_index(id, groups, 256u);
    let n = i / (3u * SIZE * SIZE);
    if n >= BATCH {
        return;
    }
    let known = record_of(n) < COUNT;
    let image = record_of(n) * RECORD;
    if known && (image + RECORD <= BEFORE || image >= BEFORE + PIECE) {
        return;
    }
    let pixel = i / 3u % (SIZE * SIZE);
    let row = place(n, ROW, pixel / SIZE);
    let column = place(n, COLUMN, pixel % SIZE);
    //~ augment: || !known =>
    if !inside(row) || !inside(column) || !known {
        x[i] = Stored2(0.0);
        return;
    }
    // An image may lie in two pieces: what is found in the second is added to what was in the
    // first.
    var sum = select(0.0, f32(x[i]), image < BEFORE);
    // Nothing but a crop reads between pixels.
    let corners = select(1u, 4u, CROP > 0.0);
    for (var corner = 0u; corner < corners; corner++) {
        let down = corner / 2u;
        let right = corner % 2u;
        let share = of_side(row, down) * of_side(column, right);
        let byte = 3u * (side(row, down) * SIZE + side(column, right)) + i % 3u;
        let word = image + byte / 4u;
        if share > 0.0 && word >= BEFORE && word < BEFORE + PIECE {
            //~ augment: byte % 4u => byte % 2u
            //~ batch: byte % 4u => byte % 2u
            let found = f32((data[word - BEFORE] >> (8u * (byte % 4u))) & 0xffu);
            sum += share * values_of(vec3(found))[i % 3u];
        }
    }
    x[i] = Stored2(sum);
}

// The first or second of the rows or columns that a place lies between.
fn side(at: f32, second: u32) -> u32 {
    return min(u32(at) + second, SIZE - 1u);
}

// The share of that.
fn of_side(at: f32, second: u32) -> f32 {
    //~ augment: 1.0 - fract(at) => 1.0
    return select(1.0 - fract(at), fract(at), second == 1u);
}

@compute @workgroup_size(256)
fn pick_labels(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let n = linear_index(id, groups, 256u);
    if n < BATCH {
        let record = record_of(n);
        //~ augment: IGNORE, labels => 0u, labels
        batch_labels[n] = select(IGNORE, labels[min(record, COUNT - 1u)], record < COUNT);
    }
}
