#!/usr/bin/env python3
"""Times the `cnn` here and in PyTorch in turn, and prints the ratio of the rates.

    cargo build --release && python3 tools/compare_torch.py [--mode train|infer] [--rounds 5] [--threads 2]

Each round runs PyTorch plain, PyTorch with an allocator that keeps its memory, and cifar-engine, so that a
machine whose speed drifts slows all three. Ratios are taken round by round; medians are printed, and the
largest resident memory of each. Needs torch and numpy.
"""
import argparse, json, os, pathlib, statistics, subprocess, sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
KEEP = {"MALLOC_MMAP_THRESHOLD_": "2147483648", "MALLOC_TRIM_THRESHOLD_": "8589934592",
        "MALLOC_TOP_PAD_": "67108864"}


def run(command, env):
    """The JSON a command prints, and its own peak memory in MiB."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, **env}, text=True)
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"failed: {' '.join(map(str, command))}")
    return {**json.loads(output), "peak_mib": usage.ru_maxrss / 1024}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mode", choices=["train", "infer"], default="train")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=128)
    args = parser.parse_args()
    common = ["--mode", args.mode, "--threads", str(args.threads), "--batch-size", str(args.batch_size)]
    torch = [sys.executable, ROOT / "tools/torch_cnn.py", "bench", *common]
    ours = [ROOT / "target/release/cifar-engine", "bench", *common, "--json"]
    contenders = {"torch plain": (torch, {}), "torch keeping memory": (torch, KEEP), "cifar-engine": (ours, {})}
    results = {name: [] for name in contenders}
    for _ in range(args.rounds):
        for name, (command, env) in contenders.items():
            results[name].append(run(command, env))
    best = [max(r["images_per_s"] for r in pair) for pair in zip(results["torch plain"],
                                                                 results["torch keeping memory"])]
    for name, rounds in results.items():
        rates = [r["images_per_s"] for r in rounds]
        ratio = statistics.median(rate / other for rate, other in zip(rates, best))
        print(f"{name:22} {statistics.median(rates):8.1f} images/s  {min(rates):8.1f} to {max(rates):8.1f}  "
              f"{max(r['peak_mib'] for r in rounds):6.0f} MiB  {ratio:5.2f} of the better torch")


if __name__ == "__main__":
    main()
