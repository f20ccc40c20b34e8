//!include vec4
//!include nan
//!include function
//!include epilogue
//!include scaled
//!include tile
//!include pixels

// The gradient of a convolution's input as a matrix product: row r of A is what of dy the pixel r
// of x has reached, a row of B the weights of one (i, j, output channel). At a stride s, pixels
// meet only every s-th weight, which ones depends on their position modulo s: each of the s x s
// phases is a product of its own, with its own constants and no wasted multiplication. Within a
// phase, the convolution has stride 1 and runs backwards.
override OUT_HEIGHT: u32;
override OUT_WIDTH: u32;
override OUT_CHANNELS: u32;
override HEIGHT: u32;
override WIDTH: u32;
override KERNEL_WIDTH: u32;
override STRIDE: u32;
// The phase's pixels: so many, beginning with (FIRST_Y, FIRST_X).
override PHASE_HEIGHT: u32;
override PHASE_WIDTH: u32;
override FIRST_Y: u32;
override FIRST_X: u32;
// Its weights: so many in a row, beginning with (FIRST_I, FIRST_J), which the first pixel met for
// output (TOP, LEFT).
override PHASE_KERNEL_WIDTH: u32;
override FIRST_I: u32;
override FIRST_J: u32;
override TOP: u32;
override LEFT: u32;

const A_ALONG_DEPTH = true;
const B_ALONG_DEPTH = true;

// The output pixels that the first weight of four pixels of x led to.
fn locate_a(row: u32) -> Source {
    let pixels = min(row + LANES, vec4<u32>(ROWS - 1u));
    let y = pixels / PHASE_WIDTH % PHASE_HEIGHT + TOP;
    let x = pixels % PHASE_WIDTH + LEFT;
    let image = pixels / (PHASE_HEIGHT * PHASE_WIDTH);
    return Source(((image * OUT_HEIGHT + y) * OUT_WIDTH + x) * OUT_CHANNELS, y, x);
}

// Four input channels. Those past the end repeat the last: their products are not stored.
fn locate_b(column: u32) -> Source {
    let channels = min(column + LANES, vec4<u32>(COLUMNS - 1u));
    return Source(channels * OUT_CHANNELS, vec4<u32>(), vec4<u32>());
}

// What is in front of dy wraps around to huge numbers, which are outside too.
fn fetch_a(source: Source, k: u32) -> mat4x4<f32> {
    let depths = k + LANES;
    let i = depths / (PHASE_KERNEL_WIDTH * OUT_CHANNELS);
    let j = depths / OUT_CHANNELS % PHASE_KERNEL_WIDTH;
    let offset = depths % OUT_CHANNELS - (i * OUT_WIDTH + j) * OUT_CHANNELS;
    let valid = depths < vec4<u32>(DEPTH);
    var pixels = source;
    if PHASE_WIDTH % 4u == 0u {
        pixels = in_a_row(source, 1u, OUT_CHANNELS);
    }
    return mat4x4<f32>(
        read_a(pixels.at.x + offset, valid & inside(pixels.y.x - i, pixels.x.x - j)),
        read_a(pixels.at.y + offset, valid & inside(pixels.y.y - i, pixels.x.y - j)),
        //~ conv2d_input_grad: pixels.x.z - j => pixels.x.z - i
        read_a(pixels.at.z + offset, valid & inside(pixels.y.z - i, pixels.x.z - j)),
        read_a(pixels.at.w + offset, valid & inside(pixels.y.w - i, pixels.x.w - j)),
    );
}

fn inside(y: vec4<u32>, x: vec4<u32>) -> vec4<bool> {
    return (y < vec4<u32>(OUT_HEIGHT)) & (x < vec4<u32>(OUT_WIDTH));
}

fn fetch_b(source: Source, k: u32) -> mat4x4<f32> {
    let depths = k + LANES;
    let i = FIRST_I + depths / (PHASE_KERNEL_WIDTH * OUT_CHANNELS) * STRIDE;
    let j = FIRST_J + depths / OUT_CHANNELS % PHASE_KERNEL_WIDTH * STRIDE;
    let offset = (i * KERNEL_WIDTH + j) * COLUMNS * OUT_CHANNELS + depths % OUT_CHANNELS;
    let valid = depths < vec4<u32>(DEPTH);
    return mat4x4<f32>(
        read_b(source.at.x + offset, valid),
        read_b(source.at.y + offset, valid),
        read_b(source.at.z + offset, valid),
        read_b(source.at.w + offset, valid),
    );
}

fn line_of(row: u32, slice: u32) -> u32 {
    let y = FIRST_Y + row / PHASE_WIDTH % PHASE_HEIGHT * STRIDE;
    //~ conv2d_input_grad: FIRST_X + row => row
    let x = FIRST_X + row % PHASE_WIDTH * STRIDE;
    let image = row / (PHASE_HEIGHT * PHASE_WIDTH);
    return ((image * HEIGHT + y) * WIDTH + x) * COLUMNS;
}
