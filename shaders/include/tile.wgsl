// The tiled matrix product Y [ROWS, COLUMNS] = A [ROWS, DEPTH] B [DEPTH, COLUMNS] behind matmul and
// the convolutions; src/ops/linear/tile.rs chooses the constants, the chapter "The tile product" of
// README.md explains it. The including shader says where A, B and Y lie in memory: locate_a(row),
// locate_b(column)  what it takes to find four rows of A, four columns of B; fetch_a(source, k)
// of A's four rows at depths k..k+4: four vectors along memory, which is along fetch_b(source, k)
// the depth if A_ALONG_DEPTH, else along the rows; likewise of B's columns; line_of(row)
// index in `y` of the first element of a row.
override ROWS: u32;
override COLUMNS: u32;
override DEPTH: u32;
// Whether A's and B's contiguous runs have multiples of four elements, so that whole vectors can be
// read.
override A_VECTORS: bool;
override B_VECTORS: bool;
// A workgroup computes so many rows and columns, an invocation 8 rows and 8 columns, or 4 columns
// if not WIDE.
override TILE_ROWS: u32;
override TILE_COLUMNS: u32;
override WIDE: bool;
override INVOCATIONS: u32;
// Vectors of workgroup memory: TILE_ROWS * STEP / 4 and TILE_COLUMNS * STEP / 4.
override LENGTH_A: u32;
override LENGTH_B: u32;
// The depth is cut into slices of this length, a multiple of STEP; workgroup z sums slice z %
// SLICES of product z / SLICES.
override SLICE: u32;
override SLICES: u32;

// What is gathered of a tile's rows, by columns, in `kept`: for every row of tiles two vectors of
// COLUMNS. Nothing; means and sums of squares; or, where Y is the gradient of a normalisation's
// output, sums for that of its input. Then `other` is that input, `bias` its means.
override GATHER: u32;

const MOMENTS = 1u;
const NORM_GRAD = 2u;

// Depths that are in workgroup memory at a time.
const STEP = 16u;
const LANES = vec4<u32>(0u, 1u, 2u, 3u);

@group(0) @binding(0) var<storage, read> a: array<vec4<Stored0>>;
@group(0) @binding(1) var<storage, read> b: array<vec4<Stored1>>;
@group(0) @binding(2) var<storage, read> bias: array<Stored2>;
// An entry point uses one of the two.
@group(0) @binding(3) var<storage, read_write> y: array<Stored3>;
@group(0) @binding(3) var<storage, read_write> y_vectors: array<vec4<Stored3>>;
// For the epilogue, likewise.
@group(0) @binding(4) var<storage, read> other: array<Stored4>;
@group(0) @binding(4) var<storage, read> other_vectors: array<vec4<Stored4>>;
@group(0) @binding(5) var<storage, read_write> kept: array<Stored5>;
@group(0) @binding(5) var<storage, read_write> kept_vectors: array<vec4<Stored5>>;

// Scales and then shifts: of the channels that A has, if it is SCALED, or for what is gathered.
@group(0) @binding(6) var<storage, read> scale_shift: array<vec4<Stored6>>;

// Which product this workgroup is about, of several that lie one after the other.
var<private> number: u32;

// [STEP, TILE_ROWS / 4] vectors of four rows, and the same for the columns.
var<workgroup> tile_a: array<vec4<f32>, LENGTH_A>;
var<workgroup> tile_b: array<vec4<f32>, LENGTH_B>;

// Elements `at` of A where `valid`, else 0. Where A has vectors, the four are one and the first
// speaks for all.
fn read_a(at: vec4<u32>, valid: vec4<bool>) -> vec4<f32> {
    var value = vec4<f32>();
    if A_VECTORS {
        if valid.x { value = vec4<f32>(a[at.x / 4u]); }
    } else {
        if valid.x { value.x = f32(a[at.x / 4u][at.x % 4u]); }
        if valid.y { value.y = f32(a[at.y / 4u][at.y % 4u]); }
        if valid.z { value.z = f32(a[at.z / 4u][at.z % 4u]); }
        if valid.w { value.w = f32(a[at.w / 4u][at.w % 4u]); }
    }
    return value;
}

