// Of images that were pooled over windows of 2x2 afterwards.
override HEIGHT: u32;
override WIDTH: u32;

// What value `at` of x receives: its window's dy, if it is the first largest and passes the
// activation.
fn activation_grad(at: u32, affine: Affine) -> Value {
    let place = place_of(at, HEIGHT, WIDTH);
    // A last odd row or column lies in no window.
    let inside = (place.row / 2u < HEIGHT / 2u) & (place.pixel / 2u < WIDTH / 2u);
    let p = min(place.row / 2u, HEIGHT / 2u - 1u);
    let q = min(place.pixel / 2u, WIDTH / 2u - 1u);
    let first = index_of(Place(place.n, 2u * p, 2u * q, place.column), HEIGHT, WIDTH);
    let own = normalise(Value(x[at]), affine.scale, affine.shift);
    let mine = activate(own);
    // The activation is none or a cut.
    //~ batch_norm_max_pool_grad: & Bools(inside) =>
    //~ batch_norm_max_pool_grad: (through(Value(1.0), own) > Value(0.0)) => Bools(true)
    var receives = (through(Value(1.0), own) > Value(0.0)) & Bools(inside);
    for (var tap = 0u; tap < 4u; tap++) {
        let pixel = Value(x[first + (tap / 2u * WIDTH + tap % 2u) * COLUMNS]);
        let value = activate(normalise(pixel, affine.scale, affine.shift));
        let before = tap < place.row % 2u * 2u + place.pixel % 2u;
        //~ batch_norm_max_pool_grad: mine > value, Bools(before) => mine > value, Bools(!before)
        receives = receives & select(mine >= value, mine > value, Bools(before));
    }
    let out = index_of(Place(place.n, p, q, place.column), HEIGHT / 2u, WIDTH / 2u);
    return select(Value(0.0), Value(dy[out]), receives);
}
