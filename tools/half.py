#!/usr/bin/env python3
"""Rewrites a safetensors file of float32 as one of float16, of half the size: python3 tools/half.py FROM TO

The metadata stay. It is how the built-in weights came from a run's best.safetensors (weights/README.md).
"""
import sys

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

source, target = sys.argv[1:]
with safe_open(source, "np") as file:
    metadata = file.metadata()
    tensors = {name: file.get_tensor(name).astype(np.float16) for name in file.keys()}
broken = [name for name, values in tensors.items() if not np.isfinite(values).all()]
if broken:
    sys.exit(f"{source}: {', '.join(broken)}: too large for float16")
save_file(tensors, target, metadata=metadata)
