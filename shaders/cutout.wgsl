//!include index
//!include rng
//!include augment

// Fills a square of every image with the mean colour, 0; one invocation a pixel of a square.
override LENGTH: u32;
override SIZE: u32;
override SIDE: u32;

@group(0) @binding(0) var<storage, read> step: array<u32>;
@group(0) @binding(1) var<storage, read_write> x: array<Stored1>;

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = linear_index(id, groups, 256u);
    if i >= LENGTH {
        return;
    }
    let n = i / (SIDE * SIDE);
    let numbers = image_draw(n, step[0], 1u);
    // Of what lies outside of the image, negative places too, which are large without a sign.
    let row = below(numbers.x, SIZE) - SIDE / 2u + i / SIDE % SIDE;
    //~ cutout: - SIDE / 2u + i % SIDE => + i % SIDE
    let column = below(numbers.y, SIZE) - SIDE / 2u + i % SIDE;
    //~ cutout: row < SIZE && =>
    if row < SIZE && column < SIZE {
        let pixel = (n * SIZE + row) * SIZE + column;
        x[3u * pixel] = Stored1(0.0);
        x[3u * pixel + 1u] = Stored1(0.0);
        x[3u * pixel + 2u] = Stored1(0.0);
    }
}
