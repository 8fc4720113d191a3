"""Ten Adam steps of the notebook's network on real images: PyTorch in double and float, and resgen.

    train_reference.py DIR                        trains in double and float, keeps both in WORK
    train_reference.py DIR --write-init           before that writes WORK/a.safetensors (PyTorch's
                                                  default initialisation at seed 0) if missing
    train_reference.py DIR --resgen build/resgen  runs resgen train from it, then compares
    train_reference.py DIR --compare b.safetensors [--losses FILE]

DIR holds CIFAR-10's binary version: the first 640 training images, unshuffled, batch 64, resized as
PIL does. The double run takes minutes, so its result is cached in WORK (--work, build/parity) and
used again while a.safetensors and the versions stay the same.

What counts is |resgen - double| / |float - double|: of all weights as one vector, and of the median
tensor. Single tensors say nothing, since one sign of Adam's first step flips.
"""

import argparse
import hashlib
import json
import os
import re
import subprocess
import sys
import time

import numpy as np
import torch

import base
import cifar
import notebook

BATCH = 64
NUMBER = r"[-+]?[0-9][-+0-9.e]*"


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data")
    parser.add_argument("--work", default="build/parity")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--write-init", action="store_true")
    parser.add_argument("--no-channels-last", action="store_true")
    parser.add_argument("--resgen", metavar="PROGRAM")
    parser.add_argument("--spec", default="specs/resnet18_cifar.lua")
    parser.add_argument("--option", action="append", default=[], help="one more for resgen train")
    parser.add_argument("--compare", metavar="FILE")
    parser.add_argument("--losses", metavar="FILE", help="a line or JSON number for each step")
    parser.add_argument("--limit", type=float, help="exit status 1 where a ratio is larger")
    return parser.parse_args()


def write_init(path):
    torch.manual_seed(0)
    state = notebook.Notebook().state_dict()
    tensors = {name: value.numpy() for name, value in state.items()}
    base.write_safetensors(path, tensors, dict(base.versions(), seed=0))


def batches(data, steps):
    pixels, labels = cifar.read_train(data, steps * BATCH)
    for i in range(steps):
        part = slice(i * BATCH, (i + 1) * BATCH)
        image = cifar.normalise(cifar.resize(pixels[part], 96))
        yield torch.from_numpy(image), torch.from_numpy(labels[part])


def train(init, data, steps, dtype, channels_last):
    """(state after the steps, losses)"""
    model = notebook.Notebook().to(dtype)
    model.load_state_dict({n: torch.from_numpy(t.copy()) for n, t in init.items()})
    if channels_last:
        model = model.to(memory_format=torch.channels_last)
    adam = torch.optim.Adam(model.parameters(), lr=1e-3)
    losses, start = [], time.time()
    for step, (image, label) in enumerate(batches(data, steps)):
        image = image.to(dtype)
        if channels_last:
            image = image.contiguous(memory_format=torch.channels_last)
        adam.zero_grad(set_to_none=True)
        loss = torch.nn.functional.cross_entropy(model(image), label)
        loss.backward()
        adam.step()
        losses.append(float(loss))
        print("%s step %d: loss %.9f, %.0f s" % (dtype, step + 1, losses[-1], time.time() - start))
        sys.stdout.flush()
    state = {n: t.contiguous().numpy() for n, t in model.state_dict().items()}
    return state, losses


def cached(args, init, key, dtype, channels_last):
    """The result of a run, from WORK/<name>.safetensors where that was made from the same start."""
    name = "f64" if dtype == torch.float64 else "f32"
    path = os.path.join(args.work, name + ".safetensors")
    want = dict(base.versions(), start=key, steps=args.steps, channels_last=channels_last)
    want = {k: str(v) for k, v in want.items()}
    if os.path.exists(path):
        tensors, metadata = base.read_safetensors(path)
        losses = json.loads(metadata.pop("losses", "[]"))
        if metadata == want:
            return tensors, losses
    tensors, losses = train(init, args.data, args.steps, dtype, channels_last)
    base.write_safetensors(path, tensors, dict(want, losses=json.dumps(losses)))
    return tensors, losses


def run_resgen(args, init_path):
    """Runs resgen; the path of what it saved and its losses, as far as its output tells them."""
    saved = os.path.join(args.work, "b.safetensors")
    command = [args.resgen, "train", args.spec, "--init=" + init_path, "--data=" + args.data]
    command += ["--no-shuffle", "--steps=%d" % args.steps, "--save=" + saved]
    command += args.option
    print(" ".join(command))
    done = subprocess.run(command, stdout=subprocess.PIPE, universal_newlines=True, check=True)
    return saved, parse_losses(done.stdout, args.steps)


