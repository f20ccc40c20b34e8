//!include vec4 | vec1
//!include index
//!include nan
//!include function
//!include epilogue
//!include scaled
//!include depthwise

// Depthwise convolution, bias and activation; one invocation four neighbouring pixels of one column
// of y. Along a row of the kernel, weights that are a stride apart meet the same pixels of x, moved
// by one: these stay in registers. Invocations.
override LENGTH: u32;

@group(0) @binding(0) var<storage, read> x: array<Value>;
@group(0) @binding(1) var<storage, read> w: array<Value>;
@group(0) @binding(2) var<storage, read_write> y: array<Value>;
@group(0) @binding(5) var<storage, read> bias: array<Value>;
// Of x, if it is SCALED: scales, then shifts.
@group(0) @binding(6) var<storage, read> scale_shift: array<Value>;

// Pixel `at` of the row of x that begins with pixel `row`. What is in front of it has wrapped
// around to huge numbers.
fn pixel(row: u32, at: u32, column: u32) -> Value {
    var value = Value(0.0);
    if at < WIDTH {
        value = x[(row + at) * COLUMNS + column];
        if SCALED {
            //~ grouped_conv2d: scale_shift[COLUMNS + column] => scale_shift[column]
            value = scaled(value, scale_shift[column], scale_shift[COLUMNS + column]);
        }
    }
    return value;
}

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let invocation = linear_index(id, groups, 256u);
    if invocation >= LENGTH {
        return;
    }
    let fours = (OUT_WIDTH + 3u) / 4u;
    let column = invocation % COLUMNS;
    let q = 4u * (invocation / COLUMNS % fours);
    let line = invocation / COLUMNS / fours;
    let image = line / OUT_HEIGHT;
    var sums = Four();
    for (var i = 0u; i < KERNEL_HEIGHT; i++) {
        let height = line % OUT_HEIGHT * STRIDE + i - PAD_TOP;
        if height >= HEIGHT {
            continue;
        }
        let row = (image * HEIGHT + height) * WIDTH;
        for (var first = 0u; first < min(STRIDE, KERNEL_WIDTH); first++) {
            let at = q * STRIDE + first - PAD_LEFT;
            var window = Four(
                Value(0.0),
                pixel(row, at, column),
                pixel(row, at + STRIDE, column),
                pixel(row, at + 2u * STRIDE, column),
            );
            for (var j = first; j < KERNEL_WIDTH; j += STRIDE) {
                //~ grouped_conv2d: at + j - first + => at + j +
                let next = pixel(row, at + j - first + 3u * STRIDE, column);
                //~ grouped_conv2d: window.b, window.c, window.d, next => window.c, window.b, window.d, next
                window = Four(window.b, window.c, window.d, next);
                sums = multiply_add(w[(i * KERNEL_WIDTH + j) * COLUMNS + column], window, sums);
            }
        }
    }
    let to = (line * OUT_WIDTH + q) * COLUMNS + column;
    store(to, q, sums.a, column);
    store(to + COLUMNS, q + 1u, sums.b, column);
    store(to + 2u * COLUMNS, q + 2u, sums.c, column);
    store(to + 3u * COLUMNS, q + 3u, sums.d, column);
}

fn store(to: u32, q: u32, sum: Value, column: u32) {
    if q < OUT_WIDTH {
        y[to] = finished(to, sum, bias[column]);
    }
}
