"""What the golden scripts share: the formula of made-up values, safetensors files, versions.

The formula (tests/*.c compute the same in plain C):

    seed(name)    = FNV-1a, 64 bits, of the name's bytes
    bits(name, i) = splitmix64(seed(name) + (i + 1) * 0x9E3779B97F4A7C15), where splitmix64(z) is
                    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9
                    z = (z ^ (z >> 27)) * 0x94D049BB133111EB
                    z =  z ^ (z >> 31)                            all modulo 2^64
    unit(name, i) = ((bits >> 40) - 2^23) / 2^23                  in [-1, 1), exact in float

i counts the elements in PyTorch's order (K C R S for a convolution's weight, N C H W for images).

    weight of a convolution or linear layer   (float)(unit / sqrt(fan_in)), fan_in = C*R*S
    bias of either                            the same fan_in as its weight
    gamma of a batch norm (weight)            (float)(1 + 0.25 * unit)
    beta (bias)                               (float)(0.25 * unit)
    running_mean, running_var                 (float)(0.25 * unit), (float)(1 + 0.25 * unit)
    num_batches_tracked                       0
    image (named "image")                     unit
    label of image n (named "label")          bits % classes

Everything is computed in double and rounded to float once, so that float and double start alike.
A summary of a tensor T is five doubles: its L2 norm and its products with four vectors,
sum_i T[i] * unit(name + "#" + j, i) for j = 0..3.
"""

import json
import os
import struct
import sys

import numpy as np

U64 = np.uint64
DTYPES = {"F64": np.float64, "F32": np.float32, "I64": np.int64}
FOLDER = os.path.dirname(os.path.abspath(__file__))


def fnv1a(name):
    seed = 0xCBF29CE484222325
    for byte in name.encode():
        seed = ((seed ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return seed


def bits(name, count):
    with np.errstate(over="ignore"):
        z = U64(fnv1a(name)) + np.arange(1, count + 1, dtype=U64) * U64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> U64(30))) * U64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> U64(27))) * U64(0x94D049BB133111EB)
        return z ^ (z >> U64(31))


def unit(name, count):
    return ((bits(name, count) >> U64(40)).astype(np.float64) - 2.0**23) / 2.0**23


def formula_value(name, shape, fan_in):
    """The value of one parameter or state; fan_in None for those of a batch norm."""
    raw = unit(name, int(np.prod(shape)))
    if fan_in is not None:
        value = raw / np.sqrt(float(fan_in))
    elif name.endswith(".weight") or name.endswith(".running_var"):
        value = 1.0 + 0.25 * raw
    else:
        value = 0.25 * raw
    return value.astype(np.float32).astype(np.float64).reshape(shape)


def summary(name, tensor):
    flat = np.asarray(tensor, dtype=np.float64).reshape(-1)
    products = [np.dot(flat, unit("%s#%d" % (name, j), flat.size)) for j in range(4)]
    return np.array([np.linalg.norm(flat)] + products)


def versions():
    import torch

    return {
        "python": sys.version.split()[0],
        "numpy": np.__version__,
        "torch": torch.__version__,
    }


def write_safetensors(path, tensors, metadata):
    """tensors: name -> array of float64, float32 or int64.

    Eight-byte types come first, so that all are aligned.
    """
    names = {np.dtype(t): n for n, t in DTYPES.items()}
    header = {"__metadata__": {k: str(v) for k, v in metadata.items()}}
    order = sorted(tensors, key=lambda name: -np.asarray(tensors[name]).dtype.itemsize)
    offset, blobs = 0, []
    for name in order:
        array = np.asarray(tensors[name], order="C")
        end = offset + array.nbytes
        header[name] = {
            "dtype": names[array.dtype],
            "shape": list(array.shape),
            "data_offsets": [offset, end],
        }
        offset = end
        blobs.append(array.tobytes())
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path + ".tmp", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + b"".join(blobs))
    os.replace(path + ".tmp", path)


def read_safetensors(path):
    """(tensors, metadata) of a file."""
    with open(path, "rb") as file:
        data = file.read()
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + length])
    metadata = header.pop("__metadata__", {})
    tensors = {}
    for name, entry in header.items():
        begin, end = (8 + length + offset for offset in entry["data_offsets"])
        array = np.frombuffer(data[begin:end], dtype=DTYPES[entry["dtype"]])
        tensors[name] = array.reshape(entry["shape"])
    return tensors, metadata
