//!include index

// c = f(a, b), elementwise; one invocation an element. An operand covers the output with a value
// for each element (0), a row for all rows (1), or one value (2).
override FUNCTION: u32;
override COLUMNS: u32;
override COVER_A: u32;
override COVER_B: u32;
override LENGTH: u32;

@group(0) @binding(0) var<storage, read> a: array<Stored0>;
@group(0) @binding(1) var<storage, read> b: array<Stored1>;
@group(0) @binding(2) var<storage, read_write> c: array<Stored2>;

// The number of the element of an operand that belongs to element i of the output.
fn covering(i: u32, cover: u32) -> u32 {
    if cover == 0u {
        return i;
    }
    //~ mul: i % COLUMNS => i / COLUMNS
    return select(0u, i % COLUMNS, cover == 1u);
}

fn function_of(x: f32, y: f32) -> f32 {
    switch FUNCTION {
        //~ add: return x + y; => return x - y;
        case 0u: { return x + y; }
        //~ sub: return x - y; => return y - x;
        case 1u: { return x - y; }
        //~ mul: return x * y; => return x;
        case 2u: { return x * y; }
        //~ div: return x / y; => return x * y;
        case 3u: { return x / y; }
        //~ min: return select(x, y, y < x); => return x;
        case 4u: { return select(x, y, y < x); }
        //~ max: return select(x, y, y > x); => return x;
        case 5u: { return select(x, y, y > x); }
        //~ less: 0.5 * f32(x == y) => f32(x == y)
        case 6u: { return f32(x < y) + 0.5 * f32(x == y); }
        //~ equal: default: { return f32(x == y); => default: { return f32(x != y);
        default: { return f32(x == y); }
    }
}

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = linear_index(id, groups, 256u);
    if i < LENGTH {
        c[i] = Stored2(function_of(f32(a[covering(i, COVER_A)]), f32(b[covering(i, COVER_B)])));
    }
}
