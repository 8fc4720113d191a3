"""Losses of PyTorch's training of the reference network, and how resgen's compare with them.

    torch_losses.py init FILE.safetensors        PyTorch's initialisation, which both start from
    torch_losses.py data DIR                     a made-up data set in CIFAR-10's binary version
    torch_losses.py train DIR --init=FILE --steps=N [--precision=f32|tf32|bf16] [--device=cuda]
                                                 JSON: "losses", and "double": the first of them in
                                                 double precision; unshuffled batches of 64
    torch_losses.py compare OURS.txt THEIRS.json --precision=P
                                                 resgen's lines "... loss X"; status 1 where they part

The first loss comes before any update: it must be PyTorch's in double to what a format's roundings
make of it, a mean of logits that went through some twenty layers whose roundings know nothing of
each other, so 5 unit roundoffs, the root of twenty (f32: 1e-5, for long sums in whatever order). The next ones follow updates by Adam, whose
first divides each gradient by itself: PyTorch's own f32 is then off by 1e-2 from its double (and as
much from itself in another memory format). resgen must be no farther from the double than that,
with a factor of DRIFT, since each is one draw of the same chance. Later the means of fifty losses
must lie within a tenth of each other.
"""

import argparse
import json
import os
import re
import sys

FOLDER = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(FOLDER, "..", "..", "tests", "golden"))

BATCH, DOUBLE, LAST = 64, 5, 50
FIRST_BOUND = {"f32": 1e-5, "tf32": 5 * 2.0**-10, "f16": 5 * 2.0**-11, "bf16": 5 * 2.0**-9}
DRIFT, LAST_BOUND = 4, 0.1


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("init", "data", "train", "compare"))
    parser.add_argument("file", nargs="+")
    parser.add_argument("--init")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--precision", default="f32", choices=sorted(FIRST_BOUND))
    parser.add_argument("--device", default="cuda")
    return parser.parse_args()


def write_init(path):
    import torch

    import base
    import notebook

    torch.manual_seed(0)
    state = notebook.Notebook().state_dict()
    base.write_safetensors(path, {n: v.numpy() for n, v in state.items()}, base.versions())


def write_data(folder):
    """Each class has a colour and a stripe of its own under noise; three labels in ten are wrong,
    so that the loss stays near one and means of it can be compared."""
    import numpy as np

    rng, rows = np.random.default_rng(0), np.arange(32)
    os.makedirs(folder, exist_ok=True)
    names = ["data_batch_%d.bin" % i for i in range(1, 6)] + ["test_batch.bin"]
    for name in names:
        labels = rng.integers(0, 10, 10000)
        stripe = 60 * np.sin(rows[None, :] * (1 + labels[:, None]) / 5)
        colour = 12 * ((labels[:, None] * np.array([1, 3, 7])) % 10)
        pixels = 60 + colour[:, :, None, None] + stripe[:, None, :, None]
        pixels = pixels + rng.integers(-40, 41, (10000, 3, 32, 32))
        records = np.empty((10000, 3073), dtype=np.uint8)
        records[:, 0] = np.where(rng.random(10000) < 0.3, rng.integers(0, 10, 10000), labels)
        records[:, 1:] = np.clip(pixels, 0, 255).reshape(10000, -1).astype(np.uint8)
        records.tofile(os.path.join(folder, name))


def batch(pixels, labels, step, like):
    """One batch on the model's device, in its type."""
    import torch

    import cifar

    part = slice(step * BATCH, (step + 1) * BATCH)
    image = torch.from_numpy(cifar.normalise(cifar.resize(pixels[part], 96)))
    image = image.to(like.device, like.dtype, memory_format=torch.channels_last)
    return image, torch.from_numpy(labels[part]).to(like.device)


def losses_of(args, data, steps, dtype, half):
    import torch

    import base
    import notebook

    model, losses = notebook.Notebook(), []
    tensors, _ = base.read_safetensors(args.init)
    model.load_state_dict({n: torch.from_numpy(t.copy()) for n, t in tensors.items()})
    model = model.to(args.device, dtype, memory_format=torch.channels_last)
    adam = torch.optim.Adam(model.parameters(), lr=1e-3)
    for step in range(steps):
        image, label = batch(*data, step, model.classifier.weight)
        adam.zero_grad(set_to_none=True)
        with torch.autocast(args.device, torch.bfloat16, enabled=half):
            loss = torch.nn.functional.cross_entropy(model(image), label)
        loss.backward()
        adam.step()
        losses.append(loss.detach())
    return torch.stack(losses).tolist()


def train(folder, args):
    import torch

    import cifar

    tf32 = args.precision == "tf32"
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
    data, half = cifar.read_train(folder, args.steps * BATCH), args.precision == "bf16"
    losses = losses_of(args, data, args.steps, torch.float32, half)
    double = losses_of(args, data, min(DOUBLE, args.steps), torch.float64, False)
    print(json.dumps({"losses": losses, "double": double}))


def mean(values):
    return sum(values) / len(values)


def farthest(losses, double):
    """From the double, of the losses after the first."""
    return max([abs(a - b) for a, b in zip(losses[1:], double[1:])], default=0.0)


def compare(ours_path, theirs_path, precision):
    with open(ours_path) as file:
        ours = [float(x) for x in re.findall(r"step \d+ loss (\S+)", file.read())]
    with open(theirs_path) as file:
        read = json.load(file)
    theirs, double, bound = read["losses"], read["double"], FIRST_BOUND[precision]
    if not ours or len(ours) != len(theirs):
        sys.exit("%d losses of resgen, %d of PyTorch" % (len(ours), len(theirs)))
    first = abs(ours[0] / double[0] - 1)
    drift, allowed = farthest(ours, double), DRIFT * farthest(theirs, double) + bound * double[0]
    mine, other = mean(ours[-LAST:]), mean(theirs[-LAST:])
    print("resgen's first losses %s" % ours[: len(double)])
    print("PyTorch's             %s" % theirs[: len(double)])
    print("in double             %s" % double)
    told = (precision, first, bound, drift, allowed, LAST, mine, other)
    print("%s: first loss off by %.1e (%.1e), next by %.4f (%.4f), last %d: %.4f and %.4f" % told)
    return first <= bound and drift <= allowed and abs(mine / other - 1) <= LAST_BOUND


def main():
    args = arguments()
    if args.what == "init":
        write_init(args.file[0])
    elif args.what == "data":
        write_data(args.file[0])
    elif args.what == "train":
        train(args.file[0], args)
    elif not compare(args.file[0], args.file[1], args.precision):
        sys.exit(1)


if __name__ == "__main__":
    main()
