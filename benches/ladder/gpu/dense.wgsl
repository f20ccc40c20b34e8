// The operands of a dense layer: c [ROWS, COLUMNS] = a [ROWS, DEPTH] b [DEPTH, COLUMNS]. One of
// the product shaders follows: they ask for elements, and hand over sums.
override ROWS: u32;
override COLUMNS: u32;
override DEPTH: u32;

@group(0) @binding(0) var<storage, read> a: array<f32>;
@group(0) @binding(1) var<storage, read> b: array<f32>;
@group(0) @binding(2) var<storage, read_write> c: array<f32>;

// 0 outside.
fn fetch_a(row: u32, k: u32) -> f32 {
    if row >= ROWS || k >= DEPTH {
        return 0.0;
    }
    return a[row * DEPTH + k];
}

fn fetch_b(k: u32, column: u32) -> f32 {
    if k >= DEPTH || column >= COLUMNS {
        return 0.0;
    }
    return b[k * COLUMNS + column];
}

fn store(row: u32, column: u32, sum: f32) {
    if row < ROWS && column < COLUMNS {
        c[row * COLUMNS + column] = sum;
    }
}
