//!include vec4 | vec1
//!include nan
//!include scaled
//!include rows
//!include tree

// The gradient of a depthwise convolution's weights: sums over all pixels of dy, cut into blocks
// (include/rows.wgsl), which partial_sums.wgsl joins. One invocation sums 3 x 3 weights of one
// column, workgroup z the z-th such square of the kernel.
override HEIGHT: u32;
override WIDTH: u32;
override OUT_HEIGHT: u32;
override OUT_WIDTH: u32;
override KERNEL_HEIGHT: u32;
override KERNEL_WIDTH: u32;
override STRIDE: u32;
override PAD_TOP: u32;
override PAD_LEFT: u32;

@group(0) @binding(0) var<storage, read> x: array<StoredValue0>;
@group(0) @binding(1) var<storage, read> dy: array<StoredValue1>;
@group(0) @binding(2) var<storage, read_write> dw: array<Value>;
// Of x, if it is SCALED: scales, then shifts.
@group(0) @binding(3) var<storage, read> scale_shift: array<StoredValue3>;

struct Three {
    a: Value,
    b: Value,
    c: Value,
}

// A pixel of x; 0 outside. What is in front of the borders has wrapped around to huge numbers.
fn pixel(image: u32, height: u32, at: u32, column: u32) -> Value {
    var value = Value(0.0);
    if height < HEIGHT && at < WIDTH {
        value = Value(x[((image * HEIGHT + height) * WIDTH + at) * COLUMNS + column]);
        if SCALED {
            //~ grouped_conv2d_weight_grad: scale_shift[COLUMNS + column] => scale_shift[column]
            value = scaled(value, Value(scale_shift[column]), Value(scale_shift[COLUMNS + column]));
        }
    }
    return value;
}

fn three(image: u32, height: u32, at: u32, column: u32) -> Three {
    return Three(
        pixel(image, height, at, column),
        pixel(image, height, at + 1u, column),
        pixel(image, height, at + 2u, column),
    );
}

fn multiply_add(dy: Value, x: Three, sums: Three) -> Three {
    return Three(fma(dy, x.a, sums.a), fma(dy, x.b, sums.b), fma(dy, x.c, sums.c));
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let rows = rows_of(group, local);
    let across = (KERNEL_WIDTH + 2u) / 3u;
    //~ grouped_conv2d_weight_grad: group.z / across => 0u
    let i = 3u * (group.z / across);
    let j = 3u * (group.z % across);
    var top = Three();
    var middle = Three();
    var bottom = Three();
    for (var row = rows.first; row < rows.end; row += rows.step) {
        let gradient = Value(dy[row * COLUMNS + rows.column]);
        let at = row % OUT_WIDTH * STRIDE + j - PAD_LEFT;
        let height = row / OUT_WIDTH % OUT_HEIGHT * STRIDE + i - PAD_TOP;
        let image = row / OUT_WIDTH / OUT_HEIGHT;
        top = multiply_add(gradient, three(image, height, at, rows.column), top);
        middle = multiply_add(gradient, three(image, height + 1u, at, rows.column), middle);
        bottom = multiply_add(gradient, three(image, height + 2u, at, rows.column), bottom);
    }
    store_three(group.y, i, j, rows.column, local, top);
    store_three(group.y, i + 1u, j, rows.column, local, middle);
    store_three(group.y, i + 2u, j, rows.column, local, bottom);
}

fn store_three(block: u32, i: u32, j: u32, column: u32, local: u32, sums: Three) {
    store(block, i, j, column, local, sums.a);
    //~ grouped_conv2d_weight_grad: j + 1u, column, local => j, column, local
    store(block, i, j + 1u, column, local, sums.b);
    store(block, i, j + 2u, column, local, sums.c);
}

// The workgroup's sum of a weight.
fn store(block: u32, i: u32, j: u32, column: u32, local: u32, value: Value) {
    let sum = tree_sum(local, value, LANES);
    if local < LANES && column < COLUMNS && i < KERNEL_HEIGHT && j < KERNEL_WIDTH {
        dw[((block * KERNEL_HEIGHT + i) * KERNEL_WIDTH + j) * COLUMNS + column] = sum;
    }
}
