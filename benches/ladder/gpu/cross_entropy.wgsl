// loss = mean of log(sum of exp(z)) - z[label] over rows of logits z [ROWS, CLASSES].
override ROWS: u32;
override CLASSES: u32;

@group(0) @binding(0) var<storage, read> z: array<f32>;
@group(0) @binding(1) var<storage, read> labels: array<u32>;
@group(0) @binding(2) var<storage, read_write> losses: array<f32>;

// An invocation computes a row: its neighbours read elements that lie CLASSES apart.
@compute @workgroup_size(64)
fn naive(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= ROWS {
        return;
    }
    let row = id.x * CLASSES;
    var largest = z[row];
    for (var c = 1u; c < CLASSES; c++) {
        largest = max(largest, z[row + c]);
    }
    var powers = 0.0;
    for (var c = 0u; c < CLASSES; c++) {
        powers += exp(z[row + c] - largest);
    }
    losses[id.x] = log(powers) + largest - z[row + labels[id.x]];
}

var<workgroup> shares: array<f32, 64>;

// A workgroup computes a row: its invocations read it side by side, and join what they have in
// trees.
@compute @workgroup_size(64)
fn tree(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) invocation: u32) {
    let row = group.x * CLASSES;
    var largest = z[row];
    for (var c = invocation; c < CLASSES; c += 64u) {
        largest = max(largest, z[row + c]);
    }
    shares[invocation] = largest;
    for (var half = 32u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if invocation < half {
            shares[invocation] = max(shares[invocation], shares[invocation + half]);
        }
    }
    largest = workgroupUniformLoad(&shares[0]);
    var powers = 0.0;
    for (var c = invocation; c < CLASSES; c += 64u) {
        powers += exp(z[row + c] - largest);
    }
    shares[invocation] = powers;
    for (var half = 32u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if invocation < half {
            shares[invocation] += shares[invocation + half];
        }
    }
    if invocation == 0u {
        losses[group.x] = log(shares[0]) + largest - z[row + labels[group.x]];
    }
}