struct Channels {
    scale: vec4<f32>,
    shift: vec4<f32>,
}

fn scale_or_shift(at: vec4<u32>) -> vec4<f32> {
    if A_VECTORS {
        return vec4<f32>(scale_shift[at.x / 4u]);
    }
    return vec4<f32>(
        f32(scale_shift[at.x / 4u][at.x % 4u]),
        f32(scale_shift[at.y / 4u][at.y % 4u]),
        f32(scale_shift[at.z / 4u][at.z % 4u]),
        f32(scale_shift[at.w / 4u][at.w % 4u]),
    );
}

// Of the channels, out of so many, that four elements of A are of.
fn channels_of(four: vec4<u32>, count: u32) -> Channels {
    if !SCALED {
        return Channels();
    }
    let channels = min(four, vec4<u32>(count - 1u));
    //~ conv2d: scale_or_shift(channels + count) => scale_or_shift(channels)
    return Channels(scale_or_shift(channels), scale_or_shift(channels + count));
}

// The same elements of A, normalised; what is beyond a border stays 0.
fn read_channels(at: vec4<u32>, valid: vec4<bool>, channels: Channels) -> vec4<f32> {
    let value = read_a(at, valid);
    if SCALED {
        // Where one place speaks for four, the others would only take up registers.
        let own = select(valid, valid.xxxx, A_VECTORS);
        //~ conv2d: channels.shift), own) => channels.shift), vec4<bool>(true))
        return select(vec4<f32>(), scaled(value, channels.scale, channels.shift), own);
    }
    return value;
}

fn read_b(at: vec4<u32>, valid: vec4<bool>) -> vec4<f32> {
    var value = vec4<f32>();
    if B_VECTORS {
        if valid.x { value = vec4<f32>(b[at.x / 4u]); }
    } else {
        if valid.x { value.x = f32(b[at.x / 4u][at.x % 4u]); }
        if valid.y { value.y = f32(b[at.y / 4u][at.y % 4u]); }
        if valid.z { value.z = f32(b[at.z / 4u][at.z % 4u]); }
        if valid.w { value.w = f32(b[at.w / 4u][at.w % 4u]); }
    }
    return value;
}

// The tiles are filled in blocks of 4 x 4 elements, numbered with A's first. Neighbours follow each
// other in memory: along the depth, or across it.
struct Place {
    // Which four of the tile's rows or columns.
    quad: u32,
    // Which four of the STEP depths.
    depth: u32,
}

fn place(block: u32, quads: u32, along_depth: bool) -> Place {
    if along_depth {
        return Place(block / (STEP / 4u), block % (STEP / 4u));
    }
    return Place(block % quads, block / quads);
}

fn place_a(block: u32) -> Place {
    return place(block, TILE_ROWS / 4u, A_ALONG_DEPTH);
}

fn place_b(block: u32) -> Place {
    return place(block - TILE_ROWS, TILE_COLUMNS / 4u, B_ALONG_DEPTH);
}

fn locate(block: u32, row: u32, column: u32) -> Source {
    if block < TILE_ROWS {
        return locate_a(row + 4u * place_a(block).quad);
    }
    return locate_b(column + 4u * place_b(block).quad);
}

// A block, as it lies in memory.
fn fetch(block: u32, source: Source, k: u32) -> mat4x4<f32> {
    if block < TILE_ROWS {
        return fetch_a(source, k + 4u * place_a(block).depth);
    }
    return fetch_b(source, k + 4u * place_b(block).depth);
}

// Spreads blocks that neighbours store at once over all memory banks.
fn swizzle(quad: u32, depth: u32, quads: u32) -> u32 {
    return quad ^ ((2u * depth) & (quads - 1u));
}

fn upright(block: mat4x4<f32>, along_depth: bool) -> mat4x4<f32> {
    if along_depth {
        return transpose(block);
    }
    return block;
}

