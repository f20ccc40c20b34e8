// What conv2d and its weight gradient share: the geometry, and B, whose columns are the output
// channels.
override HEIGHT: u32;
override WIDTH: u32;
override CHANNELS: u32;
override OUT_HEIGHT: u32;
override OUT_WIDTH: u32;
override KERNEL_WIDTH: u32;
override STRIDE: u32;
override PAD_TOP: u32;
override PAD_LEFT: u32;

const B_ALONG_DEPTH = false;

fn inside(y: vec4<u32>, x: vec4<u32>) -> vec4<bool> {
    return (y < vec4<u32>(HEIGHT)) & (x < vec4<u32>(WIDTH));
}

// Columns past the end repeat the last: their products are not stored.
fn locate_b(column: u32) -> Source {
    let columns = min(column + LANES, vec4<u32>(COLUMNS - 1u));
    return Source(columns, vec4<u32>(), vec4<u32>());
}

fn fetch_b(source: Source, k: u32) -> mat4x4<f32> {
    let depths = k + LANES;
    let valid = depths < vec4<u32>(DEPTH);
    return mat4x4<f32>(
        read_b(source.at + depths.x * COLUMNS, valid.xxxx),
        read_b(source.at + depths.y * COLUMNS, valid.yyyy),
        read_b(source.at + depths.z * COLUMNS, valid.zzzz),
        read_b(source.at + depths.w * COLUMNS, valid.wwww),
    );
}

fn line_of(row: u32, slice: u32) -> u32 {
    return (slice * ROWS + row) * COLUMNS;
}
