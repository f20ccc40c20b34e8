// Looks at the bits, because a compiler may assume that no float is NaN and drop a comparison that
// tells.
fn is_nan(v: Value) -> Bools {
    return (bitcast<Bits>(v) & Bits(0x7fffffffu)) > Bits(0x7f800000u);
}