fn put(block: u32, values: mat4x4<f32>) {
    if block < TILE_ROWS {
        let quads = TILE_ROWS / 4u;
        let place = place_a(block);
        let at = 4u * place.depth * quads + swizzle(place.quad, place.depth, quads);
        let lines = upright(values, A_ALONG_DEPTH);
        tile_a[at] = lines[0];
        tile_a[at + quads] = lines[1];
        tile_a[at + 2u * quads] = lines[2];
        tile_a[at + 3u * quads] = lines[3];
    } else {
        let quads = TILE_COLUMNS / 4u;
        let place = place_b(block);
        let at = 4u * place.depth * quads + swizzle(place.quad, place.depth, quads);
        let lines = upright(values, B_ALONG_DEPTH);
        tile_b[at] = lines[0];
        tile_b[at + quads] = lines[1];
        tile_b[at + 2u * quads] = lines[2];
        tile_b[at + 3u * quads] = lines[3];
    }
}

// Four rows and four columns each: rows r.. and r + TILE_ROWS / 2.., columns likewise.
struct Sums {
    top_left: mat4x4<f32>,
    top_right: mat4x4<f32>,
    bottom_left: mat4x4<f32>,
    bottom_right: mat4x4<f32>,
}

// sums + a' b; column i of the matrices is row i of the output.
fn outer(sums: mat4x4<f32>, a: vec4<f32>, b: vec4<f32>) -> mat4x4<f32> {
    return mat4x4<f32>(
        fma(vec4<f32>(a.x), b, sums[0]),
        fma(vec4<f32>(a.y), b, sums[1]),
        fma(vec4<f32>(a.z), b, sums[2]),
        fma(vec4<f32>(a.w), b, sums[3]),
    );
}

// Adds the products of a depth.
fn multiply(sums: ptr<function, Sums>, depth: u32, top: u32, bottom: u32, left: u32, right: u32) {
    let line_a = depth * (TILE_ROWS / 4u);
    let line_b = depth * (TILE_COLUMNS / 4u);
    let above = tile_a[line_a + top];
    let below = tile_a[line_a + bottom];
    let before = tile_b[line_b + left];
    (*sums).top_left = outer((*sums).top_left, above, before);
    (*sums).bottom_left = outer((*sums).bottom_left, below, before);
    if WIDE {
        let behind = tile_b[line_b + right];
        (*sums).top_right = outer((*sums).top_right, above, behind);
        (*sums).bottom_right = outer((*sums).bottom_right, below, behind);
    }
}

// Adds the products of the four depths that lie in one order.
fn multiply_four(sums: ptr<function, Sums>, depth: u32, position: Position) {
    let top = swizzle(position.row_quad, depth, TILE_ROWS / 4u);
    let bottom = swizzle(position.row_quad + TILE_ROWS / 8u, depth, TILE_ROWS / 4u);
    let left = swizzle(position.column_quad, depth, TILE_COLUMNS / 4u);
    let right = swizzle(position.column_quad + TILE_COLUMNS / 8u, depth, TILE_COLUMNS / 4u);
    multiply(sums, 4u * depth, top, bottom, left, right);
    multiply(sums, 4u * depth + 1u, top, bottom, left, right);
    multiply(sums, 4u * depth + 2u, top, bottom, left, right);
    multiply(sums, 4u * depth + 3u, top, bottom, left, right);
}

// The first row and column of the tile, and the invocation's first within it in fours.
struct Position {
    row: u32,
    column: u32,
    row_quad: u32,
    column_quad: u32,
}

// Invocations that have the same rows.
fn abreast() -> u32 {
    return select(TILE_COLUMNS / 4u, TILE_COLUMNS / 8u, WIDE);
}

fn position(group: vec3<u32>, groups: vec3<u32>, invocation: u32) -> Position {
    let tile = group.y * groups.x + group.x;
    let across = (COLUMNS + TILE_COLUMNS - 1u) / TILE_COLUMNS;
    return Position(
        tile / across * TILE_ROWS,
        tile % across * TILE_COLUMNS,
        invocation / abreast(),
        invocation % abreast(),
    );
}

