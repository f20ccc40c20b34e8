#!/usr/bin/env python3
"""Times a model here and in other engines in turn, and prints the ratio of the rates.

    cargo build --release && python3 tools/compare_peers.py [--model cnn|resnet20|mobilenet-v1] [--mode train|infer]
        [--image-size 224] [--batch-size 128] [--rounds 5] [--threads 2]

Each round runs PyTorch plain, PyTorch with an allocator that keeps its memory, for MobileNet's inference ONNX
Runtime and tract, and cifar-engine, so that a machine whose speed drifts slows all of them. Ratios to the best
peer are taken round by round; medians are printed, and the largest resident memory of each. Needs torch and
numpy; for MobileNet timm, and onnx, onnxruntime and tract.
"""
import argparse, json, os, pathlib, statistics, subprocess, sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
KEEP = {"MALLOC_MMAP_THRESHOLD_": "2147483648", "MALLOC_TRIM_THRESHOLD_": "8589934592",
        "MALLOC_TOP_PAD_": "67108864"}


def run(command, env):
    """The JSON a command prints last, and its own peak memory in MiB."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, **env}, text=True)
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"failed: {' '.join(map(str, command))}")
    return {**json.loads(output[output.index("{"):]), "peak_mib": usage.ru_maxrss / 1024}


def contenders(args):
    """Name to (command, extra environment), ours last."""
    common = ["--mode", args.mode, "--threads", str(args.threads), "--batch-size", str(args.batch_size)]
    ours = [ROOT / "target/release/cifar-engine", "bench", "--model", args.model, *common, "--json"]
    if args.model != "mobilenet-v1":
        peers, torch = {}, [sys.executable, ROOT / "tools/torch_cnn.py", "bench", "--model", args.model, *common]
    else:
        common += ["--image-size", str(args.image_size)]
        ours += ["--image-size", str(args.image_size)]
        script = [sys.executable, ROOT / "tools/peers_mobilenet.py", *common, "--engine"]
        names = ["onnxruntime", "tract"] if args.mode == "infer" else []
        peers, torch = {name: ([*script, name], {}) for name in names}, [*script, "torch"]
    return {"torch plain": (torch, {}), "torch keeping memory": (torch, KEEP), **peers, "cifar-engine": (ours, {})}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=["cnn", "resnet20", "mobilenet-v1"], default="cnn")
    parser.add_argument("--mode", choices=["train", "infer"], default="train")
    parser.add_argument("--image-size", type=int, default=224, help="of MobileNet; that of the others is 32")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=128)
    args = parser.parse_args()
    engines = contenders(args)
    results = {name: [] for name in engines}
    for _ in range(args.rounds):
        for name, (command, env) in engines.items():
            results[name].append(run(command, env))
    peers = [rounds for name, rounds in results.items() if name != "cifar-engine"]
    best = [max(r["images_per_s"] for r in turn) for turn in zip(*peers)]
    for name, rounds in results.items():
        rates = [r["images_per_s"] for r in rounds]
        ratio = statistics.median(rate / other for rate, other in zip(rates, best))
        print(f"{name:22} {statistics.median(rates):8.1f} images/s  {min(rates):8.1f} to {max(rates):8.1f}  "
              f"{max(r['peak_mib'] for r in rounds):6.0f} MiB  {ratio:5.2f} of the best peer")


if __name__ == "__main__":
    main()
