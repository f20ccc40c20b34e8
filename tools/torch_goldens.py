#!/usr/bin/env python3
"""Writes tests/goldens/cnn.safetensors: what PyTorch computes for a narrow `cnn`, for tests/goldens.rs.

    python3 tools/torch_goldens.py [OUT]

Needs torch, numpy and safetensors. Everything is computed in float64 from values that float32 (the
weights) and float16 (the pictures) hold exactly, and stored in float32, so what tests/goldens.rs measures
is the engine's own rounding. Pictures are not square, widths all differ, and scales, shifts and statistics
are not the usual ones and zeros: a swapped pair of dimensions or tensors cannot pass.
"""
import pathlib, sys

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.numpy import save_file
from torch import nn

BATCH, HEIGHT, WIDTH, CLASSES = 8, 16, 24, 10
WIDTHS, FEATURES, STEPS = (4, 6, 8), 16, 10
EPSILON, MOMENTUM, SMOOTHING, RATE = 1e-3, 0.1, 0.1, 1e-3


class Cnn(nn.Module):
    def __init__(self):
        super().__init__()
        previous = 3
        for i in range(6):
            width = WIDTHS[i // 2]
            setattr(self, f"conv{i + 1}", nn.Conv2d(previous, width, 3, padding=1))
            setattr(self, f"bn{i + 1}", nn.BatchNorm2d(width, eps=EPSILON, momentum=MOMENTUM))
            previous = width
        self.fc1 = nn.Linear(previous * (HEIGHT // 8) * (WIDTH // 8), FEATURES)
        self.fc2 = nn.Linear(FEATURES, CLASSES)

    def forward(self, x):
        for i in range(1, 7):
            x = F.relu(getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(x)))
            x = F.max_pool2d(x, 2) if i % 2 == 0 else x
        return self.fc2(F.relu(self.fc1(x.flatten(1))))


def initialise(net, generator):
    """Every tensor random, and rounded to float32 first."""
    uniform = lambda like, low, high: torch.rand(like.shape, generator=generator) * (high - low) + low
    with torch.no_grad():
        for name, tensor in net.state_dict().items():
            if name.endswith("num_batches_tracked"):
                continue
            if tensor.ndim > 1:
                bound = (6 / (tensor[0].numel() + tensor.shape[0] * tensor[0, 0].numel())) ** 0.5
                tensor.copy_(uniform(tensor, -bound, bound))
            elif name.startswith("bn") and name.endswith(("weight", "running_var")):
                tensor.copy_(uniform(tensor, 0.5, 1.5))
            else:
                tensor.copy_(uniform(tensor, -0.5, 0.5))


def snapshot(net, prefix):
    kept = {n: t for n, t in net.state_dict().items() if not n.endswith("num_batches_tracked")}
    return {f"{prefix}.{name}": tensor.clone() for name, tensor in kept.items()}


def main():
    generator = torch.Generator().manual_seed(20)
    net = Cnn().double()
    initialise(net, generator)
    pictures = torch.randn((STEPS, BATCH, 3, HEIGHT, WIDTH), generator=generator).half()
    labels = torch.randint(0, CLASSES, (STEPS, BATCH), generator=generator)

    goldens = snapshot(net, "initial")
    net.eval()
    with torch.no_grad():
        goldens["eval_logits"] = net(pictures[0].double())
    net.train()
    optimizer = torch.optim.Adam(net.parameters(), lr=RATE)
    losses = []
    for step in range(STEPS):
        logits = net(pictures[step].double())
        loss = F.cross_entropy(logits, labels[step], label_smoothing=SMOOTHING)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
        if step == 0:
            goldens["logits"] = logits.detach()
            goldens.update({f"gradient.{name}": p.grad.clone() for name, p in net.named_parameters()})
            goldens.update({n: t for n, t in snapshot(net, "after1").items() if "running" in n})
    goldens["losses"] = torch.stack(losses)
    goldens.update(snapshot(net, "after10"))

    arrays = {name: np.ascontiguousarray(t.numpy().astype(np.float32)) for name, t in goldens.items()}
    arrays["pictures"] = pictures.numpy()
    arrays["labels"] = labels.numpy().astype(np.float32)
    metadata = {"torch": torch.__version__, "bn_epsilon": str(EPSILON), "bn_momentum": str(MOMENTUM),
                "smoothing": str(SMOOTHING), "rate": str(RATE)}
    default = pathlib.Path(__file__).parent.parent / "tests" / "goldens" / "cnn.safetensors"
    out = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else default
    out.parent.mkdir(parents=True, exist_ok=True)
    save_file(arrays, out, metadata=metadata)
    print(f"{out}: {out.stat().st_size} bytes, losses {losses[0]:.4f} to {losses[-1]:.4f}")


if __name__ == "__main__":
    main()