// One slice of a tile. Each invocation fills up to three blocks a step. Nothing is fetched ahead:
// the registers for it would leave room for half as many workgroups, and those hide more.
fn product(position: Position, slice: u32, invocation: u32) -> Sums {
    let blocks = TILE_ROWS + TILE_COLUMNS;
    let second = invocation + INVOCATIONS;
    let third = invocation + 2u * INVOCATIONS;
    let source_1 = locate(invocation, position.row, position.column);
    let source_2 = locate(second, position.row, position.column);
    let source_3 = locate(third, position.row, position.column);
    var sums = Sums();
    let end = min(slice * SLICE + SLICE, DEPTH);
    for (var k = slice * SLICE; k < end; k += STEP) {
        if invocation < blocks { put(invocation, fetch(invocation, source_1, k)); }
        if second < blocks { put(second, fetch(second, source_2, k)); }
        if third < blocks { put(third, fetch(third, source_3, k)); }
        workgroupBarrier();
        // No loop: not every compiler unrolls one.
        multiply_four(&sums, 0u, position);
        multiply_four(&sums, 1u, position);
        multiply_four(&sums, 2u, position);
        multiply_four(&sums, 3u, position);
        workgroupBarrier();
    }
    return sums;
}

fn shift_of(at: vec4<u32>) -> vec4<f32> {
    return vec4<f32>(vec4(bias[at.x], bias[at.y], bias[at.z], bias[at.w]));
}

fn shift(column: u32) -> vec4<f32> {
    if !BIAS {
        return vec4<f32>();
    }
    return shift_of(min(column + LANES, vec4<u32>(COLUMNS - 1u)));
}

fn store_vector(row: u32, column: u32, slice: u32, value: vec4<f32>) {
    if row < ROWS {
        //~ matmul: line_of(row, slice) + column => line_of(row, 0u) + column
        let at = (line_of(row, slice) + column) / 4u;
        if GATHER == NORM_GRAD {
            y_vectors[at] = vec4<Stored3>(value);
            return;
        }
        var beside = vec4<f32>();
        if OTHER != 0u {
            //~ conv2d_input_grad: (other_vectors[at]) => (other_vectors[0])
            beside = vec4<f32>(other_vectors[at]);
        }
        let z = before_activation(value, shift(column), beside);
        if KEPT {
            //~ conv2d: (z) => (value)
            kept_vectors[at] = vec4<Stored5>(z);
        }
        y_vectors[at] = vec4<Stored3>(after_activation(z, beside));
    }
}

fn store_vectors(row: u32, column: u32, slice: u32, values: mat4x4<f32>) {
    if column < COLUMNS {
        store_vector(row, column, slice, values[0]);
        store_vector(row + 1u, column, slice, values[1]);
        store_vector(row + 2u, column, slice, values[2]);
        store_vector(row + 3u, column, slice, values[3]);
    }
}

// Of an invocation's columns.
struct Across {
    left: vec4<f32>,
    right: vec4<f32>,
}

// Sums over the tile's rows, as a tree. The memory is that of the operands, which have been used.
fn over_rows(own: Across, invocation: u32) -> Across {
    tile_a[invocation] = own.left;
    if WIDE { tile_a[INVOCATIONS + invocation] = own.right; }
    workgroupBarrier();
    for (var half = INVOCATIONS / 2u; half >= abreast(); half /= 2u) {
        if invocation < half {
            //~ conv2d: tile_a[invocation] += tile_a[invocation + half] => tile_a[invocation] += tile_a[half]
            tile_a[invocation] += tile_a[invocation + half];
            if WIDE { tile_a[INVOCATIONS + invocation] += tile_a[INVOCATIONS + invocation + half]; }
        }
        workgroupBarrier();
    }
    let first = invocation % abreast();
    var sums = Across(tile_a[first], vec4<f32>());
    if WIDE { sums.right = tile_a[INVOCATIONS + first]; }
    workgroupBarrier();
    return sums;
}

