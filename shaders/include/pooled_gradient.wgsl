// Of images that were pooled over windows of 2x2 afterwards.
override HEIGHT: u32;
override WIDTH: u32;

// What value `at` of x receives: its window's dy, if it is the first largest and passes the
// activation.
fn activation_grad(at: u32, affine: Affine) -> Value {
    let column = at % COLUMNS;
    let w = at / COLUMNS % WIDTH;
    let h = at / COLUMNS / WIDTH % HEIGHT;
    let n = at / COLUMNS / WIDTH / HEIGHT;
    // A last odd row or column lies in no window.
    let inside = (h / 2u < HEIGHT / 2u) & (w / 2u < WIDTH / 2u);
    let p = min(h / 2u, HEIGHT / 2u - 1u);
    let q = min(w / 2u, WIDTH / 2u - 1u);
    let first = ((n * HEIGHT + 2u * p) * WIDTH + 2u * q) * COLUMNS + column;
    let own = normalise(x[at], affine.scale, affine.shift);
    let mine = activate(own);
    // The activation is none or a cut.
    //~ batch_norm_max_pool_grad: & Bools(inside) =>
    //~ batch_norm_max_pool_grad: (through(Value(1.0), own) > Value(0.0)) => Bools(true)
    var receives = (through(Value(1.0), own) > Value(0.0)) & Bools(inside);
    for (var tap = 0u; tap < 4u; tap++) {
        let value = activate(normalise(x[first + (tap / 2u * WIDTH + tap % 2u) * COLUMNS], affine.scale, affine.shift));
        let before = tap < h % 2u * 2u + w % 2u;
        //~ batch_norm_max_pool_grad: mine > value, Bools(before) => mine > value, Bools(!before)
        receives = receives & select(mine >= value, mine > value, Bools(before));
    }
    let out = ((n * (HEIGHT / 2u) + p) * (WIDTH / 2u) + q) * COLUMNS + column;
    return select(Value(0.0), dy[out], receives);
}
