// The product, naive: an invocation computes one sum, and reads a row of a and a column of b for
// it. For each multiplication and addition two elements come from memory, or from a cache.
@compute @workgroup_size(16, 16)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    var sum = 0.0;
    for (var k = 0u; k < DEPTH; k++) {
        sum += fetch_a(id.y, k) * fetch_b(k, id.x);
    }
    store(id.y, id.x, sum);
}
