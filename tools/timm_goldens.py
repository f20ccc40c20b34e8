#!/usr/bin/env python3
"""Writes what timm computes for narrow MobileNets and for ResNet-18 into tests/goldens, for tests/timm.rs.

    python3 tools/timm_goldens.py [OUT_DIR] [MODEL..]

Needs torch, timm, numpy and safetensors. Four models: v1 at width 0.25 padded as TensorFlow does, the same
padded as PyTorch does, v2 at width 0.35, and resnet18. Everything is computed in float64 from values that float32 (or, where
it is stored so, float16) holds exactly: what the tests measure is the engine's own rounding. The picture's side is
odd, so that the paddings differ from each other at both even and odd sizes. Statistics, scales and shifts
are not the usual ones and zeros. Of many pictures the one is taken whose activations lie farthest from 0 and 6, where
ReLU and ReLU6 have their kinks: on the other side of one, a gradient is another, and no rounding's fault. The weights
are seeded hashes that tests/timm.rs computes again, so that the
files stay small: only what timm makes of them is stored.
"""
import pathlib, sys

import numpy as np
import timm
import torch
import torch.nn.functional as F
from safetensors.numpy import save_file
from timm.models.efficientnet import _gen_mobilenet_v1, _gen_mobilenet_v2

BATCH, SIZE, CLASSES, TRIES = 2, 57, 10, 400
RELUS = (torch.nn.ReLU, torch.nn.ReLU6)
V1, V2 = _gen_mobilenet_v1, _gen_mobilenet_v2


def resnet18(_name, _width, num_classes, bn_eps, bn_momentum):
    model = timm.create_model("resnet18", num_classes=num_classes)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eps, module.momentum = bn_eps, bn_momentum
    return model


MODELS = {
    "mobilenet_v1_same": (V1, "mobilenetv1_100", 0.25, dict(pad_type="same"), 1e-3),
    "mobilenet_v1_symmetric": (V1, "mobilenetv1_100", 0.25, {}, 1e-5),
    "mobilenet_v2": (V2, "mobilenetv2_100", 0.35, {}, 1e-5),
    "resnet18": (resnet18, "resnet18", 1.0, {}, 1e-5),
}
# The outputs of these blocks, beside the logits.
BLOCKS = {
    V1: ["blocks.0.0", "blocks.1.0", "blocks.3.0", "blocks.4.1"],
    V2: ["blocks.0.0", "blocks.1.1", "blocks.3.0", "blocks.6.0"],
    resnet18: ["layer1.0", "layer2.0", "layer3.1", "layer4.1"],
}


def uniform(name, count):
    """In [0, 1): the same numbers as tests/timm.rs. FNV-1a of the name seeds one 32-bit hash an element."""
    seed = 2166136261
    for byte in name.encode():
        seed = (seed ^ byte) * 16777619 & 0xFFFFFFFF
    x = (np.arange(count, dtype=np.uint64) * 2654435761 + seed) & 0xFFFFFFFF
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B), (16, 1)):
        x = (x ^ (x >> shift)) * factor & 0xFFFFFFFF
    return (x >> 8).astype(np.float64) / 2**24


def initialise(model):
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if name.endswith("num_batches_tracked"):
                continue
            u = uniform(name, tensor.numel()).reshape(tensor.shape)
            if tensor.ndim > 1:  # the spread that keeps the size of activations
                u = (2 * u - 1) * (6 / tensor[0].numel()) ** 0.5
            elif name.endswith("running_var") or name.endswith("weight"):
                u = 0.5 + u
            else:
                u = u - 0.5
            tensor.copy_(torch.from_numpy(u.astype(np.float32).astype(np.float64)))


def small(gradient):
    """The parts of a gradient that are kept: every element of a small one, else a few."""
    flat = gradient.reshape(-1)
    return flat[:: max(1, flat.numel() // 256)]


def pictures(name):
    x = 2 * uniform(name, BATCH * 3 * SIZE * SIZE) - 1
    return torch.from_numpy(x.reshape(BATCH, 3, SIZE, SIZE)).float().double()


def best_pictures(model):
    """Their name; `model` is left as it was."""
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    margins = []
    def measure(module, inputs):
        kinks = (0, 6) if isinstance(module, torch.nn.ReLU6) else (0,)
        margins.append(min((inputs[0] - kink).abs().min().item() for kink in kinks))
    hooks = [m.register_forward_pre_hook(measure) for m in model.modules() if isinstance(m, RELUS)]
    def margin(name):
        margins.clear()
        with torch.no_grad():
            model.train()(pictures(name))
        return min(margins)
    best = max((f"pictures {i}" for i in range(TRIES)), key=margin)
    print(f"{best}: activations at least {margin(best):.1e} from a kink")
    for hook in hooks:
        hook.remove()
    model.load_state_dict(before)
    return best


def goldens(model, blocks):
    initialise(model)
    name = best_pictures(model)
    x = pictures(name)
    labels = torch.tensor([3, 7])
    out, hooks = {}, []
    for block in blocks:
        hooks.append(model.get_submodule(block).register_forward_hook(
            lambda _m, _i, y, block=block: out.__setitem__(block, y.detach().permute(0, 2, 3, 1))))
    model.eval()
    with torch.no_grad():
        out["eval.logits"] = model(x)
    out.update({f"eval.{block}": out.pop(block) for block in blocks})
    model.train()
    logits = model(x)
    out.update({f"train.{block}": out.pop(block) for block in blocks})
    loss = F.cross_entropy(logits, labels, label_smoothing=0.1)
    loss.backward()
    out["train.logits"], out["train.loss"] = logits.detach(), loss.detach().reshape(1)
    for parameter_name, parameter in model.named_parameters():
        out[f"gradient.{parameter_name}"] = small(parameter.grad)
    for buffer_name, buffer in model.named_buffers():
        if "running" in buffer_name:
            out[f"after.{buffer_name}"] = small(buffer)
    arrays = {}
    for key, tensor in out.items():
        if any(key.endswith(f".{block}") for block in blocks):
            tensor = small(tensor)
        arrays[key] = np.ascontiguousarray(tensor.detach().numpy().astype(np.float32))
    return arrays, name


def main():
    default = pathlib.Path(__file__).parent.parent / "tests" / "goldens"
    folder = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else default
    for file in sys.argv[2:] or MODELS:
        create, name, width, options, epsilon = MODELS[file]
        # timm registers no models of these widths, but has the functions that make them.
        model = create(name, width, num_classes=CLASSES, bn_eps=epsilon, bn_momentum=0.1, **options).double()
        arrays, pictures_name = goldens(model, BLOCKS[create])
        metadata = {"torch": torch.__version__, "timm": timm.__version__, "model": name, "bn_epsilon": str(epsilon),
                    "pictures": pictures_name}
        path = folder / f"{file}.safetensors"
        save_file(arrays, path, metadata=metadata)
        print(f"{path}: {path.stat().st_size} bytes, loss {arrays['train.loss'][0]:.4f}")


if __name__ == "__main__":
    main()
