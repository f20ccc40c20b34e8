#!/usr/bin/env python3
"""Writes tests/goldens/trivial.safetensors: what torchvision's TrivialAugmentWide makes of an image by each change at some
levels, for src/ops/augment/trivial/tests.rs.

    python3 tools/trivial_goldens.py [OUT]

Needs torch, torchvision, numpy and safetensors. The image is the one that the test makes for itself; changes by a table are of
its bytes, all others of numbers, and everything is rounded to bytes.
"""
import pathlib, sys

import numpy as np
import torch
import torchvision
from safetensors.numpy import save_file
from torchvision.transforms import InterpolationMode
from torchvision.transforms.autoaugment import TrivialAugmentWide, _apply_op

SIZE = 20
NAMES = {
    "ShearColumns": "ShearX",
    "ShearRows": "ShearY",
    "ShiftColumns": "TranslateX",
    "ShiftRows": "TranslateY",
    "Rotate": "Rotate",
    "Brightness": "Brightness",
    "Contrast": "Contrast",
    "Saturation": "Color",
    "Sharpness": "Sharpness",
    "Posterize": "Posterize",
    "Solarize": "Solarize",
    "AutoContrast": "AutoContrast",
    "Equalize": "Equalize",
}


def image():
    """As in the test: a ramp with a pattern, [3, SIZE, SIZE]."""
    y, x, c = np.mgrid[:SIZE, :SIZE, :3]
    return torch.tensor((20 + 7 * y + 3 * x + 11 * c + (y * 31 + x * 17 + c * 5) % 23).transpose(2, 0, 1), dtype=torch.uint8)


def changed(name, level):
    magnitudes, signed = TrivialAugmentWide()._augmentation_space(31)[name]
    magnitude = float(magnitudes[abs(level)]) if magnitudes.ndim else 0.0
    magnitude = -magnitude if signed and level < 0 else magnitude
    by_bytes = name in ("Posterize", "Solarize", "AutoContrast", "Equalize")
    pixels = image() if by_bytes else image().to(torch.float64) / 255
    # Black comes in: any other colour is mixed twice at a border, by torchvision as it is.
    out = _apply_op(pixels, name, magnitude, InterpolationMode.BILINEAR, None)
    out = out if by_bytes else (out * 255).round().to(torch.uint8)
    return np.ascontiguousarray(out.numpy().transpose(1, 2, 0))


def main():
    out = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent.parent / "tests/goldens/trivial.safetensors")
    goldens = {}
    for kind, name in NAMES.items():
        levels = {"Posterize": [8, 20, 30], "Solarize": [10, 25, 30], "AutoContrast": [3], "Equalize": [3]}
        for level in levels.get(kind, [5, -12, 23]):
            goldens[f"{kind} {level}"] = changed(name, level)
    save_file(goldens, out, metadata={"torch": torch.__version__, "torchvision": torchvision.__version__})
    print(out, out.stat().st_size, "bytes")


main()
