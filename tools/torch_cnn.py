#!/usr/bin/env python3
"""The `cnn` of cifar-engine in PyTorch: the peer that its accuracy and speed are held against; `resnet20` for speed.

    python3 tools/torch_cnn.py train --data BATCHES_DIR --recipe keras|default [--epochs 20] [--threads 2] [--init FILE]
    python3 tools/torch_cnn.py bench --mode train|infer [--model cnn|resnet20] [--batch-size 128] [--threads 2]
        [--device cpu|cuda] [--tf32]

`train` prints a line an epoch, with the test accuracy, and at the end the mean over the last five; with `--init` it begins
with the weights in a file of cifar-engine (its running statistics stay as they are). `bench` prints one JSON object.
Needs torch and numpy, and for `--init` safetensors. For the fair peer (glibc returns no memory between steps), set
MALLOC_MMAP_THRESHOLD_=2147483648 MALLOC_TRIM_THRESHOLD_=8589934592 MALLOC_TOP_PAD_=67108864.
"""
import argparse, json, pathlib, statistics, time

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn


def cnn(classes=10, dropout=0.5, zero_classifier=False):
    layers, previous = [], 3
    for width in (32, 64, 128):
        for _ in range(2):
            layers += [nn.Conv2d(previous, width, 3, padding=1), nn.BatchNorm2d(width, eps=1e-3, momentum=0.01)]
            layers += [nn.ReLU(inplace=True)]
            previous = width
        layers.append(nn.MaxPool2d(2))
    head = [nn.Flatten(), nn.Linear(2048, 128), nn.ReLU(inplace=True), nn.Dropout(dropout), nn.Linear(128, classes)]
    net = nn.Sequential(*layers, *head)
    for m in net:  # Glorot uniform weights and zero biases, as in Keras
        if isinstance(m, (nn.Conv2d, nn.Linear)):
            nn.init.xavier_uniform_(m.weight)
            nn.init.zeros_(m.bias)
    if zero_classifier:
        nn.init.zeros_(net[-1].weight)
    return net.to(memory_format=torch.channels_last)


class BasicBlock(nn.Module):
    """Two convolutions of 3x3, and a shortcut around them: He et al. (2015), option B."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        same = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if same else nn.Sequential(
            nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)), inplace=True)))
        return F.relu(y + self.shortcut(x), inplace=True)


def resnet20(classes=10):
    layers, previous = [nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(inplace=True)], 16
    for width in (16, 32, 64):
        for block in range(3):
            layers.append(BasicBlock(previous, width, 2 if block == 0 and width > 16 else 1))
            previous = width
    net = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, classes))
    return net.to(memory_format=torch.channels_last)


def begin_with(net, path):
    """Gives the network the weights in a file of cifar-engine, which has PyTorch's layouts."""
    from safetensors.torch import load_file
    tensors, count = load_file(path), {}
    for m in net:
        kind = {nn.Conv2d: "conv", nn.BatchNorm2d: "bn", nn.Linear: "fc"}.get(type(m))
        if kind:
            count[kind] = count.get(kind, 0) + 1
            with torch.no_grad():
                m.weight.copy_(tensors[f"{kind}{count[kind]}.weight"])
                m.bias.copy_(tensors[f"{kind}{count[kind]}.bias"])


def load(folder):
    def read(names):
        raw = np.concatenate([np.fromfile(pathlib.Path(folder) / n, dtype=np.uint8) for n in names])
        raw = raw.reshape(-1, 3073)
        return torch.from_numpy(raw[:, 1:].reshape(-1, 3, 32, 32).copy()), torch.from_numpy(raw[:, 0].astype(np.int64))

    return read([f"data_batch_{i}.bin" for i in range(1, 6)]), read(["test_batch.bin"])


def augment(x, cutout):
    """Flip half the images, shift each by up to 4 pixels with zeros (the mean) outside, cut a square out."""
    n, _, h, w = x.shape
    x = torch.where((torch.rand(n) < 0.5).view(-1, 1, 1, 1), x.flip(3), x)
    padded = F.pad(x, (4,) * 4)
    dy, dx = torch.randint(0, 9, (n, 1)), torch.randint(0, 9, (n, 1))
    rows, columns = dy + torch.arange(h), dx + torch.arange(w)
    x = padded[torch.arange(n).view(-1, 1, 1, 1), torch.arange(3).view(1, -1, 1, 1),
               rows.view(n, 1, h, 1), columns.view(n, 1, 1, w)]
    if cutout:
        cy, cx = torch.randint(0, h, (n, 1)), torch.randint(0, w, (n, 1))
        half = cutout // 2
        inside_y = (torch.arange(h) - cy + half).ge(0) & (torch.arange(h) - cy + half).lt(cutout)
        inside_x = (torch.arange(w) - cx + half).ge(0) & (torch.arange(w) - cx + half).lt(cutout)
        x = x.masked_fill((inside_y.unsqueeze(2) & inside_x.unsqueeze(1)).unsqueeze(1), 0.0)
    return x.contiguous(memory_format=torch.channels_last)


