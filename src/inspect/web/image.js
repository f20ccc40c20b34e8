// Images from outside as the program reads them: cut to the square in the middle and scaled. A
// canvas would scale them otherwise, and the model see another image than `predict` shows it.

"use strict";

/** The middle of an image, of a file or a film, as bytes `[size, size, 3]`; what is transparent is
 *  white. */
async function squared(source, size) {
  const image = await createImageBitmap(source, { colorSpaceConversion: "none" });
  const side = Math.min(image.width, image.height);
  const canvas = Object.assign(document.createElement("canvas"), { width: side, height: side });
  const context = canvas.getContext("2d");
  context.fillStyle = "#fff";
  context.fillRect(0, 0, side, side);
  const [left, top] = [image.width, image.height].map((length) => Math.floor((length - side) / 2));
  context.drawImage(image, -left, -top);
  const rgb = context.getImageData(0, 0, side, side).data.filter((_, i) => i % 4 < 3);
  return side === size ? rgb : scaled(rgb, side, size);
}

/** The triangle, which averages where an image shrinks. */
function triangle(x) {
  return Math.max(0, 1 - Math.abs(x));
}

/** The cubic of Catmull and Rom, which keeps edges where an image grows. */
function catmullRom(x) {
  const a = Math.abs(x);
  if (a < 1) return (1.5 * a - 2.5) * a * a + 1;
  return a < 2 ? ((-0.5 * a + 2.5) * a - 4) * a + 2 : 0;
}

/** For each of `to` places along a side the first of the `from` places that it is made of, and
 *  their weights. */
function sources(from, to) {
  const [kernel, reach] = to < from ? [triangle, 1] : [catmullRom, 2];
  const ratio = from / to;
  const stretch = Math.max(1, ratio);
  return Array.from({ length: to }, (_, place) => {
    const middle = (place + 0.5) * ratio;
    const first = Math.min(Math.max(Math.floor(middle - reach * stretch), 0), from - 1);
    const end = Math.min(Math.max(Math.ceil(middle + reach * stretch), first + 1), from);
    const own = Array.from({ length: end - first }, (_, i) => kernel((first + i + 0.5 - middle) / stretch));
    const sum = own.reduce((a, b) => a + b, 0);
    return { first, own: own.map((weight) => weight / sum) };
  });
}

/** Bytes `[from, from, 3]` as `[to, to, 3]`: columns first, then rows, rounded once. */
function scaled(rgb, from, to) {
  const places = sources(from, to);
  const columns = new Float32Array(3 * from * to);
  places.forEach(({ first, own }, row) => own.forEach((weight, i) => {
    const [source, target] = [3 * from * (first + i), 3 * from * row];
    for (let x = 0; x < 3 * from; x += 1) columns[target + x] += weight * rgb[source + x];
  }));
  const bytes = new Uint8Array(3 * to * to);
  for (let row = 0; row < to; row += 1) {
    places.forEach(({ first, own }, column) => {
      for (let channel = 0; channel < 3; channel += 1) {
        const at = 3 * (from * row + first) + channel;
        const sum = own.reduce((sum, weight, i) => sum + weight * columns[at + 3 * i], 0);
        bytes[3 * (to * row + column) + channel] = Math.round(Math.min(Math.max(sum, 0), 255));
      }
    });
  }
  return bytes;
}