fn put_gathered(tile: Position, column: u32, first: vec4<f32>, second: vec4<f32>) {
    if column < COLUMNS {
        let block = tile.row / TILE_ROWS;
        let blocks = (ROWS + TILE_ROWS - 1u) / TILE_ROWS;
        kept_vectors[(block * COLUMNS + column) / 4u] = vec4<Stored5>(first);
        //~ conv2d_input_grad: (blocks + block) * COLUMNS => block * COLUMNS
        kept_vectors[((blocks + block) * COLUMNS + column) / 4u] = vec4<Stored5>(second);
    }
}

// 1 for each of four rows that there is.
fn there(row: u32) -> vec4<f32> {
    return select(vec4<f32>(), vec4<f32>(1.0), vec4<u32>(row) + LANES < vec4<u32>(ROWS));
}

fn squares(rows: mat4x4<f32>, mean: vec4<f32>, there: vec4<f32>) -> vec4<f32> {
    let a = rows[0] - mean;
    let b = rows[1] - mean;
    let c = rows[2] - mean;
    let d = rows[3] - mean;
    //~ conv2d: d * d * there.w => d * d
    return a * a * there.x + b * b * there.y + c * c * there.z + d * d * there.w;
}

// First the means of the tile, then the squares of the deviations from them.
fn gather_moments(tile: Position, sums: Sums, invocation: u32) {
    let above = there(tile.row + 4u * tile.row_quad);
    let below = there(tile.row + TILE_ROWS / 2u + 4u * tile.row_quad);
    let left = sums.top_left * above + sums.bottom_left * below;
    let right = sums.top_right * above + sums.bottom_right * below;
    let total = over_rows(Across(left, right), invocation);
    let count = f32(min(TILE_ROWS, ROWS - tile.row));
    let mean = Across(total.left / count, total.right / count);
    let of_left = squares(sums.top_left, mean.left, above) + squares(sums.bottom_left, mean.left, below);
    let of_right = squares(sums.top_right, mean.right, above) + squares(sums.bottom_right, mean.right, below);
    let around = over_rows(Across(of_left, of_right), invocation);
    if invocation < abreast() {
        let column = tile.column + 4u * tile.column_quad;
        //~ conv2d: mean.left + shift(column) => mean.left
        put_gathered(tile, column, mean.left + shift(column), around.left);
        if WIDE {
            let column = column + TILE_COLUMNS / 2u;
            put_gathered(tile, column, mean.right + shift(column), around.right);
        }
    }
}

// Sums of g (x - mean), and of g.
struct GradientSums {
    products: vec4<f32>,
    sum: vec4<f32>,
}

fn gradient_of_four(rows: mat4x4<f32>, row: u32, column: u32) -> GradientSums {
    var sums = GradientSums();
    if column < COLUMNS {
        let scale = vec4<f32>(scale_shift[column / 4u]);
        let shift = vec4<f32>(scale_shift[(COLUMNS + column) / 4u]);
        let mean = shift_of(column + LANES);
        for (var i = 0u; i < 4u; i++) {
            if row + i < ROWS {
                let x = vec4<f32>(other_vectors[(line_of(row + i, 0u) + column) / 4u]);
                //~ conv2d_input_grad: through(rows[i], fma(x, scale, shift)) => rows[i]
                let g = through(rows[i], fma(x, scale, shift));
                sums.products += g * (x - mean);
                sums.sum += g;
            }
        }
    }
    return sums;
}