def train(args):
    (x, y), (xt, yt) = load(args.data)
    keras = args.recipe == "keras"
    mean = torch.zeros(3) if keras else torch.tensor([125.3, 123.0, 113.9])
    std = torch.full((3,), 255.0) if keras else torch.tensor([63.0, 62.1, 66.7])
    prepare = lambda b: (b.float() - mean.view(1, 3, 1, 1)) / std.view(1, 3, 1, 1)
    net = cnn(dropout=args.dropout, zero_classifier=not keras)
    if args.init:
        begin_with(net, args.init)
    steps = len(x) // args.batch_size * args.epochs
    if keras:
        optimizer = torch.optim.Adam(net.parameters(), lr=1e-3, eps=1e-7)
    else:
        decay = [p for p in net.parameters() if p.ndim > 1]
        rest = [p for p in net.parameters() if p.ndim <= 1]
        groups = [{"params": decay, "weight_decay": args.weight_decay}, {"params": rest, "weight_decay": 0.0}]
        optimizer = torch.optim.SGD(groups, lr=args.lr, momentum=0.9, nesterov=True)
    warmup = args.warmup

    def rate(step):
        if keras:
            return 1e-3
        t = (step + 1) / steps
        return args.lr * (t / warmup if t < warmup else (1 - t) / (1 - warmup)) + 1e-6

    def test(flip=False):
        net.eval()
        with torch.no_grad():
            out = []
            for b in xt.split(500):
                b = prepare(b).contiguous(memory_format=torch.channels_last)
                out.append(net(b) + net(b.flip(3)) if flip else net(b))
            out = torch.cat(out)
        return F.cross_entropy(out, yt).item(), (out.argmax(1) == yt).float().mean().item()

    step, tests = 0, []
    for epoch in range(args.epochs):
        net.train()
        start, order, losses, right = time.time(), torch.randperm(len(x)), 0.0, 0
        for i in range(0, len(x) - args.batch_size + 1, args.batch_size):
            index = order[i:i + args.batch_size]
            b = prepare(x[index])
            b = b.contiguous(memory_format=torch.channels_last) if keras else augment(b, args.cutout)
            for group in optimizer.param_groups:
                group["lr"] = rate(step)
            logits = net(b)
            loss = F.cross_entropy(logits, y[index], label_smoothing=0.0 if keras else args.smoothing)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses, right, step = losses + loss.item(), right + (logits.argmax(1) == y[index]).sum().item(), step + 1
        n = len(x) // args.batch_size
        loss, accuracy = test()
        tests.append(accuracy)
        print(f"epoch {epoch + 1}: loss {losses / n:.4f} accuracy {right / n / args.batch_size:.4f} "
              f"test {loss:.4f} {accuracy:.4f}  {time.time() - start:.0f} s", flush=True)
    print(f"test accuracy {tests[-1]:.4f}, with flips {test(True)[1]:.4f}; "
          f"mean of the last five epochs {statistics.mean(tests[-5:]):.4f}")


def bench(args):
    cuda, b = args.device == "cuda", args.batch_size
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = args.tf32
    torch.backends.cudnn.benchmark = True
    net = {"cnn": cnn, "resnet20": resnet20}[args.model]().to(args.device)
    x = torch.randn(b, 3, 32, 32, device=args.device).contiguous(memory_format=torch.channels_last)
    y = torch.randint(0, 10, (b,), device=args.device)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)

    def step():
        if args.mode == "infer":
            with torch.no_grad():
                return net(x)
        loss = F.cross_entropy(net(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    net.train(args.mode == "train")
    # A GPU is asked for many steps before it is waited for, as in a training.
    times, together = [], 20 if cuda else 1
    for i in range(args.steps + 5):
        start = time.perf_counter()
        for _ in range(together):
            step()
        if cuda:
            torch.cuda.synchronize()
        if i >= 5:
            times.append((time.perf_counter() - start) / together)
    median = statistics.median(times)
    print(json.dumps({"torch": torch.__version__, "mode": args.mode, "threads": args.threads, "batch_size": b,
                      "device": torch.cuda.get_device_name() if cuda else "cpu", "tf32": args.tf32,
                      "step_ms": round(median * 1e3, 3), "images_per_s": round(b / median, 1)}))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["train", "bench"])
    parser.add_argument("--data")
    parser.add_argument("--init", help="weights to begin with")
    parser.add_argument("--recipe", choices=["keras", "default"], default="keras")
    parser.add_argument("--model", choices=["cnn", "resnet20"], default="cnn")
    parser.add_argument("--mode", choices=["train", "infer"], default="train")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="of `bench`")
    parser.add_argument("--tf32", action="store_true", help="on a GPU, round what is multiplied to 10 bits")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--weight-decay", type=float, default=1e-3)
    parser.add_argument("--smoothing", type=float, default=0.1)
    parser.add_argument("--dropout", type=float, default=0.5)
    parser.add_argument("--cutout", type=int, default=0)
    parser.add_argument("--warmup", type=float, default=0.25)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    train(args) if args.command == "train" else bench(args)


if __name__ == "__main__":
    main()
