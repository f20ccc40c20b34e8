//!include vec4 | vec1
//!include index
//!include place

// Bilinear enlargement; one invocation a value of y.
override LENGTH: u32;
override HEIGHT: u32;
override WIDTH: u32;
// Values of a pixel.
override COLUMNS: u32;
override OUT_HEIGHT: u32;
override OUT_WIDTH: u32;

@group(0) @binding(0) var<storage, read> x: array<StoredValue0>;
@group(0) @binding(1) var<storage, read_write> y: array<StoredValue1>;

// Between which two pixels of a line a pixel's centre lies, and how far from the first to the
// second.
struct Neighbours {
    first: u32,
    second: u32,
    share: f32,
}

fn neighbours(out: u32, out_size: u32, size: u32) -> Neighbours {
    //~ resize: + 0.5) * => ) *
    let centre = (f32(out) + 0.5) * (f32(size) / f32(out_size)) - 0.5;
    let position = clamp(centre, 0.0, f32(size - 1u));
    let first = u32(position);
    return Neighbours(first, min(first + 1u, size - 1u), position - f32(first));
}

// Between two pixels of a row of x, in the image and the channel of `out`.
fn across(out: Place, row: u32, columns: Neighbours) -> Value {
    let left = Value(x[index_of(Place(out.n, row, columns.first, out.column), HEIGHT, WIDTH)]);
    let right = Value(x[index_of(Place(out.n, row, columns.second, out.column), HEIGHT, WIDTH)]);
    return left + (right - left) * columns.share;
}

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = linear_index(id, groups, 256u);
    if i >= LENGTH {
        return;
    }
    let out = place_of(i, OUT_HEIGHT, OUT_WIDTH);
    let rows = neighbours(out.row, OUT_HEIGHT, HEIGHT);
    let columns = neighbours(out.pixel, OUT_WIDTH, WIDTH);
    let upper = across(out, rows.first, columns);
    let lower = across(out, rows.second, columns);
    //~ resize: rows.share => columns.share
    y[i] = StoredValue1(upper + (lower - upper) * rows.share);
}
