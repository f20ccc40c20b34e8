//!include index

// y[r, TO + i] = x[r, FROM + i] for the first COPIED i: part of every row; one invocation an
// element.
override COPIED: u32;
override FROM: u32;
override ROW_FROM: u32;
override TO: u32;
override ROW_TO: u32;
override LENGTH: u32;

@group(0) @binding(0) var<storage, read> x: array<Stored0>;
@group(0) @binding(1) var<storage, read_write> y: array<Stored1>;

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = linear_index(id, groups, 256u);
    if i < LENGTH {
        let row = i / COPIED;
        //~ concat: row * ROW_TO + TO => row * ROW_TO
        //~ slice: row * ROW_FROM + FROM => row * ROW_FROM
        y[row * ROW_TO + TO + i % COPIED] = Stored1(x[row * ROW_FROM + FROM + i % COPIED]);
    }
}
