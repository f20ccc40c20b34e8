//!include vec4 | vec1
//!include index
//!include nan
//!include function
//!include epilogue
//!include depthwise

// The gradient of a depthwise convolution's input; one invocation four pixels of one column of dx
// that are a stride apart. These meet the same weights, every STRIDE-th, for neighbouring pixels of
// dy, which stay in registers. Invocations.
override LENGTH: u32;

@group(0) @binding(0) var<storage, read> dy: array<StoredValue0>;
@group(0) @binding(1) var<storage, read> w: array<StoredValue1>;
@group(0) @binding(2) var<storage, read_write> dx: array<StoredValue2>;

// Pixel `at` of the row of dy that begins with pixel `row`. What is in front of it has wrapped
// around to huge numbers.
fn pixel(row: u32, at: u32, column: u32) -> Value {
    var value = Value(0.0);
    if at < OUT_WIDTH {
        value = Value(dy[(row + at) * COLUMNS + column]);
    }
    return value;
}

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let invocation = linear_index(id, groups, 256u);
    if invocation >= LENGTH {
        return;
    }
    let fours = (WIDTH + 4u * STRIDE - 1u) / (4u * STRIDE) * STRIDE;
    let column = invocation % COLUMNS;
    let four = invocation / COLUMNS % fours;
    let line = invocation / COLUMNS / fours;
    let image = line / HEIGHT;
    //~ grouped_conv2d_input_grad: four / STRIDE * (4u * STRIDE) => four / STRIDE * 4u
    let at = four / STRIDE * (4u * STRIDE) + four % STRIDE;
    let from_top = line % HEIGHT + PAD_TOP;
    let from_left = at + PAD_LEFT;
    var sums = Four();
    for (var i = from_top % STRIDE; i < KERNEL_HEIGHT; i += STRIDE) {
        //~ grouped_conv2d_input_grad: (from_top - i) / STRIDE => from_top / STRIDE
        let p = (from_top - i) / STRIDE;
        if p >= OUT_HEIGHT {
            continue;
        }
        let row = (image * OUT_HEIGHT + p) * OUT_WIDTH;
        let q = from_left / STRIDE;
        var window = Four(
            pixel(row, q + 1u, column),
            pixel(row, q + 2u, column),
            pixel(row, q + 3u, column),
            Value(0.0),
        );
        var step = 0u;
        for (var j = from_left % STRIDE; j < KERNEL_WIDTH; j += STRIDE) {
            window = Four(pixel(row, q - step, column), window.a, window.b, window.c);
            sums = multiply_add(Value(w[(i * KERNEL_WIDTH + j) * COLUMNS + column]), window, sums);
            step += 1u;
        }
    }
    let pixels = line * WIDTH;
    store(pixels, at, sums.a, column);
    store(pixels, at + STRIDE, sums.b, column);
    store(pixels, at + 2u * STRIDE, sums.c, column);
    store(pixels, at + 3u * STRIDE, sums.d, column);
}

fn store(row: u32, at: u32, sum: Value, column: u32) {
    if at < WIDTH {
        let to = (row + at) * COLUMNS + column;
        dx[to] = StoredValue2(finished(to, sum, Value(0.0)));
    }
}