fn gather_gradient(tile: Position, sums: Sums, invocation: u32) {
    let row = tile.row + 4u * tile.row_quad;
    let column = tile.column + 4u * tile.column_quad;
    let a = gradient_of_four(sums.top_left, row, column);
    let b = gradient_of_four(sums.bottom_left, row + TILE_ROWS / 2u, column);
    var c = GradientSums();
    var d = GradientSums();
    if WIDE {
        c = gradient_of_four(sums.top_right, row, column + TILE_COLUMNS / 2u);
        d = gradient_of_four(sums.bottom_right, row + TILE_ROWS / 2u, column + TILE_COLUMNS / 2u);
    }
    let products = over_rows(Across(a.products + b.products, c.products + d.products), invocation);
    let sum = over_rows(Across(a.sum + b.sum, c.sum + d.sum), invocation);
    if invocation < abreast() {
        put_gathered(tile, column, products.left, sum.left);
        if WIDE { put_gathered(tile, column + TILE_COLUMNS / 2u, products.right, sum.right); }
    }
}

// For rows of a multiple of four columns.
@compute @workgroup_size(INVOCATIONS)
fn vectors(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) invocation: u32,
) {
    number = group.z / SLICES;
    let slice = group.z % SLICES;
    let tile = position(group, groups, invocation);
    let sums = product(tile, slice, invocation);
    let row = tile.row + 4u * tile.row_quad;
    let column = tile.column + 4u * tile.column_quad;
    store_vectors(row, column, slice, sums.top_left);
    store_vectors(row + TILE_ROWS / 2u, column, slice, sums.bottom_left);
    if WIDE {
        store_vectors(row, column + TILE_COLUMNS / 2u, slice, sums.top_right);
        store_vectors(row + TILE_ROWS / 2u, column + TILE_COLUMNS / 2u, slice, sums.bottom_right);
    }
    if GATHER == MOMENTS {
        gather_moments(tile, sums, invocation);
    }
    if GATHER == NORM_GRAD {
        gather_gradient(tile, sums, invocation);
    }
}

fn store_scalar(row: u32, column: u32, slice: u32, value: vec4<f32>) {
    if row < ROWS {
        let at = line_of(row, slice) + column;
        var beside = vec4<f32>();
        if OTHER != 0u && column < COLUMNS {
            let places = at + min(LANES, vec4<u32>(COLUMNS - 1u - column));
            //~ conv2d_input_grad: other[places.y] => other[places.x]
            let four = vec4(other[places.x], other[places.y], other[places.z], other[places.w]);
            beside = vec4<f32>(four);
        }
        let z = before_activation(value, shift(column), beside);
        let result = after_activation(z, beside);
        if column < COLUMNS { put_scalar(at, z.x, result.x); }
        if column + 1u < COLUMNS { put_scalar(at + 1u, z.y, result.y); }
        if column + 2u < COLUMNS { put_scalar(at + 2u, z.z, result.z); }
        if column + 3u < COLUMNS { put_scalar(at + 3u, z.w, result.w); }
    }
}

fn put_scalar(at: u32, z: f32, result: f32) {
    if KEPT {
        //~ conv2d: (z) => (result)
        kept[at] = Stored5(z);
    }
    y[at] = Stored3(result);
}

fn store_scalars(row: u32, column: u32, slice: u32, values: mat4x4<f32>) {
    store_scalar(row, column, slice, values[0]);
    store_scalar(row + 1u, column, slice, values[1]);
    store_scalar(row + 2u, column, slice, values[2]);
    store_scalar(row + 3u, column, slice, values[3]);
}

// For any number of columns: two invocations may not write to one vector.
@compute @workgroup_size(INVOCATIONS)
fn scalars(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) invocation: u32,
) {
    number = group.z / SLICES;
    let slice = group.z % SLICES;
    let tile = position(group, groups, invocation);
    let sums = product(tile, slice, invocation);
    let row = tile.row + 4u * tile.row_quad;
    let column = tile.column + 4u * tile.column_quad;
    store_scalars(row, column, slice, sums.top_left);
    store_scalars(row + TILE_ROWS / 2u, column, slice, sums.bottom_left);
    if WIDE {
        store_scalars(row, column + TILE_COLUMNS / 2u, slice, sums.top_right);
        store_scalars(row + TILE_ROWS / 2u, column + TILE_COLUMNS / 2u, slice, sums.bottom_right);
    }
}
