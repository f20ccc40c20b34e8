//!include vec4 | vec1

// y[o, i] = sum over r of x[o, r, i], the mean (KIND 1) or the largest (KIND 2). A workgroup has
// LANES neighbouring values i of one o; each invocation takes every (256 / LANES)th r of one of
// them. What they found is joined as a tree, always in the same order.
override KIND: u32;
override BEFORE: u32;
override ALONG: u32;
// In values.
override AFTER: u32;
override LANES: u32;

@group(0) @binding(0) var<storage, read> x: array<StoredValue0>;
@group(0) @binding(1) var<storage, read_write> y: array<Value>;

var<workgroup> totals: array<Value, 256>;

fn join(a: Value, b: Value) -> Value {
    if KIND == 2u {
        //~ reduce_max: b > a => b < a
        return select(a, b, b > a);
    }
    //~ reduce_sum: return a + b; => return b;
    return a + b;
}

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    // The columns of workgroups lie side by side, then the os.
    let columns = (AFTER + LANES - 1u) / LANES;
    let number = group.y * groups.x + group.x;
    let o = number / columns;
    let i = number % columns * LANES + local % LANES;
    let first = local / LANES;
    let step = 256u / LANES;
    let is_inside = o < BEFORE && i < AFTER;
    // Where there is no element, one that is there is read again, and not used.
    let at = min(o, BEFORE - 1u) * ALONG * AFTER + min(i, AFTER - 1u);
    var total = Value(x[at + min(first, ALONG - 1u) * AFTER]);
    for (var r = first + step; r < ALONG; r += step) {
        //~ reduce_mean: at + r * AFTER => at
        total = join(total, Value(x[at + r * AFTER]));
    }
    totals[local] = total;
    workgroupBarrier();
    // As many invocations of a lane as there are elements have something to join.
    for (var half = 128u; half >= LANES; half /= 2u) {
        if local < half && (local + half) / LANES < ALONG {
            totals[local] = join(totals[local], totals[local + half]);
        }
        workgroupBarrier();
    }
    if local < LANES && is_inside {
        let result = totals[local];
        //~ reduce_mean: KIND == 1u) => KIND == 9u)
        y[o * AFTER + i] = select(result, result / f32(ALONG), KIND == 1u);
    }
}
