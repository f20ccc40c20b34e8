#!/usr/bin/env python3
"""Writes tests/goldens/compose.safetensors: what PyTorch's own layers and functions give, for tests/compose.rs.

    python3 tools/compose_goldens.py [OUT]

Needs torch, numpy and safetensors. Inputs are the numbers that tests/compose.rs makes for itself; everything is computed in
float64, gradients by autograd, and stored in float32.
"""
import pathlib, sys

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.numpy import save_file

EPSILON = 1e-5
FUNCTIONS = {
    "neg": torch.neg, "abs": torch.abs, "exp": torch.exp, "ln": torch.log, "sqrt": torch.sqrt, "rsqrt": torch.rsqrt,
    "square": torch.square, "tanh": torch.tanh, "sigmoid": torch.sigmoid, "erf": torch.erf, "relu": F.relu,
    "relu6": F.relu6, "silu": F.silu, "gelu": F.gelu, "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "hard_swish": F.hardswish,
}


def numbers(shape, seed):
    """As in tests/compose.rs."""
    i = np.arange(int(np.prod(shape)), dtype=np.int64)
    values = (i * 7919 + seed * 104729 + 17) % 1009 / 504.5 - 1.0
    return torch.tensor(values.reshape(shape), dtype=torch.float64, requires_grad=True)


def layer_norm():
    x, gamma, beta = numbers((2, 3, 7), 0), numbers((7,), 1), numbers((7,), 2)
    return F.layer_norm(x, (7,), gamma, beta, EPSILON), [x, gamma, beta]


def attention():
    x, *weights = [numbers(shape, i) for i, shape in enumerate([(5, 6), (6, 4), (6, 4), (6, 4)])]
    q, k, v = [(x @ w)[None] for w in weights]
    return F.scaled_dot_product_attention(q, k, v)[0], [x, *weights]


def squeeze_and_excitation():
    shapes = [(2, 5, 4, 8), (3, 3, 8, 8), (8, 3), (3, 8)]
    x, conv, reduce, restore = inputs = [numbers(shape, i) for i, shape in enumerate(shapes)]
    y = F.conv2d(x.permute(0, 3, 1, 2), conv.permute(3, 2, 0, 1), padding=1)
    gate = torch.sigmoid(F.silu(F.adaptive_avg_pool2d(y, 1).flatten(1) @ reduce) @ restore)
    return x + (y * gate[:, :, None, None]).permute(0, 2, 3, 1), inputs


def focal_loss():
    logits = numbers((4, 5), 0)
    labels = torch.tensor([row * 2 % 5 for row in range(4)])
    ln = F.log_softmax(logits, 1).gather(1, labels[:, None])
    return (-((1 - ln.exp()) ** 2) * ln).mean().reshape(1), [logits]


def branches():
    x, w = inputs = [numbers((2, 6, 5, 8), 0), numbers((3, 3, 4, 6), 1)]
    x = x.permute(0, 3, 1, 2)
    y = F.conv2d(x, w.permute(3, 2, 0, 1), padding=1, groups=2)
    both = torch.cat([F.gelu(y), F.avg_pool2d(x, 3, 1, 1)], 1)
    return both[:, 2:9].permute(0, 2, 3, 1), inputs


def main():
    out = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "tests/goldens/compose.safetensors")
    tensors = {}
    for layer in (layer_norm, attention, squeeze_and_excitation, focal_loss, branches):
        y, inputs = layer()
        gradients = torch.autograd.grad((y * numbers(tuple(y.shape), 99).detach()).sum(), inputs)
        tensors[f"{layer.__name__}.y"] = y
        tensors.update({f"{layer.__name__}.d{i}": gradient for i, gradient in enumerate(gradients)})
    for name, function in FUNCTIONS.items():
        positive = name in ("ln", "sqrt", "rsqrt")
        x = torch.linspace(0.05 if positive else -7.03, 9.0, 97, dtype=torch.float64, requires_grad=True)
        y = function(x)
        tensors[f"functions.{name}.x"], tensors[f"functions.{name}.y"] = x, y
        tensors[f"functions.{name}.slope"] = torch.autograd.grad(y.sum(), x)[0]
    tensors = {name: np.ascontiguousarray(tensor.detach().numpy(), np.float32) for name, tensor in tensors.items()}
    save_file(tensors, out, {"torch": torch.__version__})


if __name__ == "__main__":
    main()
