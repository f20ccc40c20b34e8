//!include vec4
//!include nan
//!include function
//!include epilogue
//!include tile
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
    return mat4x4<f32>(
        //~ conv2d: source.y.x + i => source.y.x + j
        read_a(source.at.x + offset, valid & inside(source.y.x + i, source.x.x + j)),
        read_a(source.at.y + offset, valid & inside(source.y.y + i, source.x.y + j)),
        read_a(source.at.z + offset, valid & inside(source.y.z + i, source.x.z + j)),
        read_a(source.at.w + offset, valid & inside(source.y.w + i, source.x.w + j)),
    );
}
