// Picks, augments and normalises the images of a batch; one invocation an element of x. The data set may be larger
// than a binding: it comes in pieces, four to a dispatch, and each dispatch writes what it finds in its own.
override SIZE: u32;
// Images of the data set, and the words of one.
override COUNT: u32;
override RECORD: u32;
override BATCH: u32;
// The first piece of this dispatch, and the words of a piece.
override FIRST_PIECE: u32;
override PIECE: u32;
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
@group(0) @binding(3) var<storage, read> piece_0: array<u32>;
@group(0) @binding(4) var<storage, read> piece_1: array<u32>;
@group(0) @binding(5) var<storage, read> piece_2: array<u32>;
@group(0) @binding(6) var<storage, read> piece_3: array<u32>;

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

fn word(piece: u32, at: u32) -> u32 {
    switch piece {
        case 0u: { return piece_0[at]; }
        case 1u: { return piece_1[at]; }
        case 2u: { return piece_2[at]; }
        default: { return piece_3[at]; }
    }
}

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = linear_index(id, groups, 256u);
    let n = i / (3u * SIZE * SIZE);
    if n >= BATCH {
        return;
    }
    let channel = i % 3u;
    let pixel = i / 3u % (SIZE * SIZE);
    let original = source(n, i32(pixel / SIZE), i32(pixel % SIZE));
    if original < 0 || indices[n] >= COUNT {
        x[i] = 0.0;
        return;
    }
    let byte = 3u * u32(original) + channel;
    let at = indices[n] * RECORD + byte / 4u;
    let piece = at / PIECE - FIRST_PIECE;
    // A piece of an earlier dispatch has wrapped around to a large number.
    if piece < 4u {
        let value = f32((word(piece, at % PIECE) >> (8u * (byte % 4u))) & 0xffu);
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
