// Picks, augments and normalises the images of a batch; one invocation an element of x. The data set may be larger
// than a binding: there is a dispatch for each piece of it, which writes what it finds there.
override SIZE: u32;
// Images of the data set, and the words of one.
override COUNT: u32;
override RECORD: u32;
override BATCH: u32;
// The words of a piece, and how many lie before this one.
override PIECE: u32;
override BEFORE: u32;
override SHIFT: u32;
override FLIP: bool;
override CUTOUT: u32;
override MEAN_R: f32;
override MEAN_G: f32;
override MEAN_B: f32;
override STD_R: f32;
override STD_G: f32;
override STD_B: f32;
override SEED: u32;
override STREAM: u32;

@group(0) @binding(0) var<storage, read> indices: array<u32>;
@group(0) @binding(1) var<storage, read> step: array<u32>;
@group(0) @binding(2) var<storage, read_write> x: array<f32>;
@group(0) @binding(3) var<storage, read> data: array<u32>;

@group(0) @binding(1) var<storage, read> labels: array<u32>;
@group(0) @binding(2) var<storage, read_write> batch_labels: array<u32>;

const IGNORE = 0xffffffffu;

// The pixel of the original that lands at (row, column) of image n, or -1.
fn source(n: u32, row: i32, column: i32) -> i32 {
    let size = i32(SIZE);
    let a = draw(SEED, STREAM, step[0], 2u * n);
    let b = draw(SEED, STREAM, step[0], 2u * n + 1u);
    let top = row - i32(below(b.x, SIZE)) + i32(CUTOUT / 2u);
    let left = column - i32(below(b.y, SIZE)) + i32(CUTOUT / 2u);
    if top >= 0 && top < i32(CUTOUT) && left >= 0 && left < i32(CUTOUT) {
        return -1;
    }
    let from_row = row + i32(SHIFT) - i32(below(a.x, 2u * SHIFT + 1u));
    var from_column = column + i32(SHIFT) - i32(below(a.y, 2u * SHIFT + 1u));
    if from_row < 0 || from_row >= size || from_column < 0 || from_column >= size {
        return -1;
    }
    if FLIP && (a.z & 1u) == 1u {
        from_column = size - 1 - from_column;
    }
    return from_row * size + from_column;
}

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = linear_index(id, groups, 256u);
    let n = i / (3u * SIZE * SIZE);
    if n >= BATCH {
        return;
    }
    let known = indices[n] < COUNT;
    let image = indices[n] * RECORD;
    if known && (image + RECORD <= BEFORE || image >= BEFORE + PIECE) {
        return;
    }
    let pixel = i / 3u % (SIZE * SIZE);
    let original = source(n, i32(pixel / SIZE), i32(pixel % SIZE));
    if original < 0 || !known {
        x[i] = 0.0;
        return;
    }
    let channel = i % 3u;
    let byte = 3u * u32(original) + channel;
    let word = image + byte / 4u;
    // An image may lie in two pieces.
    if word >= BEFORE && word < BEFORE + PIECE {
        let value = f32((data[word - BEFORE] >> (8u * (byte % 4u))) & 0xffu);
        let mean = vec3(MEAN_R, MEAN_G, MEAN_B);
        let deviation = vec3(STD_R, STD_G, STD_B);
        x[i] = (value - mean[channel]) / deviation[channel];
    }
}

@compute @workgroup_size(256)
fn pick_labels(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let n = linear_index(id, groups, 256u);
    if n < BATCH {
        batch_labels[n] = select(IGNORE, labels[min(indices[n], COUNT - 1u)], indices[n] < COUNT);
    }
}
