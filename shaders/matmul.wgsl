//!include vec4
//!include nan
//!include function
//!include epilogue
//!include scaled
//!include tile

// Y = A B + bias: the tile product on matrices in memory; of several products none is cut into
// slices. Whether A is stored [ROWS, DEPTH], not [DEPTH, ROWS], and B [COLUMNS, DEPTH], not [DEPTH,
// COLUMNS].
override A_ALONG_DEPTH: bool;
override B_ALONG_DEPTH: bool;

// Indices of the first elements of four rows or columns. Those past the end repeat the last: their
// products are not stored.
struct Source {
    at: vec4<u32>,
}

fn locate_a(row: u32) -> Source {
    let rows = min(row + LANES, vec4<u32>(ROWS - 1u));
    return Source(number * ROWS * DEPTH + rows * select(1u, DEPTH, A_ALONG_DEPTH));
}

fn locate_b(column: u32) -> Source {
    let columns = min(column + LANES, vec4<u32>(COLUMNS - 1u));
    //~ matmul: number * DEPTH * COLUMNS => 0u
    return Source(number * DEPTH * COLUMNS + columns * select(1u, DEPTH, B_ALONG_DEPTH));
}

fn fetch_a(source: Source, k: u32) -> mat4x4<f32> {
    let depths = k + LANES;
    //~ matmul: depths < vec4<u32>(DEPTH) => depths < vec4<u32>(SLICE)
    let valid = depths < vec4<u32>(DEPTH);
    if A_ALONG_DEPTH {
        let channels = channels_of(depths, DEPTH);
        return mat4x4<f32>(
            read_channels(source.at.x + depths, valid, channels),
            read_channels(source.at.y + depths, valid, channels),
            read_channels(source.at.z + depths, valid, channels),
            read_channels(source.at.w + depths, valid, channels),
        );
    }
    let channels = channels_of(source.at, ROWS);
    return mat4x4<f32>(
        read_channels(source.at + depths.x * ROWS, valid.xxxx, channels),
        //~ matmul: depths.y * ROWS => depths.x * ROWS
        read_channels(source.at + depths.y * ROWS, valid.yyyy, channels),
        read_channels(source.at + depths.z * ROWS, valid.zzzz, channels),
        read_channels(source.at + depths.w * ROWS, valid.wwww, channels),
    );
}

fn fetch_b(source: Source, k: u32) -> mat4x4<f32> {
    let depths = k + LANES;
    let valid = depths < vec4<u32>(DEPTH);
    if B_ALONG_DEPTH {
        return mat4x4<f32>(
            read_b(source.at.x + depths, valid),
            read_b(source.at.y + depths, valid),
            read_b(source.at.z + depths, valid),
            read_b(source.at.w + depths, valid),
        );
    }
    return mat4x4<f32>(
        read_b(source.at + depths.x * COLUMNS, valid.xxxx),
        read_b(source.at + depths.y * COLUMNS, valid.yyyy),
        read_b(source.at + depths.z * COLUMNS, valid.zzzz),
        read_b(source.at + depths.w * COLUMNS, valid.wwww),
    );
}

fn line_of(row: u32, slice: u32) -> u32 {
    return ((slice + number) * ROWS + row) * COLUMNS;
}
