//!include vec4
//!include tree
//!include softmax

// -sum over c  t[c] log softmax(z)[c] of every row, by the weight of its class, then the totals
// over rows.
@group(0) @binding(0) var<storage, read> logits: array<f32>;
@group(0) @binding(1) var<storage, read> labels: array<u32>;
// Of the second label, and the share of the first.
@group(0) @binding(2) var<storage, read> others: array<u32>;
@group(0) @binding(3) var<storage, read> shares: array<f32>;
// Of every row: loss, whether the largest logit lies at the label, whether the row counts, whether
// it is broken.
@group(0) @binding(4) var<storage, read_write> results: array<vec4<f32>>;
// Of the classes.
@group(0) @binding(5) var<storage, read> weights: array<f32>;

@group(0) @binding(0) var<storage, read_write> rows: array<vec4<f32>>;
// Floats, as bits: NaN is written where no shader could compute it.
@group(0) @binding(1) var<storage, read_write> loss: array<u32>;
@group(0) @binding(2) var<storage, read_write> totals: array<u32>;

const NAN_BITS = 0x7fc00000u;

// On bits, because a compiler may assume that this never happens.
fn is_finite(v: f32) -> bool {
    return (bitcast<u32>(v) & 0x7f800000u) != 0x7f800000u;
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let apart = 256u / LANES;
    let row = group.x * apart + local % apart;
    let lane = local / apart;
    let end = select(0u, CLASSES, row < ROWS);

    var own = Largest(-3.4028234663852886e38, CLASSES);
    //~ softmax_cross_entropy: c += LANES => c += 2u * LANES
    for (var c = lane; c < end; c += LANES) {
        let z = logits[row * CLASSES + c];
        if z > own.value {
            own = Largest(z, c);
        }
    }
    let best = tree_largest(local, own);

    // Sums of exp(z - largest), of z - largest, and of logits that are not finite.
    var sums = vec4(0.0);
    for (var c = lane; c < end; c += LANES) {
        let z = logits[row * CLASSES + c];
        sums += vec4(exp(z - best.value), z - best.value, f32(!is_finite(z)), 0.0);
    }
    sums = tree_sum(local, sums, apart);

    if lane == 0u && row < ROWS {
        let label = labels[row];
        var known = label < CLASSES;
        var main_label = label;
        let log_total = log(sums.x);
        var log_own = logits[row * CLASSES + min(label, CLASSES - 1u)] - best.value - log_total;
        var weight = 1.0;
        if WEIGHTED {
            //~ softmax_cross_entropy: weights[min(label, CLASSES - 1u)] => 1.0
            weight = weights[min(label, CLASSES - 1u)];
            log_own *= weight;
        }
        if MIXED {
            let other = others[row];
            known = known && other < CLASSES;
            var log_other = logits[row * CLASSES + min(other, CLASSES - 1u)] - best.value - log_total;
            if WEIGHTED {
                let other_weight = weights[min(other, CLASSES - 1u)];
                log_other *= other_weight;
                weight = shares[row] * weight + (1.0 - shares[row]) * other_weight;
            }
            //~ softmax_cross_entropy: (1.0 - shares[row]) * log_other => log_other
            log_own = shares[row] * log_own + (1.0 - shares[row]) * log_other;
            //~ softmax_cross_entropy: shares[row] < 0.5 => false
            main_label = select(label, other, shares[row] < 0.5);
        }
        let log_mean = sums.y / f32(CLASSES) - log_total;
        var result = -(1.0 - SMOOTHING) * log_own;
        if SMOOTHING > 0.0 {
            //~ softmax_cross_entropy: weight * log_mean => log_mean
            result -= SMOOTHING * weight * log_mean;
        }
        let broken = sums.z > 0.0 || !known;
        let counts = vec4(select(result, 0.0, broken), f32(best.at == main_label), 1.0, f32(broken));
        //~ softmax_cross_entropy: label == IGNORE => false
        results[row] = select(counts, vec4(0.0), label == IGNORE);
    }
}

@compute @workgroup_size(256)
fn total(@builtin(local_invocation_index) local: u32) {
    var sums = vec4(0.0);
    //~ softmax_cross_entropy: row += 256u => row += 512u
    for (var row = local; row < ROWS; row += 256u) {
        sums += rows[row];
    }
    sums = tree_sum(local, sums, 1u);
    if local == 0u {
        let broken = sums.w > 0.0;
        loss[0] = select(bitcast<u32>(sums.x / max(sums.z, 1.0)), NAN_BITS, broken || sums.z == 0.0);
        totals[0] = select(bitcast<u32>(sums.x), NAN_BITS, broken);
        totals[1] = bitcast<u32>(sums.y);
        totals[2] = bitcast<u32>(sums.z);
    }
}
