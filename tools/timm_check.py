#!/usr/bin/env python3
"""Loads a file that `cifar-engine export --torch` wrote into timm or torchvision, and compares the logits with the program's.

    python3 tools/timm_check.py WEIGHTS "timm.create_model('mobilenetv1_100', num_classes=3)" PICTURE.. [--program PROGRAM]

The second argument is what `export` says the file is for; it is run as Python. Needs torch, timm, torchvision, numpy, safetensors
and Pillow. The pictures must have the size that the model was trained on (32 pixels for CIFAR-10), so that both sides see the
same pixels, and be png files: decoders of jpeg differ in the last bits. Probabilities are compared, which is what the program
prints.
"""
import argparse, functools, json, subprocess

import numpy as np
import timm
import torch
import torch.nn.functional as F
import torchvision
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file


def load(path, expression):
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    model = eval(expression, {"functools": functools, "timm": timm, "torch": torch, "torchvision": torchvision})
    model.load_state_dict(load_file(path), strict=True)
    return model.eval(), metadata


def pixels(path, metadata):
    picture = np.asarray(Image.open(path).convert("RGB"), dtype=np.float32)
    assert picture.shape[:2] == (int(metadata["image_size"]),) * 2, f"{path} is {picture.shape[1]}x{picture.shape[0]}"
    x = (picture - np.float32(json.loads(metadata["mean"]))) / np.float32(json.loads(metadata["std"]))
    x = torch.from_numpy(x).permute(2, 0, 1)[None]
    size = int(metadata.get("input_size", metadata["image_size"]))
    return x if x.shape[-1] == size else F.interpolate(x, size=(size, size), mode="bilinear", align_corners=False)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights")
    parser.add_argument("expression")
    parser.add_argument("pictures", nargs="+")
    parser.add_argument("--program", default="target/release/cifar-engine")
    options = parser.parse_args()
    lossy = [picture for picture in options.pictures if not picture.lower().endswith(".png")]
    if lossy:
        parser.error(f"{lossy[0]} is no png file; convert it first")
    model, metadata = load(options.weights, options.expression)
    classes = json.loads(metadata["classes"])
    command = [options.program, "predict", *options.pictures, "--weights", options.weights,
               "--test-flip=false", "--test-shift=false", "--json"]
    ours = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    worst = 0.0
    for entry in ours:
        with torch.no_grad():
            logits = model(pixels(entry["image"], metadata))[0]
        theirs = F.log_softmax(logits.double() / float(metadata.get("temperature", 1)), 0)
        for found in entry["predictions"]:
            if found["probability"] > 1e-6:
                worst = max(worst, abs(theirs[classes.index(found["class"])].item() - np.log(found["probability"])))
        print(f"{entry['image']}: {classes[int(logits.argmax())]}, logits {[round(v, 4) for v in logits.tolist()[:4]]} ..")
    print(f"log-probabilities differ by at most {worst:.1e}")
    assert worst < 1e-4, "timm and the program disagree"


if __name__ == "__main__":
    main()
