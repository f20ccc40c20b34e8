// The operands of a convolution of 3 x 3 with a border of one pixel of zeros, as those of a
// product: a row of a is the patch of x under a pixel of y, and b the weights [3, 3, C, O] as they
// lie. ROWS are the pixels of all images, DEPTH is 9 CHANNELS, COLUMNS the outputs.
override ROWS: u32;
override COLUMNS: u32;
override DEPTH: u32;
override HEIGHT: u32;
override WIDTH: u32;
override CHANNELS: u32;

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> w: array<f32>;
@group(0) @binding(2) var<storage, read> bias: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

fn fetch_a(row: u32, k: u32) -> f32 {
    let place = k / CHANNELS;
    // In front of the border these wrap around, to what is no row or column either.
    let i = row / WIDTH % HEIGHT + place / 3u - 1u;
    let j = row % WIDTH + place % 3u - 1u;
    if row >= ROWS || k >= DEPTH || i >= HEIGHT || j >= WIDTH {
        return 0.0;
    }
    let image = row / (HEIGHT * WIDTH);
    return x[((image * HEIGHT + i) * WIDTH + j) * CHANNELS + k % CHANNELS];
}

fn fetch_b(k: u32, column: u32) -> f32 {
    if k >= DEPTH || column >= COLUMNS {
        return 0.0;
    }
    return w[k * COLUMNS + column];
}

fn store(row: u32, column: u32, sum: f32) {
    if row < ROWS && column < COLUMNS {
        y[row * COLUMNS + column] = max(sum + bias[column], 0.0);
    }
}
