#!/usr/bin/env python3
"""Fine-tunes a MobileNet v1 on a folder with timm and with this program, in turn, and prints accuracy and time of both.

    python3 tools/race_timm.py FOLDER WEIGHTS [--epochs 6] [--rounds 3] [--program PROGRAM ..] [--options "..."]

FOLDER holds train/CLASS/* and test/CLASS/*; WEIGHTS are ImageNet's in timm's names. timm's side does as fastai's fine_tune does:
the body frozen for one epoch, then everything by one cycle of AdamW whose rate falls towards the first layers, random resized
crops and flips, label smoothing; images are decoded once, to the size trained at, and lie in memory. Both sides' time is the whole
process's, from the start to the accuracy on the test images. Several programs (two commits') may be given. Needs torch, timm,
torchvision and Pillow.
"""
import argparse, json, pathlib, statistics, subprocess, sys, tempfile, time


def read(folder, size):
    import numpy as np
    import torch
    from PIL import Image
    classes = sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
    pixels, labels = [], []
    for label, name in enumerate(classes):
        for path in sorted((folder / name).iterdir()):
            picture = Image.open(path).convert("RGB")
            side = min(picture.size)
            left, top = (picture.width - side) // 2, (picture.height - side) // 2
            box = (left, top, left + side, top + side)
            pixels.append(np.asarray(picture.resize((size, size), Image.BILINEAR, box=box)))
            labels.append(label)
    return torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2), torch.tensor(labels), classes


def timm_side(options):
    import timm
    import torch
    from safetensors.torch import load_file
    from torchvision.transforms import v2
    torch.manual_seed(options.seed)
    folder = pathlib.Path(options.folder)
    images, labels, classes = read(folder / "train", options.size)
    test_images, test_labels, _ = read(folder / "test", options.size)
    net = timm.create_model("mobilenetv1_100", pretrained=False)
    net.load_state_dict(load_file(options.weights))
    net.reset_classifier(len(classes))
    net = net.to(memory_format=torch.channels_last)
    augment = v2.Compose([v2.RandomResizedCrop(options.size, scale=(0.35, 1), antialias=True), v2.RandomHorizontalFlip()])
    scale = v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.5] * 3, [0.5] * 3)])
    normalize = lambda x: scale(x).contiguous(memory_format=torch.channels_last)
    loss = torch.nn.CrossEntropyLoss(label_smoothing=0.1)
    head = list(net.get_classifier().parameters())
    body = [p for p in net.parameters() if not any(p is h for h in head)]
    early = sum(p.numel() for p in body) // 3
    groups, seen = ([], []), 0
    for p in body:
        groups[seen > early].append(p)
        seen += p.numel()

    def epochs(count, parameter_groups):
        rates = [g["lr"] for g in parameter_groups]
        optimizer = torch.optim.AdamW(parameter_groups, weight_decay=0.01, betas=(0.9, 0.99))
        steps = count * (len(images) // options.batch)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rates, total_steps=steps, pct_start=0.25)
        for _ in range(count):
            net.train()
            order = torch.randperm(len(images))
            for i in range(len(images) // options.batch):
                batch = order[i * options.batch:(i + 1) * options.batch]
                x = torch.stack([augment(images[j]) for j in batch])
                optimizer.zero_grad()
                loss(net(normalize(x)), labels[batch]).backward()
                optimizer.step()
                schedule.step()
            net.eval()
            with torch.no_grad():
                parts = zip(test_images.split(256), test_labels.split(256))
                right = sum((net(normalize(x)).argmax(1) == y).sum().item() for x, y in parts)
        return right / len(test_images)

    for p in body:
        p.requires_grad = False
    epochs(1, [{"params": head, "lr": 2e-3}])
    for p in body:
        p.requires_grad = True
    rates = zip((groups[0], groups[1], head), (1e-5, 1e-4, 1e-3))
    return epochs(options.epochs - 1, [{"params": p, "lr": lr} for p, lr in rates])


def program_side(program, options):
    with tempfile.TemporaryDirectory() as out:
        command = [program, "finetune", "--data", options.folder, "--pretrained", options.weights, "--epochs", str(options.epochs),
                   "--batch-size", str(options.batch), "--image-size", str(options.size), "--seed", str(options.seed),
                   "--device", "cpu", "--out", f"{out}/run", "--json", "--quiet", *options.options.split()]
        return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)["test_accuracy"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("weights")
    parser.add_argument("--program", nargs="+", default=["target/release/cifar-engine"])
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--options", default="", help="further ones for the program")
    parser.add_argument("--timm-only", action="store_true", help="what a round starts as a process of its own")
    options = parser.parse_args()
    if options.timm_only:
        print(timm_side(options))
        return
    times = {name: [] for name in ["timm", *options.program]}
    for seed in range(options.rounds):
        options.seed = seed
        for name in times:
            start = time.perf_counter()
            if name == "timm":
                arguments = [*sys.argv, "--timm-only", "--seed", str(seed)]
                result = subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.PIPE).stdout
                result = float(result)
            else:
                result = program_side(name, options)
            times[name].append(time.perf_counter() - start)
            print(f"round {seed}: {name} {times[name][-1]:.1f} s, {result:.1%} of the test images", flush=True)
    for name in options.program:
        ratios = [ours / theirs for ours, theirs in zip(times[name], times["timm"])]
        print(f"{name}: {statistics.median(ratios):.2f} of timm's time (median of {len(ratios)})")


if __name__ == "__main__":
    main()
