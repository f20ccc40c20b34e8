// dx = dy where the activation let x through, else 0, elementwise; one invocation a vec4.
override LENGTH: u32;

@group(0) @binding(0) var<storage, read> y: array<Value>;
@group(0) @binding(1) var<storage, read_write> dx: array<Value>;

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = linear_index(id, groups, 256u);
    if i < LENGTH {
        dx[i] = select(Value(0.0), dx[i], passes(y[i]));
    }
}
