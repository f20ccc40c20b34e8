//!include vec4 | vec1
//!include index

// dx[n, p, q, c] = dy[n, c] / (H W); one invocation a value of dx.
override LENGTH: u32;
// Values of a pixel.
override COLUMNS: u32;
// Of an image.
override PIXELS: u32;

@group(0) @binding(0) var<storage, read> dy: array<Value>;
@group(0) @binding(1) var<storage, read_write> dx: array<Value>;

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = linear_index(id, groups, 256u);
    if i < LENGTH {
        let image = i / (COLUMNS * PIXELS);
        //~ global_average_pool_grad: i % COLUMNS => 0u
        dx[i] = dy[image * COLUMNS + i % COLUMNS] / f32(PIXELS);
    }
}
