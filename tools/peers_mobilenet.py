#!/usr/bin/env python3
"""MobileNet v1 in PyTorch (timm), ONNX Runtime and tract, with random weights: the rate of one step.

    python3 tools/peers_mobilenet.py --engine torch|onnxruntime|tract --mode train|infer
        [--image-size 224] [--batch-size 32] [--threads 2] [--steps N]

Prints one JSON object. Training is PyTorch's alone: forward, backward and SGD with momentum over all layers,
the step of `finetune`. ONNX Runtime and tract get the model as PyTorch exports it, batch norms folded. tract's
wheel has no switch for threads and runs one. Needs torch and timm; onnx, onnxruntime and tract for those.
"""
import argparse, contextlib, importlib.metadata, io, json, os, statistics, tempfile, time, warnings

import numpy as np
import torch


def model(args):
    import timm
    classes = 10 if args.mode == "train" else 1000
    net = timm.create_model("mobilenetv1_100", pretrained=False, num_classes=classes)
    return net.to(memory_format=torch.channels_last)


def torch_step(args, x):
    net, x = model(args), torch.from_numpy(x).contiguous(memory_format=torch.channels_last)
    if args.mode == "infer":
        net.eval()

        def infer():
            with torch.inference_mode():
                net(x)
        return infer
    y = torch.randint(0, 10, (len(x),))
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3, momentum=0.9, nesterov=True)

    def train():
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(net(x), y).backward()
        optimizer.step()
    return train


def exported(args, x, folder):
    path = os.path.join(folder, "model.onnx")
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(model(args).eval(), (torch.from_numpy(x),), path, dynamo=False)
    return path


def onnxruntime_step(args, x, folder):
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = args.threads
    session = onnxruntime.InferenceSession(exported(args, x, folder), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda: session.run(None, {name: x})


def tract_step(args, x, folder):
    import tract
    net = tract.onnx().load(exported(args, x, folder))
    net.set_input_fact(0, f"{','.join(map(str, x.shape))},f32")
    runnable = net.into_model().into_runnable()
    return lambda: runnable.run([x])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=["torch", "onnxruntime", "tract"], default="torch")
    parser.add_argument("--mode", choices=["train", "infer"], default="infer")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, help="default: 20, or 60 at batch 1")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    x = np.random.default_rng(0).standard_normal((args.batch_size, 3, args.image_size, args.image_size), np.float32)
    times = []
    with tempfile.TemporaryDirectory() as folder:
        extra = () if args.engine == "torch" else (folder,)
        step = globals()[f"{args.engine}_step"](args, x, *extra)
        for i in range((args.steps or (60 if args.batch_size == 1 else 20)) + 5):
            start = time.perf_counter()
            step()
            if i >= 5:
                times.append(time.perf_counter() - start)
    median = statistics.median(times)
    print(json.dumps({"engine": args.engine, "version": importlib.metadata.version(args.engine), "mode": args.mode,
                      "threads": args.threads, "batch_size": args.batch_size, "image_size": args.image_size,
                      "step_ms": round(median * 1e3, 3), "images_per_s": round(args.batch_size / median, 1)}))


if __name__ == "__main__":
    main()
