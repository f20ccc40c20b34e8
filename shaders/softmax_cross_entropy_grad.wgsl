//!include vec4
//!include tree
//!include softmax

// dz = dloss weight (softmax(z) - t) / count, 0 in ignored rows.
@group(0) @binding(0) var<storage, read> logits: array<f32>;
@group(0) @binding(1) var<storage, read> labels: array<u32>;
@group(0) @binding(2) var<storage, read> dloss: array<f32>;
@group(0) @binding(3) var<storage, read> others: array<u32>;
@group(0) @binding(4) var<storage, read> shares: array<f32>;
@group(0) @binding(5) var<storage, read_write> dz: array<f32>;
// Of the classes.
@group(0) @binding(6) var<storage, read> weights: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let apart = 256u / LANES;
    let row = group.x * apart + local % apart;
    let lane = local / apart;
    let end = select(0u, CLASSES, row < ROWS);

    var own = Largest(-3.4028234663852886e38, CLASSES);
    for (var c = lane; c < end; c += LANES) {
        let z = logits[row * CLASSES + c];
        if z > own.value {
            own = Largest(z, c);
        }
    }
    let best = tree_largest(local, own);

    // Sums of exp(z - largest), and of the rows that count: every row adds those up for itself.
    var sums = vec4(0.0);
    for (var c = lane; c < end; c += LANES) {
        sums.x += exp(logits[row * CLASSES + c] - best.value);
    }
    for (var other = lane; other < ROWS; other += LANES) {
        //~ softmax_cross_entropy_grad: f32(labels[other] != IGNORE) => 1.0
        sums.y += f32(labels[other] != IGNORE);
    }
    sums = tree_sum(local, sums, apart);

    if row >= ROWS {
        return;
    }
    let label = labels[row];
    //~ softmax_cross_entropy_grad: 0.0, label == IGNORE => 0.0, false
    let scale = select(dloss[0] / sums.y, 0.0, label == IGNORE);
    // Of the first label, of the second, and of the row.
    var weight = 1.0;
    var other_weight = 1.0;
    var both = 1.0;
    if WEIGHTED {
        //~ softmax_cross_entropy_grad: weights[min(label, CLASSES - 1u)] => 1.0
        weight = weights[min(label, CLASSES - 1u)];
        both = weight;
        if MIXED {
            other_weight = weights[min(others[row], CLASSES - 1u)];
            both = shares[row] * weight + (1.0 - shares[row]) * other_weight;
        }
    }
    for (var c = lane; c < end; c += LANES) {
        let at = row * CLASSES + c;
        var hot = weight * f32(c == label);
        if MIXED {
            //~ softmax_cross_entropy_grad: f32(c == others[row]) => 0.0
            hot = shares[row] * hot + (1.0 - shares[row]) * other_weight * f32(c == others[row]);
        }
        let share = both * SMOOTHING / f32(CLASSES) + (1.0 - SMOOTHING) * hot;
        dz[at] = scale * (both * exp(logits[at] - best.value) / sums.x - share);
    }
}
