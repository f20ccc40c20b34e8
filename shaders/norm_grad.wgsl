//!include vec4
//!include index
//!include nan
//!include function
//!include batch_norm
//!include tree

// The gradient of a normalisation whose output's gradient a convolution has written, with the sums
// over each block of rows: their totals, then dx in the place of dy.
@group(0) @binding(0) var<storage, read_write> parts: array<Value>;
// Of every column: slope, offset.
@group(0) @binding(0) var<storage, read_write> line: array<Value>;
// Scales, then shifts.
@group(0) @binding(1) var<storage, read> scale_shift: array<Value>;
@group(0) @binding(2) var<storage, read> mean: array<StoredValue2>;
@group(0) @binding(2) var<storage, read> x: array<StoredValue2>;
@group(0) @binding(3) var<storage, read> variance: array<StoredValue3>;
@group(0) @binding(3) var<storage, read_write> dx: array<StoredValue3>;
@group(0) @binding(4) var<storage, read_write> dgamma: array<Value>;
@group(0) @binding(5) var<storage, read_write> dbeta: array<Value>;
@group(0) @binding(6) var<storage, read_write> coefficients: array<Value>;
// Rows, values of a row, blocks of rows: as data, so that a pipeline serves many layers.
@group(0) @binding(4) var<storage, read> sizes: array<vec4<u32>>;
@group(0) @binding(7) var<storage, read> numbers: array<vec4<u32>>;

@compute @workgroup_size(256)
fn total(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let rows = f32(numbers[0].x);
    let columns = numbers[0].y;
    let blocks = numbers[0].z;
    let column = group.x;
    var products = Value(0.0);
    var sum = Value(0.0);
    for (var block = local; block < blocks; block += 256u) {
        products += parts[block * columns + column];
        //~ conv2d_input_grad: (blocks + block) * columns => block * columns
        sum += parts[(blocks + block) * columns + column];
    }
    products = tree_sum(local, products, 1u);
    sum = tree_sum(local, sum, 1u);
    if local == 0u {
        let inverse = inverse_deviation(Value(variance[column]));
        let scale = scale_shift[column];
        let slope = -scale * inverse * inverse * products / rows;
        dgamma[column] = products * inverse;
        dbeta[column] = sum;
        coefficients[column] = slope;
        //~ conv2d_input_grad: - Value(mean[column]) * slope =>
        coefficients[columns + column] = -scale * sum / rows - Value(mean[column]) * slope;
    }
}

// dx = scale g + (slope x + offset).
@compute @workgroup_size(256)
fn apply(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = linear_index(id, groups, 256u);
    let columns = sizes[0].y;
    if i < sizes[0].x * columns {
        let column = i % columns;
        let scale = scale_shift[column];
        let value = Value(x[i]);
        let g = through(Value(dx[i]), normalise(value, scale, scale_shift[columns + column]));
        dx[i] = StoredValue3(scale * g + (line[column] * value + line[columns + column]));
    }
}
