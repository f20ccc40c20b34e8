// Rows of logits, LANES invocations (a power of two) to each: those of a row are numbered 256 /
// LANES apart.
override ROWS: u32;
override CLASSES: u32;
override LANES: u32;
override SMOOTHING: f32;
// Whether rows have two labels.
override MIXED: bool;
// Whether classes have weights.
override WEIGHTED: bool;

// The label of a row that does not count.
const IGNORE = 0xffffffffu;

var<workgroup> largest: array<f32, 256>;
var<workgroup> largest_at: array<u32, 256>;

struct Largest {
    value: f32,
    // The first of equals.
    at: u32,
}

// The larger of two entries moves to the first.
fn keep_larger(a: u32, b: u32) {
    //~ softmax_cross_entropy: largest_at[b] < largest_at[a] => true
    let tie = largest[b] == largest[a] && largest_at[b] < largest_at[a];
    if largest[b] > largest[a] || tie {
        largest[a] = largest[b];
        largest_at[a] = largest_at[b];
    }
}

// Of a row, from what each of its invocations found. All invocations of the workgroup must call it.
fn tree_largest(local: u32, own: Largest) -> Largest {
    largest[local] = own.value;
    largest_at[local] = own.at;
    workgroupBarrier();
    //~ softmax_cross_entropy_grad: half >= 256u / LANES => half > 256u / LANES
    for (var half = 128u; half >= 256u / LANES; half /= 2u) {
        if local < half {
            keep_larger(local, local + half);
        }
        workgroupBarrier();
    }
    let row = local % (256u / LANES);
    return Largest(largest[row], largest_at[row]);
}
