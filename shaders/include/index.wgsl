// The number of an invocation in a grid that `grid` of src/graph/op/dispatch.rs folded into two
// dimensions.
fn linear_index(id: vec3<u32>, groups: vec3<u32>, group_size: u32) -> u32 {
    return id.y * groups.x * group_size + id.x;
}
