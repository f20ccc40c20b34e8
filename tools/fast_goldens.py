#!/usr/bin/env python3
"""Writes tests/goldens/{fast,accurate}.safetensors: steps of these models by their recipe in PyTorch, for tests/fast.rs.

    python3 tools/fast_goldens.py [FOLDER]

Needs torch, numpy and safetensors. Pictures and weights are the numbers that tests/fast.rs makes for itself; everything is
computed in float64 and stored in float32, of every parameter its first values and its norm. This is the published form: the
loss is summed over a batch, and the head's outputs are divided by 256. The engine has the mean of the loss and a head of
weights divided by 256, at other rates and decays; both must be the same training.
"""
import pathlib, sys

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.numpy import save_file

STEPS, BATCH, CLASSES, SIDE, HEAD = 3, 16, 10, 32, 256.0
MEAN, STD = 125.0, 64.0
RATE, BIAS_RATE, HEAD_RATE, DECAY = 2**-4, 2**-7, 2**-9, 2**-10  # of the engine, whose decays are the last one divided by the rate
KEPT = 48  # values of a parameter
# Widths of the blocks, convolutions of one, and steps: at the third step of `accurate` PyTorch's own float32 is a hundredth off.
FORMS = {"fast": ((64, 256, 256), 2, 3), "accurate": ((128, 384, 512), 3, 2)}


def numbers(shape, seed):
    """As in tests/fast.rs."""
    i = np.arange(int(np.prod(shape)), dtype=np.int64)
    values = ((i * 7919 + seed * 104729 + 17) % 1009 / 504.5 - 1.0).astype(np.float32)
    return torch.tensor(values.reshape(shape), dtype=torch.float64)


def pictures():
    i = np.arange(STEPS * BATCH * SIDE * SIDE * 3, dtype=np.int64)
    # Neighbours resemble each other, or there is nothing to whiten.
    row, column, channel = i // (SIDE * 3) % SIDE, i // 3 % SIDE, i % 3
    image = i // (SIDE * SIDE * 3)
    pixel = (row * (3 + image % 5) + column * (2 + image % 7) + channel * (11 + image % 3) * 5 + i * 7919 % 61) % 256
    x = torch.tensor(pixel.reshape(-1, SIDE, SIDE, 3), dtype=torch.float64)
    return ((x - MEAN) / STD).permute(0, 3, 1, 2)


def whitening(x):
    """The principal directions of 2 x 2 patches, as [out, in, height, width]."""
    patches = x.unfold(2, 2, 1).unfold(3, 2, 1).permute(0, 2, 3, 4, 5, 1).reshape(-1, 12)
    values, vectors = torch.linalg.eigh(patches.T @ patches / len(patches))
    values, vectors = values.flip(0), vectors.T.flip(0)
    largest = vectors.gather(1, vectors.abs().argmax(1, keepdim=True))
    filters = vectors * largest.sign() / (values + 5e-4).sqrt()[:, None]
    return torch.cat([filters, -filters]).reshape(24, 2, 2, 3).permute(0, 3, 1, 2)


def initial(widths, convolutions):
    """Convolutions in the engine's layout are [height, width, in, out], the head [in, out]."""
    p, seed, inputs = {}, 0, 24
    p["stem.bias"] = numbers((24,), 100) / 4
    for block, width in enumerate(widths, 1):
        for i in range(1, convolutions + 1):
            w = numbers((3, 3, inputs, width), seed) / (9 * inputs) ** 0.5
            p[f"block{block}.conv{i}.weight"] = w.permute(3, 2, 0, 1).contiguous()
            p[f"block{block}.norm{i}.bias"] = numbers((width,), 50 + seed) / 4
            seed, inputs = seed + 1, width
    p["head.weight"] = numbers((inputs, CLASSES), 200).T.contiguous()
    return {name: w.requires_grad_() for name, w in p.items()}


def forward(p, stem, x, convolutions):
    x = F.gelu(F.conv2d(x, stem, p["stem.bias"]))
    for block in (1, 2, 3):
        for i in range(1, convolutions + 1):
            x = F.conv2d(x, p[f"block{block}.conv{i}.weight"], padding=1)
            if i == 1:
                x = F.max_pool2d(x, 2)
            x = F.batch_norm(x, None, None, None, p[f"block{block}.norm{i}.bias"], training=True, eps=1e-12)
            x = F.gelu(x if i < 3 else x + first)
            if i == 1:
                first = x
    return x.amax((2, 3)) @ p["head.weight"].T / HEAD


def orthogonal(g):
    x = g / (g.norm() + 1e-7)
    if tall := x.size(0) > x.size(1):
        x = x.T
    for _ in range(3):
        a = x @ x.T
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * (a @ a)) @ x
    return x.T if tall else x


def train(out, widths, convolutions, steps):
    x, p = pictures(), initial(widths, convolutions)
    labels = torch.arange(STEPS * BATCH) % CLASSES
    stem, biases = whitening(x), [w for name, w in p.items() if name.endswith("bias")]
    wd = DECAY
    bias_rate, head_rate = BIAS_RATE / BATCH, HEAD_RATE / BATCH * HEAD**2
    groups = [
        {"params": biases, "lr": bias_rate, "weight_decay": wd / bias_rate},
        {"params": [p["head.weight"]], "lr": head_rate, "weight_decay": wd / head_rate},
    ]
    sgd = torch.optim.SGD(groups, momentum=0.85, nesterov=True)
    filters = [w for name, w in p.items() if "conv" in name]
    buffers, losses, logits = [torch.zeros_like(w) for w in filters], [], []
    for step in range(steps):
        part = slice(step * BATCH, (step + 1) * BATCH)
        z = forward(p, stem, x[part], convolutions)
        loss = F.cross_entropy(z, labels[part], label_smoothing=0.2, reduction="sum")
        sgd.zero_grad()
        for w in filters:
            w.grad = None
        loss.backward()
        losses.append(loss.item() / BATCH)
        logits.append(z.detach())
        sgd.step()
        with torch.no_grad():
            for w, buffer in zip(filters, buffers):
                buffer.mul_(0.6).add_(w.grad)
                moved = orthogonal((w.grad + 0.6 * buffer).reshape(len(w), -1)).view_as(w)
                w.copy_(w * (len(w) ** 0.5 / w.norm()) - RATE * moved)
    tensors = {"losses": np.array(losses), "logits": torch.cat(logits).numpy()}
    tensors["stem.weight"] = stem.permute(2, 3, 1, 0).contiguous().numpy()
    for name, w in p.items():
        w = w.detach() / (HEAD if name == "head.weight" else 1.0)
        w = w.permute(2, 3, 1, 0) if w.dim() == 4 else w.T if w.dim() == 2 else w
        tensors[name] = torch.cat([w.reshape(-1)[:KEPT], w.norm().reshape(1)]).numpy()
    save_file({name: t.astype(np.float32) for name, t in tensors.items()}, out, {"torch": torch.__version__})
    print(out.name, losses)


def main():
    folder = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "tests/goldens")
    torch.set_num_threads(1)
    for name, form in FORMS.items():
        train(folder / f"{name}.safetensors", *form)


if __name__ == "__main__":
    main()
