// Where a value lies in a tensor [n, height, width, column]. COLUMNS, the values of a pixel, is a
// constant of the file that includes this.
struct Place {
    n: u32,
    row: u32,
    pixel: u32,
    column: u32,
}

fn place_of(at: u32, height: u32, width: u32) -> Place {
    let pixel = at / COLUMNS;
    return Place(pixel / width / height, pixel / width % height, pixel % width, at % COLUMNS);
}

fn index_of(place: Place, height: u32, width: u32) -> u32 {
    return ((place.n * height + place.row) * width + place.pixel) * COLUMNS + place.column;
}
