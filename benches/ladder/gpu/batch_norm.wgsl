// y = max(0, gamma (x - mean) / sqrt(variance + EPSILON) + beta) for x [ROWS, CHANNELS].
override ROWS: u32;
override CHANNELS: u32;
override EPSILON: f32;

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> gamma: array<f32>;
@group(0) @binding(2) var<storage, read> beta: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

fn normalise(row: u32, c: u32, mean: f32, variance: f32) {
    let at = row * CHANNELS + c;
    y[at] = max((x[at] - mean) * gamma[c] * inverseSqrt(variance + EPSILON) + beta[c], 0.0);
}

// An invocation computes a channel, in three passes over its rows: as many invocations as there are
// channels, where a GPU wants a hundred thousand.
@compute @workgroup_size(32)
fn naive(@builtin(global_invocation_id) id: vec3<u32>) {
    let c = id.x;
    if c >= CHANNELS {
        return;
    }
    var mean = 0.0;
    for (var row = 0u; row < ROWS; row++) {
        mean += x[row * CHANNELS + c];
    }
    mean /= f32(ROWS);
    var variance = 0.0;
    for (var row = 0u; row < ROWS; row++) {
        let away = x[row * CHANNELS + c] - mean;
        variance += away * away;
    }
    variance /= f32(ROWS);
    for (var row = 0u; row < ROWS; row++) {
        normalise(row, c, mean, variance);
    }
}

var<workgroup> sums: array<f32, 256>;

// The sum of what all invocations have, as a tree.
fn total(invocation: u32, value: f32) -> f32 {
    sums[invocation] = value;
    for (var half = 128u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if invocation < half {
            sums[invocation] += sums[invocation + half];
        }
    }
    let sum = workgroupUniformLoad(&sums[0]);
    return sum;
}

// A workgroup computes a channel: its invocations share out the rows, and join their sums in a
// tree. 256 times as many invocations; neighbours still read elements that lie CHANNELS apart.
@compute @workgroup_size(256)
fn tree(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) invocation: u32) {
    let c = group.x;
    var sum = 0.0;
    for (var row = invocation; row < ROWS; row += 256u) {
        sum += x[row * CHANNELS + c];
    }
    let mean = total(invocation, sum) / f32(ROWS);
    sum = 0.0;
    for (var row = invocation; row < ROWS; row += 256u) {
        let away = x[row * CHANNELS + c] - mean;
        sum += away * away;
    }
    let variance = total(invocation, sum) / f32(ROWS);
    for (var row = invocation; row < ROWS; row += 256u) {
        normalise(row, c, mean, variance);
    }
}
