//!include vec4 | vec1
//!include rows
//!include tree
//!include sum_block

// y[n, c] = mean over the pixels of image n; the first stage of include/rows.wgsl, where an image
// is a block.
@group(0) @binding(1) var<storage, read_write> y: array<Value>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let rows = rows_of(group, local);
    let sum = sum_block(rows, local);
    if local < LANES && rows.column < COLUMNS {
        //~ global_average_pool: / f32(SPAN) =>
        y[group.y * COLUMNS + rows.column] = sum / f32(SPAN);
    }
}
