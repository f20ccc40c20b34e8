#!/usr/bin/env python3
"""Compares what ONNX Runtime makes of an exported model with what `cifar-engine predict` says, on photographs.

    python3 tools/onnx_check.py PROGRAM WEIGHTS FILE.onnx PICTURE..

FILE.onnx is what `PROGRAM export WEIGHTS --onnx FILE.onnx` wrote. Needs onnxruntime, numpy and pillow. Every picture is cut to
an odd size and stored as PNG, which has one way to be decoded; of three one is turned by its metadata, and one transparent. It is
prepared here as the file's metadata say; so this is also
an example of what an app has to do. Exits with 1 if a probability differs by more than 1e-5.
"""
import json, math, pathlib, subprocess, sys, tempfile

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

LIMIT = 1e-5


def triangle(x):
    return max(np.float32(0), np.float32(1) - abs(x))


def catmull_rom(x):
    x = abs(x)
    if x < 1:
        return 1.5 * x**3 - 2.5 * x**2 + 1
    return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x < 2 else 0.0


def scaled(pixels, out):
    """The first axis in `out` pixels instead of all; summed in float32, pixel by pixel, as the program does."""
    size = len(pixels)
    kernel, reach = (triangle, 1.0) if out < size else (catmull_rom, 2.0)
    ratio = np.float32(size) / np.float32(out)
    scale = max(ratio, np.float32(1))
    lines = np.zeros((out, *pixels.shape[1:]), np.float32)
    for p in range(out):
        middle = (np.float32(p) + np.float32(0.5)) * ratio
        left = min(max(math.floor(middle - reach * scale), 0), size - 1)
        right = min(max(math.ceil(middle + reach * scale), left + 1), size)
        middle -= np.float32(0.5)
        weights = np.array([kernel((np.float32(i) - middle) / scale) for i in range(left, right)], np.float32)
        total = np.float32(0)
        for weight in weights:
            total += weight
        for i, weight in zip(range(left, right), weights / total):
            lines[p] += pixels[i] * weight
    return lines


def prepared(image, size):
    """[3, size, size], from 0 to 255."""
    image = ImageOps.exif_transpose(image).convert("RGBA")
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    pixels = np.asarray(image.crop((left, top, left + side, top + side)), np.uint32)
    colours, alpha = pixels[..., :3], pixels[..., 3:]
    pixels = ((colours * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.float32)  # on white
    if side != size:
        rows = scaled(pixels, size)
        pixels = scaled(rows.transpose(1, 0, 2), size).transpose(1, 0, 2)
        pixels = np.floor(np.clip(pixels, 0, 255) + np.float32(0.5))
    return pixels.transpose(2, 0, 1)


def main():
    program, weights, file, *pictures = sys.argv[1:]
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    facts = session.get_modelmeta().custom_metadata_map
    classes, size = json.loads(facts["classes"]), int(facts["image_size"])
    worst = 0.0
    with tempfile.TemporaryDirectory() as folder:
        cut, paths = [], []
        for number, picture in enumerate(pictures):
            image = Image.open(picture).convert("RGB")
            image = image.crop((0, 0, image.width - 1 - number % 3, image.height - number % 5))
            paths.append(str(pathlib.Path(folder) / f"{number}.png"))
            exif = Image.Exif()
            if number % 3 == 1:
                exif[0x0112] = 6  # a phone that was held upright
            if number % 3 == 2:
                image.putalpha(Image.linear_gradient("L").resize(image.size))
            image.save(paths[-1], exif=exif)
            cut.append(Image.open(paths[-1]))
        views = int(facts["views"])
        options = [f"--test-flip={str(views % 2 == 0).lower()}", f"--test-shift={str(views % 3 == 0).lower()}"]
        command = [program, "predict", *options, *paths, "--weights", weights, "--json", "--top", str(len(classes)), "--device", "cpu"]
        told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        images = np.stack([prepared(image, size) for image in cut])
        _, rows = session.run(["logits", "probabilities"], {"images": images})
        for picture, row, said in zip(pictures, rows, json.loads(told), strict=True):
            ours = {entry["class"]: entry["probability"] for entry in said["predictions"]}
            off = max(abs(ours[name] - float(p)) for name, p in zip(classes, row, strict=True))
            print(f"{off:.1e}  {classes[int(row.argmax())]}  {pathlib.Path(picture).name}")
            worst = max(worst, off)
    print(f"{len(pictures)} pictures, {size} px, {views} views: largest difference {worst:.1e}")
    sys.exit(not worst <= LIMIT)


if __name__ == "__main__":
    main()
