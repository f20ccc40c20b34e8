//!include vec4
//!include nan
//!include function
//!include epilogue
//!include scaled
//!include tile
//!include pixels
//!include conv

// The gradient of a convolution's weights as a matrix product: row r of A is what weight row (i, j,
// channel) met at every output pixel, B is dy. The depth, all pixels of the batch, is long and cut
// into slices.
const A_ALONG_DEPTH = false;

// Four places in a patch whose top left pixel is the first of x, without padding.
fn locate_a(row: u32) -> Source {
    let rows = min(row + LANES, vec4<u32>(ROWS - 1u));
    let y = rows / (KERNEL_WIDTH * CHANNELS) - PAD_TOP;
    //~ conv2d_weight_grad: % KERNEL_WIDTH - PAD_LEFT => % KERNEL_WIDTH
    let x = rows / CHANNELS % KERNEL_WIDTH - PAD_LEFT;
    return Source((y * WIDTH + x) * CHANNELS + rows % CHANNELS, y, x);
}

fn fetch_a(source: Source, k: u32) -> mat4x4<f32> {
    let pixels = k + LANES;
    var y = pixels / OUT_WIDTH % OUT_HEIGHT * STRIDE;
    var x = pixels % OUT_WIDTH * STRIDE;
    let image = pixels / (OUT_HEIGHT * OUT_WIDTH);
    var at = ((image * HEIGHT + y) * WIDTH + x) * CHANNELS;
    if OUT_WIDTH % 4u == 0u {
        // The four are neighbours in a row: the first tells where the others are.
        y = y.xxxx;
        x = x.x + STRIDE * LANES;
        //~ conv2d_weight_grad: STRIDE * CHANNELS * LANES => CHANNELS * LANES
        at = at.x + STRIDE * CHANNELS * LANES;
    }
    let valid = pixels < vec4<u32>(DEPTH);
    // Counted from the padding, no place has wrapped around.
    //~ conv2d_weight_grad: (PAD_TOP * WIDTH + PAD_LEFT) * CHANNELS => PAD_LEFT
    let channels = channels_of((source.at + (PAD_TOP * WIDTH + PAD_LEFT) * CHANNELS) % CHANNELS, CHANNELS);
    return mat4x4<f32>(
        read_channels(source.at + at.x, valid.xxxx & inside(source.y + y.x, source.x + x.x), channels),
        read_channels(source.at + at.y, valid.yyyy & inside(source.y + y.y, source.x + x.y), channels),
        read_channels(source.at + at.z, valid.zzzz & inside(source.y + y.z, source.x + x.z), channels),
        //~ conv2d_weight_grad: source.x + x.w => source.x + y.w
        read_channels(source.at + at.w, valid.wwww & inside(source.y + y.w, source.x + x.w), channels),
    );
}
