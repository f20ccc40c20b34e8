#!/usr/bin/env python3
"""Converts files of every kind that `tools/pretrained.py` reads, and compares what the program makes of them with the model.

    python3 tools/pretrained_check.py [--program target/release/cifar-engine]

Needs torch, torchvision, timm, keras, h5py, numpy, safetensors and Pillow; nothing is downloaded, the weights are random.
"""
import argparse, json, os, pathlib, subprocess, sys, tempfile

os.environ["KERAS_BACKEND"] = "torch"
import h5py
import keras
import numpy as np
import timm
import torch
import torchvision
from keras.src.legacy.saving import legacy_h5_format
from PIL import Image
from safetensors.numpy import load_file

HALVES, IMAGENET = ([0.5] * 3, [0.5] * 3), ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
TOLERANCE = 1e-4


def torch_model(model):
    """Random numbers where a new model has zeros and ones: what is mixed up must show."""
    with torch.no_grad():
        for name, value in [*model.named_parameters(), *model.named_buffers()]:
            if name.endswith(("running_var", "bn1.weight", "bn2.weight")):
                value.uniform_(0.5, 1.5)
            elif value.dim() == 1:
                value.normal_(0, 0.1)
        last = model.classifier[-1] if isinstance(model.classifier, torch.nn.Sequential) else model.classifier
        last.weight.normal_(0, 0.1)
    return model.eval()


def torch_files():
    """Names of files, the models in them, the way they are saved, the pixels' normalisation."""
    v1 = torch_model(timm.create_model("mobilenetv1_100"))
    state = v1.state_dict()
    floats = lambda kind: {k: v.to(kind) if v.is_floating_point() else v for k, v in state.items()}
    yield "plain.pt", v1, lambda out: torch.save(state, out), HALVES
    yield "old.pt", v1, lambda out: torch.save(state, out, _use_new_zipfile_serialization=False), HALVES
    wrapped = {"epoch": 3, "state_dict": {f"module.{name}": value for name, value in state.items()}}
    yield "wrapped.pt", v1, lambda out: torch.save(wrapped, out), HALVES
    for kind in (torch.float16, torch.bfloat16):
        rounded = timm.create_model("mobilenetv1_100").eval()
        rounded.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in floats(kind).items()})
        yield f"{kind}.pt", rounded, lambda out: torch.save(floats(kind), out), HALVES
    other_order = {k: v.to(memory_format=torch.channels_last) if v.dim() == 4 else v for k, v in state.items()}
    yield "channels_last.pt", v1, lambda out: torch.save(other_order, out), HALVES
    v2 = torch_model(timm.create_model("mobilenetv2_100"))
    yield "timm-v2.pt", v2, lambda out: torch.save(v2.state_dict(), out), IMAGENET
    tv = torch_model(torchvision.models.mobilenet_v2())
    yield "torchvision-v2.pt", tv, lambda out: torch.save(tv.state_dict(), out), IMAGENET


def keras_model():
    model, dice = keras.applications.MobileNet(weights=None), np.random.default_rng(0)
    for layer in model.layers:
        values = layer.get_weights()
        if isinstance(layer, keras.layers.BatchNormalization):
            positive = lambda i: i in (0, 3)
            layer.set_weights([dice.uniform(0.5, 1.5, v.shape) if positive(i) else dice.normal(0, 0.1, v.shape)
                               for i, v in enumerate(values)])
        elif layer.name == "conv_preds":
            layer.set_weights([dice.normal(0, 0.1, v.shape) for v in values])
    return model


def keras_2_names(model, out):
    """As TensorFlow's Keras wrote them, and as its published files are: `depthwise_kernel:0`."""
    with h5py.File(out, "w") as file:
        for layer in model.layers:
            for variable in layer.weights:
                deep = "depthwise_" if layer.name.startswith("conv_dw") and not layer.name.endswith("_bn") else ""
                file[f"{layer.name}/{layer.name}/{deep}{variable.name}:0"] = variable.numpy()


def keras_files(model):
    yield "full.h5", model.save
    yield "numbered.weights.h5", model.save_weights
    yield "archive.keras", model.save
    yield "keras-2.h5", lambda out: keras_2_names(model, out)

    def legacy(out):
        with h5py.File(out, "w") as file:
            legacy_h5_format.save_weights_to_hdf5_group(file, model)

    yield "legacy.h5", legacy


class Check:
    def __init__(self, program, folder):
        self.program, self.folder = program, folder
        dice = np.random.default_rng(1)
        self.pictures = []
        for number in range(3):
            coarse = Image.fromarray(dice.integers(0, 256, (7, 7, 3), dtype=np.uint8))
            self.pictures.append(folder / f"{number}.png")
            coarse.resize((224, 224), Image.BICUBIC).save(self.pictures[-1])

    def pixels(self, picture):
        return np.asarray(Image.open(picture), dtype=np.float32) / 255

    def convert(self, name, save):
        source, out = self.folder / name, self.folder / "out.safetensors"
        save(str(source))
        script = pathlib.Path(__file__).with_name("pretrained.py")
        subprocess.run([sys.executable, script, "convert", source, out], check=True, stdout=subprocess.DEVNULL)
        return out

    def compare(self, name, save, log_probabilities):
        """Holds the program's five most probable classes against the model's."""
        weights = self.convert(name, save)
        command = [self.program, "predict", *self.pictures, "--weights", weights, "--json"]
        entries = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        worst = 0.0
        for entry in entries:
            theirs = log_probabilities(self.pixels(entry["image"]))
            ours = {int(found["class"]): np.log(found["probability"]) for found in entry["predictions"]}
            assert set(ours) == set(np.argsort(-theirs)[:5]), f"{name}: {ours} {np.argsort(-theirs)[:5]}"
            worst = max(worst, *(abs(theirs[index] - value) for index, value in ours.items()))
        print(f"{name}: log-probabilities differ by at most {worst:.1e}")
        assert worst < TOLERANCE, f"{name}: the program and the model disagree"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default="target/release/cifar-engine")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        check = Check(options.program, pathlib.Path(folder))
        for name, model, save, (mean, std) in torch_files():

            def log_probabilities(pixels):
                x = (pixels - np.float32(mean)) / np.float32(std)
                with torch.no_grad():
                    logits = model(torch.from_numpy(x).permute(2, 0, 1)[None])[0]
                return torch.log_softmax(logits.double(), 0).numpy()

            check.compare(name, save, log_probabilities)
        model = keras_model()
        for name, save in keras_files(model):
            check.compare(name, save, lambda x: np.log(model.predict(2 * x[None] - 1, verbose=0)[0].astype(np.float64)))
        # Without its classifier: the other tensors are the same.
        whole = load_file(check.convert("whole.h5", model.save))
        without = keras.Model(model.input, model.get_layer("conv_pw_13_relu").output)
        found = load_file(check.convert("without.h5", without.save))
        assert set(whole) - set(found) == {"classifier.weight", "classifier.bias"}
        assert all(np.array_equal(value, whole[name]) for name, value in found.items())
        print("without.h5: the same without the classifier")


if __name__ == "__main__":
    main()
