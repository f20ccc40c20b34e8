//!include vec4 | vec1
//!include index
//!include nan
//!include function
//!include epilogue
//!include scaled
//!include depthwise
//!include tree

// Depthwise convolution, bias and activation; one invocation four neighbouring pixels of one column
// of y. Along a row of the kernel, weights that are a stride apart meet the same pixels of x, moved
// by one: these stay in registers. Invocations.
override LENGTH: u32;
// Whether the moments of a workgroup's pixels are gathered, in `kept`: the means of the columns and
// then the sums of squared deviations. Then COLUMNS is a power of two, OUT_WIDTH a multiple of 4.
override GATHER: bool;
// Pixels of a workgroup, if they are gathered.
override SPAN: u32;

@group(0) @binding(0) var<storage, read> x: array<StoredValue0>;
@group(0) @binding(1) var<storage, read> w: array<StoredValue1>;
@group(0) @binding(2) var<storage, read_write> y: array<StoredValue2>;
@group(0) @binding(5) var<storage, read> bias: array<Value>;
// Of x, if it is SCALED: scales, then shifts.
@group(0) @binding(6) var<storage, read> scale_shift: array<Value>;

// Pixel `at` of the row of x that begins with pixel `row`. What is in front of it has wrapped
// around to huge numbers.
fn pixel(row: u32, at: u32, column: u32) -> Value {
    var value = Value(0.0);
    if at < WIDTH {
        value = Value(x[(row + at) * COLUMNS + column]);
        if SCALED {
            //~ grouped_conv2d: scale_shift[COLUMNS + column] => scale_shift[column]
            value = scaled(value, scale_shift[column], scale_shift[COLUMNS + column]);
        }
    }
    return value;
}

// The first pixel of an invocation, and its place in a row.
struct Start {
    line: u32,
    q: u32,
    column: u32,
}

fn start_of(invocation: u32) -> Start {
    let fours = (OUT_WIDTH + 3u) / 4u;
    let q = 4u * (invocation / COLUMNS % fours);
    return Start(invocation / COLUMNS / fours, q, invocation % COLUMNS);
}

fn sums_of(start: Start) -> Four {
    let line = start.line;
    let q = start.q;
    let column = start.column;
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
                sums = multiply_add(Value(w[(i * KERNEL_WIDTH + j) * COLUMNS + column]), window, sums);
            }
        }
    }
    return sums;
}

fn store_four(start: Start, sums: Four) {
    let q = start.q;
    let column = start.column;
    let to = (start.line * OUT_WIDTH + q) * COLUMNS + column;
    store(to, q, sums.a, column);
    store(to + COLUMNS, q + 1u, sums.b, column);
    store(to + 2u * COLUMNS, q + 2u, sums.c, column);
    store(to + 3u * COLUMNS, q + 3u, sums.d, column);
}

// Every invocation of a workgroup must call it; of those that there are not, the sums are 0.
fn gather_moments(group: u32, local: u32, is_there: bool, sums: Four) {
    let rows = LENGTH / COLUMNS * 4u;
    let blocks = (rows + SPAN - 1u) / SPAN;
    let count = f32(min(SPAN, max(rows, group * SPAN) - group * SPAN));
    let mean = tree_sum(local, sums.a + sums.b + sums.c + sums.d, COLUMNS) / max(count, 1.0);
    let a = sums.a - mean;
    let b = sums.b - mean;
    let c = sums.c - mean;
    let d = sums.d - mean;
    //~ grouped_conv2d: a * a + b * b + c * c + d * d => a * a + b * b + c * c
    let own = select(Value(0.0), a * a + b * b + c * c + d * d, Bools(is_there));
    let squares = tree_sum(local, own, COLUMNS);
    if local < COLUMNS && group < blocks {
        //~ grouped_conv2d: bias[local], BIAS => bias[local], false
        kept[group * COLUMNS + local] = StoredValue4(mean + select(Value(0.0), bias[local], BIAS));
        kept[(blocks + group) * COLUMNS + local] = StoredValue4(squares);
    }
}

@compute @workgroup_size(256)
fn main(
    @builtin(global_invocation_id) id: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let invocation = linear_index(id, groups, 256u);
    let is_there = invocation < LENGTH;
    var sums = Four();
    if is_there {
        let start = start_of(invocation);
        sums = sums_of(start);
        store_four(start, sums);
    }
    if GATHER {
        gather_moments((invocation - local) / 256u, local, is_there, sums);
    }
}

fn store(to: u32, q: u32, sum: Value, column: u32) {
    if q < OUT_WIDTH {
        y[to] = StoredValue2(finished(to, sum, bias[column]));
    }
}