def numbers_of(value):
    """The losses in a JSON value: a list, or "losses", "loss" or "step_loss" of an object."""
    if isinstance(value, dict):
        for key in ("losses", "loss", "step_loss"):
            if key in value:
                return numbers_of(value[key])
        return []
    values = value if isinstance(value, list) else [value]
    return [float(v) for v in values if isinstance(v, (int, float))]


def parse_losses(text, steps):
    """Losses from one JSON text, from JSON lines, or lines of one number or with "loss X"."""
    try:
        return numbers_of(json.loads(text))[:steps]
    except ValueError:
        pass
    losses = []
    for line in text.splitlines():
        try:
            losses += numbers_of(json.loads(line))
        except ValueError:
            found = re.search(r"loss[ =:]+(%s)|^(%s)$" % (NUMBER, NUMBER), line.strip())
            losses += [float(found.group(1) or found.group(2))] if found else []
    return losses[:steps]


def distance(a, b, names):
    return float(np.sqrt(sum(np.sum((a[n].astype(np.float64) - b[n]) ** 2) for n in names)))


def ratio(ours, single, double, names):
    """|ours - double| / |single - double| of these tensors as one vector, and both distances."""
    mine, theirs = distance(ours, double, names), distance(single, double, names)
    return mine / theirs if theirs > 0 else float("inf"), mine, theirs


def compare_losses(ours, single, double):
    """Largest difference from double over the steps, resgen's divided by PyTorch's float's."""
    print("step  double        float - double  resgen - double")
    for i, (d, f, r) in enumerate(zip(double, single, ours), 1):
        print("%4d  %.9f  %+.3e      %+.3e" % (i, d, f - d, r - d))
    worst = [max(abs(a - b) for a, b in zip(other, double)) for other in (ours, single)]
    return worst[0] / max(worst[1], np.finfo(np.float32).eps)


def compare(ours, ours_losses, single, double, single_losses, double_losses):
    """Prints the comparison; the ratios that the limit is for."""
    for name, value in double.items():
        assert name in ours and ours[name].shape == value.shape, name
    weights = [n for n in double if ".running_" not in n and "num_batches" not in n]
    statistics = [n for n in double if ".running_" in n]
    ratios = {}
    for title, names in (("weights", weights), ("running statistics", statistics)):
        each = [ratio(ours, single, double, [n])[0] for n in names]
        whole, mine, theirs = ratio(ours, single, double, names)
        print("%s: |resgen - double| %.3e, |float - double| %.3e" % (title, mine, theirs))
        parts = (whole, np.median(each), max(each))
        print("    ratio %.2f, of the median tensor %.2f, of the largest %.2f" % parts)
        ratios[title], ratios[title + ", median tensor"] = whole, float(np.median(each))
    if len(ours_losses) == len(double_losses):
        ratios["losses"] = compare_losses(ours_losses, single_losses, double_losses)
        print("losses: ratio of the largest differences %.2f" % ratios["losses"])
    else:
        print("losses: %d of %d known, not compared" % (len(ours_losses), len(double_losses)))
    return ratios


def main():
    args = arguments()
    torch.set_num_threads(2)
    os.makedirs(args.work, exist_ok=True)
    init_path = os.path.join(args.work, "a.safetensors")
    if args.write_init and not os.path.exists(init_path):
        write_init(init_path)
    init, _ = base.read_safetensors(init_path)
    with open(init_path, "rb") as file:
        key = hashlib.sha256(file.read()).hexdigest()
    single, single_losses = cached(args, init, key, torch.float32, not args.no_channels_last)
    double, double_losses = cached(args, init, key, torch.float64, False)
    with open(os.path.join(args.work, "losses.json"), "w") as file:
        json.dump({"f64": double_losses, "f32": single_losses}, file, indent=1)
    saved, losses = args.compare, []
    if args.resgen:
        saved, losses = run_resgen(args, init_path)
    if args.losses:
        with open(args.losses) as file:
            losses = parse_losses(file.read(), args.steps)
    if saved:
        ours, _ = base.read_safetensors(saved)
        ratios = compare(ours, losses, single, double, single_losses, double_losses)
        if args.limit and any(value > args.limit for value in ratios.values()):
            sys.exit(1)


if __name__ == "__main__":
    main()
