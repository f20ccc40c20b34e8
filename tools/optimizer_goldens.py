#!/usr/bin/env python3
"""Writes tests/goldens/optimizers.safetensors: parameters after a few steps of each optimizer, for tests/optimizers.rs.

    python3 tools/optimizer_goldens.py [OUT]

Needs torch, numpy and safetensors. Parameters and gradients are the numbers that tests/optimizers.rs makes for itself;
everything is computed in float64, by PyTorch's own optimizers where it has them, and stored in float32.
"""
import pathlib, sys

import numpy as np
import torch
from safetensors.numpy import save_file

STEPS, DECAY = 4, float(np.float32(0.1))
MUON_REST = 0.1 / 0.06  # the rate of what is no filter, as a share
PARAMETERS = [("tall", (3, 3, 4, 6)), ("wide", (1, 1, 4, 6)), ("depthwise", (3, 3, 1, 4)), ("dense", (5, 7)), ("bias", (6,))]


def numbers(shape, seed):
    """As in tests/optimizers.rs."""
    i = np.arange(int(np.prod(shape)), dtype=np.int64)
    values = ((i * 7919 + seed * 104729 + 17) % 1009 / 504.5 - 1.0).astype(np.float32)
    return torch.tensor(values.reshape(shape), dtype=torch.float64)


def by_torch(make):
    """A training by one of PyTorch's optimizers."""

    def train(name, p, decay, gradients, rates):
        p = p.clone().requires_grad_()
        optimizer = make(p, decay)
        for gradient, rate in zip(gradients, rates):
            optimizer.param_groups[0]["lr"] = rate
            p.grad = gradient.clone()
            optimizer.step()
        return p.detach()

    return train


def keras_adam(name, p, decay, gradients, rates):
    """keras.optimizers.Adam.update_step, with weight decay decoupled as Keras has it."""
    m, v = torch.zeros_like(p), torch.zeros_like(p)
    for t, (g, rate) in enumerate(zip(gradients, rates), 1):
        p = p - p * decay * rate
        m = m + (g - m) * (1 - 0.9)
        v = v + (g * g - v) * (1 - 0.999)
        p = p - m * rate * (1 - 0.999**t) ** 0.5 / (1 - 0.9**t) / (v.sqrt() + 1e-7)
    return p


def lion(name, p, decay, gradients, rates):
    """Algorithm 2 of Chen et al. 2023."""
    m = torch.zeros_like(p)
    for g, rate in zip(gradients, rates):
        c = 0.9 * m + (1 - 0.9) * g
        p = p - rate * (torch.sign(c) + decay * p)
        m = 0.99 * m + (1 - 0.99) * g
    return p


def orthogonal(g):
    """Newton and Schulz's iteration, as Jordan 2024 has it, in three steps."""
    x = g / (g.norm() + 1e-7)
    tall = x.size(0) > x.size(1)
    if tall:
        x = x.T
    for _ in range(3):
        a = x @ x.T
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * (a @ a)) @ x
    return x.T if tall else x


def muon(name, p, decay, gradients, rates):
    """Filters are a row of weights for each output, as PyTorch has them; the rest is for SGD."""
    if name not in ("tall", "wide"):
        return OPTIMIZERS["sgd"](name, p, decay, gradients, [rate * MUON_REST for rate in rates])
    filters, buffer = p.permute(3, 2, 0, 1), torch.zeros_like(p.permute(3, 2, 0, 1))
    for g, rate in zip(gradients, rates):
        g = g.permute(3, 2, 0, 1)
        buffer = 0.6 * buffer + g
        filters = filters * len(filters) ** 0.5 / filters.norm()
        step = orthogonal((g + 0.6 * buffer).reshape(len(g), -1)).view_as(filters)
        filters = filters - rate * step
    return filters.permute(2, 3, 1, 0).contiguous()


OPTIMIZERS = {
    "sgd": by_torch(lambda p, decay: torch.optim.SGD([p], 0.1, momentum=0.9, nesterov=True, weight_decay=decay)),
    "adam": by_torch(lambda p, decay: torch.optim.AdamW([p], 0.1, weight_decay=decay)),
    "keras-adam": keras_adam,
    "lion": lion,
    "muon": muon,
}


def main():
    out = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "tests/goldens/optimizers.safetensors")
    rates = [0.0625 * (step + 1) for step in range(STEPS)]
    tensors = {}
    for name, train in OPTIMIZERS.items():
        for i, (parameter, shape) in enumerate(PARAMETERS):
            gradients = [numbers(shape, 10 * (step + 1) + i) for step in range(STEPS)]
            decay = 0.0 if parameter == "bias" else DECAY
            after = train(parameter, numbers(shape, i), decay, gradients, rates)
            tensors[f"{name}.{parameter}"] = after.numpy().astype(np.float32)
    save_file(tensors, out, {"torch": torch.__version__})


if __name__ == "__main__":
    main()
