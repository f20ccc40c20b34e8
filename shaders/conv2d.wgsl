//!include vec4
//!include nan
//!include function
//!include epilogue
//!include scaled
//!include tile
//!include pixels
//!include conv

// Convolution as a matrix product without an im2col buffer: row r of A is the patch of x under
// output pixel r, a row of B the weights of one (i, j, channel), in the order in which they lie in
// memory.
const A_ALONG_DEPTH = true;

// The top left pixels of four patches.
fn locate_a(row: u32) -> Source {
    let pixels = min(row + LANES, vec4<u32>(ROWS - 1u));
    let y = pixels / OUT_WIDTH % OUT_HEIGHT * STRIDE - PAD_TOP;
    //~ conv2d: pixels % OUT_WIDTH * STRIDE => pixels % OUT_WIDTH
    let x = pixels % OUT_WIDTH * STRIDE - PAD_LEFT;
    let image = pixels / (OUT_HEIGHT * OUT_WIDTH);
    return Source(((image * HEIGHT + y) * WIDTH + x) * CHANNELS, y, x);
}

fn fetch_a(source: Source, k: u32) -> mat4x4<f32> {
    let depths = k + LANES;
    let i = depths / (KERNEL_WIDTH * CHANNELS);
    let j = depths / CHANNELS % KERNEL_WIDTH;
    let offset = (i * WIDTH + j) * CHANNELS + depths % CHANNELS;
    let valid = depths < vec4<u32>(DEPTH);
    let channels = channels_of(depths % CHANNELS, CHANNELS);
    var pixels = source;
    if OUT_WIDTH % 4u == 0u {
        //~ conv2d: STRIDE * CHANNELS => CHANNELS
        pixels = in_a_row(source, STRIDE, STRIDE * CHANNELS);
    }
    return mat4x4<f32>(
        //~ conv2d: pixels.y.x + i => pixels.y.x + j
        read_channels(pixels.at.x + offset, valid & inside(pixels.y.x + i, pixels.x.x + j), channels),
        read_channels(pixels.at.y + offset, valid & inside(pixels.y.y + i, pixels.x.y + j), channels),
        read_channels(pixels.at.z + offset, valid & inside(pixels.y.z + i, pixels.x.z + j), channels),
        read_channels(pixels.at.w + offset, valid & inside(pixels.y.w + i, pixels.x.w + j), channels),
    );
}
