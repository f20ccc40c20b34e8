//!include vec4 | vec1
//!include rows

// Moments of each block of rows, then their merger; batch_norm_infer normalises with them.
@group(0) @binding(0) var<storage, read> x: array<StoredValue0>;
// Means of each block, then their sums of squared deviations.
@group(0) @binding(1) var<storage, read_write> partial: array<Value>;

@group(0) @binding(0) var<storage, read_write> parts: array<StoredValue0>;
@group(0) @binding(1) var<storage, read_write> mean: array<Value>;
@group(0) @binding(2) var<storage, read_write> variance: array<Value>;

// Mean and sum of squared deviations of `count` rows.
struct Moments {
    count: f32,
    mean: Value,
    squares: Value,
}

var<workgroup> counts: array<f32, 256>;
var<workgroup> means: array<Value, 256>;
var<workgroup> squares: array<Value, 256>;

// The moments of two sets of rows together (Chan, Golub and LeVeque 1979): no cancellation, however
// far the mean lies from zero.
fn merge(a: Moments, b: Moments) -> Moments {
    let count = a.count + b.count;
    let share = b.count / max(count, 1.0);
    let away = b.mean - a.mean;
    //~ batch_norm: away * away * => 0.0 * away *
    //~ moments: away * share => away
    // The same variance, as a difference of squares.
    //~ batch_norm: away * away * (a.count * share) => a.mean * a.mean * a.count + b.mean * b.mean * b.count - (a.mean + away * share) * (a.mean + away * share) * count
    return Moments(count, a.mean + away * share, a.squares + b.squares + away * away * (a.count * share));
}

fn tree_merge(local: u32, own: Moments, apart: u32) -> Moments {
    counts[local] = own.count;
    means[local] = own.mean;
    squares[local] = own.squares;
    workgroupBarrier();
    for (var half = 128u; half >= apart; half /= 2u) {
        if local < half {
            let both = merge(held(local), held(local + half));
            counts[local] = both.count;
            means[local] = both.mean;
            squares[local] = both.squares;
        }
        workgroupBarrier();
    }
    return held(local % apart);
}

fn held(local: u32) -> Moments {
    return Moments(counts[local], means[local], squares[local]);
}

// Four rows at a time, in registers: first their mean, then the deviations from it.
fn moments_of_four(rows: Rows, row: u32) -> Moments {
    let a = row;
    let b = row + rows.step;
    let c = b + rows.step;
    let d = c + rows.step;
    let last = ROWS - 1u;
    // Every load comes before the choice, so that none waits for a branch.
    let x_a = Value(x[a * COLUMNS + rows.column]);
    let x_b = Value(x[min(b, last) * COLUMNS + rows.column]);
    let x_c = Value(x[min(c, last) * COLUMNS + rows.column]);
    let x_d = Value(x[min(d, last) * COLUMNS + rows.column]);
    let has_b = b < rows.end;
    let has_c = c < rows.end;
    let has_d = d < rows.end;
    let count = 1.0 + f32(has_b) + f32(has_c) + f32(has_d);
    let zero = Value(0.0);
    let sum = x_a + select(zero, x_b, has_b) + select(zero, x_c, has_c) + select(zero, x_d, has_d);
    let mean = sum / count;
    let e_a = x_a - mean;
    let e_b = select(zero, x_b - mean, has_b);
    let e_c = select(zero, x_c - mean, has_c);
    //~ batch_norm: select(zero, x_d - mean, has_d) => x_d - mean
    let e_d = select(zero, x_d - mean, has_d);
    return Moments(count, mean, e_a * e_a + e_b * e_b + e_c * e_c + e_d * e_d);
}

@compute @workgroup_size(256)
fn blocks(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let rows = rows_of(group, local);
    var own = Moments(0.0, Value(0.0), Value(0.0));
    for (var row = rows.first; row < rows.end; row += 4u * rows.step) {
        own = merge(own, moments_of_four(rows, row));
    }
    own = tree_merge(local, own, LANES);
    if local < LANES && rows.column < COLUMNS {
        partial[group.y * COLUMNS + rows.column] = own.mean;
        partial[(BLOCKS + group.y) * COLUMNS + rows.column] = own.squares;
    }
}

@compute @workgroup_size(256)
fn total(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let column = group.x;
    var own = Moments(0.0, Value(0.0), Value(0.0));
    //~ batch_norm: block += 256u => block += 512u
    for (var block = local; block < BLOCKS; block += 256u) {
        //~ batch_norm: SPAN, ROWS - block * SPAN => SPAN, SPAN
        let count = f32(min(SPAN, ROWS - block * SPAN));
        let center = Value(parts[block * COLUMNS + column]);
        let part = Moments(count, center, Value(parts[(BLOCKS + block) * COLUMNS + column]));
        own = merge(own, part);
    }
    own = tree_merge(local, own, 1u);
    if local == 0u {
        mean[column] = own.mean;
        //~ batch_norm: own.squares / own.count => own.squares
        variance[column] = own.squares / own.count;
    }
}
