// A matrix of ROWS x COLUMNS values, reduced over its rows in two stages (`Reduction` of
// src/graph/op/dispatch.rs). First, workgroup (x, y) takes LANES columns of block y, SPAN rows;
// each invocation one column and every (256 / LANES)th row. Then one workgroup a column merges the
// BLOCKS partial results.
override ROWS: u32;
override COLUMNS: u32;
override LANES: u32;
override SPAN: u32;
override BLOCKS: u32;

struct Rows {
    column: u32,
    // The invocation's first row, and the end of its block; the same where there is no such column.
    first: u32,
    end: u32,
    // From one row of an invocation to its next.
    step: u32,
}

fn rows_of(group: vec3<u32>, local: u32) -> Rows {
    //~ batch_norm: group.x * LANES => 0u * LANES
    let column = group.x * LANES + local % LANES;
    let first = group.y * SPAN + local / LANES;
    let end = min((group.y + 1u) * SPAN, ROWS);
    return Rows(column, first, select(first, end, column < COLUMNS), 256u / LANES);
}
