// The product by workgroup tiles: 16 x 16 invocations load a square of a and one of b into the
// memory that they share, an element each, and use it sixteen times. Memory gives a sixteenth of
// what it gave; workgroup memory gives two elements for each multiplication and addition.
const SIDE = 16u;

var<workgroup> tile_a: array<f32, 256>;
var<workgroup> tile_b: array<f32, 256>;

@compute @workgroup_size(16, 16)
fn main(
    @builtin(global_invocation_id) id: vec3<u32>,
    @builtin(local_invocation_id) at: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
) {
    var sum = 0.0;
    for (var k = 0u; k < DEPTH; k += SIDE) {
        tile_a[index] = fetch_a(id.y, k + at.x);
        tile_b[index] = fetch_b(k + at.y, id.x);
        workgroupBarrier();
        for (var step = 0u; step < SIDE; step++) {
            sum += tile_a[at.y * SIDE + step] * tile_b[step * SIDE + at.x];
        }
        workgroupBarrier();
    }
    store(id.y, id.x, sum);
}
