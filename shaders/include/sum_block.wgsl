@group(0) @binding(0) var<storage, read> x: array<StoredValue0>;

// 0 past the end. The load comes before the choice, so that no load waits for a branch.
fn load(rows: Rows, row: u32) -> Value {
    let value = Value(x[min(row, ROWS - 1u) * COLUMNS + rows.column]);
    //~ sum_rows: row < rows.end) => true)
    return select(Value(0.0), value, row < rows.end);
}

// The sum of a column of x over a block of rows, for the first LANES invocations of a workgroup.
fn sum_block(rows: Rows, local: u32) -> Value {
    var sum = Value(0.0);
    for (var row = rows.first; row < rows.end; row += 4u * rows.step) {
        let even = load(rows, row) + load(rows, row + rows.step);
        //~ sum_rows: 2u * rows.step => rows.step
        let odd = load(rows, row + 2u * rows.step) + load(rows, row + 3u * rows.step);
        sum += even + odd;
    }
    return tree_sum(local, sum, LANES);
}
