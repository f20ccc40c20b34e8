// The product by register tiles: an invocation computes 4 x 4 sums, which stay in its registers, of
// the 64 x 64 of its workgroup. For 16 multiplications and additions it reads eight elements from
// workgroup memory, where it read two for one; and memory gives a quarter of what it gave.
const SIDE = 64u;
// Depths that are in workgroup memory at a time.
const STEP = 16u;
const INVOCATIONS = 256u;

// [STEP, SIDE]: what is used together lies side by side.
var<workgroup> tile_a: array<f32, 1024>;
var<workgroup> tile_b: array<f32, 1024>;

fn store_row(row: u32, column: u32, sums: vec4<f32>) {
    store(row, column, sums.x);
    store(row, column + 16u, sums.y);
    store(row, column + 32u, sums.z);
    store(row, column + 48u, sums.w);
}

@compute @workgroup_size(16, 16)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_id) at: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
) {
    let row = group.y * SIDE;
    let column = group.x * SIDE;
    // Rows 16 apart, and columns likewise: neighbours work on neighbouring elements.
    var sums = mat4x4<f32>();
    for (var k = 0u; k < DEPTH; k += STEP) {
        for (var i = index; i < SIDE * STEP; i += INVOCATIONS) {
            tile_a[i % STEP * SIDE + i / STEP] = fetch_a(row + i / STEP, k + i % STEP);
            tile_b[i] = fetch_b(k + i / SIDE, column + i % SIDE);
        }
        workgroupBarrier();
        for (var step = 0u; step < STEP; step++) {
            let a = step * SIDE + at.y;
            let b = step * SIDE + at.x;
            let columns = vec4(tile_b[b], tile_b[b + 16u], tile_b[b + 32u], tile_b[b + 48u]);
            sums[0] += tile_a[a] * columns;
            sums[1] += tile_a[a + 16u] * columns;
            sums[2] += tile_a[a + 32u] * columns;
            sums[3] += tile_a[a + 48u] * columns;
        }
        workgroupBarrier();
    }
    store_row(row + at.y, column + at.x, sums[0]);
    store_row(row + at.y + 16u, column + at.x, sums[1]);
    store_row(row + at.y + 32u, column + at.x, sums[2]);
    store_row(row + at.y + 48u, column + at.x, sums[3]);
}
