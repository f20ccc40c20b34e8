//!include vec4 | vec1
//!include rows
//!include tree
//!include sum_block

// y[c] = sum of x[..., c], in two stages (include/rows.wgsl).
@group(0) @binding(1) var<storage, read_write> sums: array<Value>;

@group(0) @binding(0) var<storage, read_write> partial: array<StoredValue0>;
@group(0) @binding(1) var<storage, read_write> y: array<Value>;

// Sums of each block.
@compute @workgroup_size(256)
fn blocks(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let rows = rows_of(group, local);
    let sum = sum_block(rows, local);
    if local < LANES && rows.column < COLUMNS {
        sums[group.y * COLUMNS + rows.column] = sum;
    }
}

// Their sum.
@compute @workgroup_size(256)
fn total(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    var sum = Value(0.0);
    //~ sum_rows: block += 256u => block += 512u
    for (var block = local; block < BLOCKS; block += 256u) {
        sum += Value(partial[block * COLUMNS + group.x]);
    }
    sum = tree_sum(local, sum, 1u);
    if local == 0u {
        y[group.x] = sum;
    }
}
