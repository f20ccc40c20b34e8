// y = the largest of windows of 3 x 3, two pixels apart, that reach over the borders by one. An
// invocation computes an element of y [IMAGES, OUT_HEIGHT, OUT_WIDTH, CHANNELS].
override LENGTH: u32;
override HEIGHT: u32;
override WIDTH: u32;
override CHANNELS: u32;
override OUT_HEIGHT: u32;
override OUT_WIDTH: u32;

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;

fn largest(n: u32, p: u32, q: u32, c: u32) {
    let at = ((n * OUT_HEIGHT + p) * OUT_WIDTH + q) * CHANNELS + c;
    // The middle of a window lies in the image. In front of the border others wrap around, to what
    // is no row or column either.
    var value = x[((n * HEIGHT + 2u * p) * WIDTH + 2u * q) * CHANNELS + c];
    for (var r = 0u; r < 3u; r++) {
        for (var s = 0u; s < 3u; s++) {
            let i = 2u * p + r - 1u;
            let j = 2u * q + s - 1u;
            if i < HEIGHT && j < WIDTH {
                value = max(value, x[((n * HEIGHT + i) * WIDTH + j) * CHANNELS + c]);
            }
        }
    }
    y[at] = value;
}

// Neighbouring invocations compute neighbouring pixels of a channel, as in a loop over images,
// channels, rows and columns: each reads a cache line of its own.
@compute @workgroup_size(256)
fn naive(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x < LENGTH {
        let row = id.x / OUT_WIDTH;
        let image = row / OUT_HEIGHT / CHANNELS;
        largest(image, row % OUT_HEIGHT, id.x % OUT_WIDTH, row / OUT_HEIGHT % CHANNELS);
    }
}

// Neighbouring invocations compute neighbouring channels, which lie side by side: a subgroup reads
// whole cache lines.
@compute @workgroup_size(256)
fn neighbours(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x < LENGTH {
        let pixel = id.x / CHANNELS;
        let row = pixel / OUT_WIDTH;
        largest(row / OUT_HEIGHT, row % OUT_HEIGHT, pixel % OUT_WIDTH, id.x % CHANNELS);
    }
}
