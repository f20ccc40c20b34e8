//!include vec4 | vec1
//!include index
//!include nan
//!include function
//!include batch_norm
//!include place
//!include rows
//!include tree
//!include whole_gradient | pooled_gradient

// The gradient of batch normalisation: sums of g and g x_hat over each block of rows, their totals,
// then dx. g, the gradient of the normalised values, is what the include (whole_gradient.wgsl or
// pooled_gradient.wgsl) calls `activation_grad`.
@group(0) @binding(0) var<storage, read> dy: array<StoredValue0>;
@group(0) @binding(1) var<storage, read> x: array<StoredValue1>;
@group(0) @binding(2) var<storage, read> gamma: array<Value>;
@group(0) @binding(3) var<storage, read> beta: array<StoredValue3>;
@group(0) @binding(4) var<storage, read> mean: array<Value>;
@group(0) @binding(5) var<storage, read> variance: array<Value>;
// Sums of g x_hat of each block, then of g.
@group(0) @binding(6) var<storage, read_write> partial: array<Value>;

@group(0) @binding(0) var<storage, read_write> parts: array<StoredValue0>;
@group(0) @binding(1) var<storage, read_write> dgamma: array<StoredValue1>;
@group(0) @binding(6) var<storage, read_write> dbeta: array<Value>;
// Of every column: scale, shift, slope, offset.
@group(0) @binding(7) var<storage, read_write> coefficients: array<Value>;

@group(0) @binding(2) var<storage, read_write> affines: array<Value>;
@group(0) @binding(3) var<storage, read_write> dx: array<StoredValue3>;

struct Affine {
    scale: Value,
    shift: Value,
}

// What the forward pass did to a column.
fn forward(column: u32) -> Affine {
    let scale = gamma[column] * inverse_deviation(variance[column]);
    return Affine(scale, Value(beta[column]) - mean[column] * scale);
}

@compute @workgroup_size(256)
fn blocks(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let rows = rows_of(group, local);
    let column = min(rows.column, COLUMNS - 1u);
    let affine = forward(column);
    let center = mean[column];
    let inv_std = inverse_deviation(variance[column]);
    var products = Value(0.0);
    var sum = Value(0.0);
    for (var row = rows.first; row < rows.end; row += 2u * rows.step) {
        // Both loads come before the choice, so that none waits for a branch.
        let more = row + rows.step;
        let at = row * COLUMNS + column;
        let next = min(more, ROWS - 1u) * COLUMNS + column;
        let x_a = Value(x[at]);
        let x_b = Value(x[next]);
        let g_a = activation_grad(at, affine);
        //~ batch_norm_grad: more < rows.end => true
        let g_b = select(Value(0.0), activation_grad(next, affine), more < rows.end);
        sum += g_a + g_b;
        products += g_a * ((x_a - center) * inv_std) + g_b * ((x_b - center) * inv_std);
    }
    products = tree_sum(local, products, LANES);
    sum = tree_sum(local, sum, LANES);
    if local < LANES && rows.column < COLUMNS {
        partial[group.y * COLUMNS + column] = products;
        partial[(BLOCKS + group.y) * COLUMNS + column] = sum;
    }
}

@compute @workgroup_size(256)
fn total(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let column = group.x;
    var products = Value(0.0);
    var sum = Value(0.0);
    //~ batch_norm_grad: block += 256u => block += 512u
    for (var block = local; block < BLOCKS; block += 256u) {
        products += Value(parts[block * COLUMNS + column]);
        sum += Value(parts[(BLOCKS + block) * COLUMNS + column]);
    }
    products = tree_sum(local, products, 1u);
    sum = tree_sum(local, sum, 1u);
    if local == 0u {
        let affine = forward(column);
        //~ batch_norm_grad: / f32(ROWS) =>
        let slope = -affine.scale * inverse_deviation(variance[column]) * products / f32(ROWS);
        dgamma[column] = StoredValue1(products);
        dbeta[column] = sum;
        coefficients[column] = affine.scale;
        coefficients[COLUMNS + column] = affine.shift;
        coefficients[2u * COLUMNS + column] = slope;
        //~ batch_norm_grad: - mean[column] * slope =>
        coefficients[3u * COLUMNS + column] = -affine.scale * sum / f32(ROWS) - mean[column] * slope;
    }
}

// dx = scale (g - mean of g - x_hat mean of g x_hat), as scale g + (slope x + offset).
@compute @workgroup_size(256)
fn apply(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = linear_index(id, groups, 256u);
    if i < ROWS * COLUMNS {
        let column = i % COLUMNS;
        let affine = Affine(affines[column], affines[COLUMNS + column]);
        let rest = affines[2u * COLUMNS + column] * Value(x[i]) + affines[3u * COLUMNS + column];
        dx[i] = StoredValue3(affine.scale * activation_grad(i, affine) + rest);
    }
}
