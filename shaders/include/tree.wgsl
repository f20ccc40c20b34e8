// Sums over the 256 invocations of a workgroup, always in the same order: as a tree.
var<workgroup> tree: array<Value, 256>;

// Over the invocations whose number leaves the same remainder by `apart`, a power of two. All
// invocations must call it.
fn tree_sum(local: u32, value: Value, apart: u32) -> Value {
    // Of an earlier sum, everyone must have read the result.
    workgroupBarrier();
    tree[local] = value;
    workgroupBarrier();
    for (var half = 128u; half >= apart; half /= 2u) {
        if local < half {
            //~ sum_rows: tree[local] += tree[local + half] => tree[local] = tree[local + half]
            tree[local] += tree[local + half];
        }
        workgroupBarrier();
    }
    return tree[local % apart];
}
