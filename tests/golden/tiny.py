"""The tiny network of specs/tiny/tiny_residual.lua as a PyTorch module, and its fixtures.

    python3 tests/golden/tiny.py        writes, in tests/golden/,
        tiny_init.safetensors, tiny.safetensors,
        tiny_smooth_init.safetensors, tiny_smooth.safetensors

*_init hold parameters and states alone, in float under PyTorch's names, as --init wants them. The
others hold, in float64 (label: I64), from a batch of 4 images of 3x16x16:

    image [4 3 16 16], label [4]
    eval/logits, eval/loss      in evaluation mode, with the initial running statistics
    logits, loss                in training mode
    grad/<name>                 every parameter's gradient
    state/<name>                running statistics after the forward pass in training mode
    adam10/losses [10]          tiny.safetensors only: ten Adam steps on this batch (lr 1e-3), the
    adam10/<name>               loss of each, and all parameters and states after them

tiny_smooth's values come from a seed for which every input of a ReLU keeps at least 1e-4 from zero
(exact zeros aside: where a residual adds two ReLUs' results, zero + zero is zero in any precision),
every maximum of a pool is at least 1e-4 above the next, and PyTorch's own float gradients agree
with double's to 1e-5: there float kernels must give the gradients to 1e-4.
"""

import os

import numpy as np
import torch
import torch.nn as nn

import base
import notebook
from notebook import Residual

BATCH, SIZE, MARGIN = 4, 16, 1e-4


class Tiny(nn.Module):
    def __init__(self):
        super().__init__()
        self.block1 = nn.Conv2d(3, 8, 3, padding=1)
        self.block2 = nn.Sequential(nn.MaxPool2d(2), Residual(8, 8, True), Residual(8, 16, False))
        self.pool = nn.AvgPool2d(4)
        self.classifier = nn.Linear(16, 10)

    def forward(self, x):
        for block in (self.block1, self.block2, self.pool):
            x = block(x)
        return self.classifier(torch.flatten(x, 1))


def filled(prefix, dtype=torch.float64):
    model = Tiny().to(dtype)
    notebook.fill(model, prefix)
    return model


def one_step(prefix):
    """The fixture's tensors but those of Adam."""
    model = filled(prefix)
    image, label = notebook.batch(BATCH, SIZE, prefix)
    out = {"image": image.numpy(), "label": label.numpy()}
    out["eval/logits"], out["eval/loss"] = notebook.evaluate(model, image, label)
    out["logits"], out["loss"], gradients = notebook.loss_and_gradients(model, image, label)
    out.update({"grad/" + name: value for name, value in gradients.items()})
    out.update({"state/" + n: v.numpy() for n, v in notebook.running(model).items()})
    return out


def adam_steps(prefix, count):
    model = filled(prefix)
    image, label = notebook.batch(BATCH, SIZE, prefix)
    adam = torch.optim.Adam(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(count):
        adam.zero_grad(set_to_none=True)
        loss = nn.functional.cross_entropy(model(image), label)
        loss.backward()
        adam.step()
        losses.append(loss.item())
    out = {"adam%d/%s" % (count, n): t.numpy() for n, t in model.state_dict().items()}
    out["adam%d/losses" % count] = np.array(losses)
    return out


def float_error(prefix, exact):
    """Largest relative L2 difference of a gradient computed in float."""
    model = filled(prefix, torch.float32)
    image, label = notebook.batch(BATCH, SIZE, prefix)
    _, _, gradients = notebook.loss_and_gradients(model, image.float(), label)
    errors = []
    for name, value in gradients.items():
        want = exact["grad/" + name]
        errors.append(np.linalg.norm(value - want) / np.linalg.norm(want))
    return max(errors)


def find_smooth_seed():
    for seed in range(10000):
        prefix = "smooth%d:" % seed
        image, _ = notebook.batch(BATCH, SIZE, prefix)
        if notebook.nearest_kink(filled(prefix), image) >= MARGIN:
            return prefix
    raise SystemExit("no seed keeps %g from zero" % MARGIN)


def write(name, prefix, tensors, metadata):
    model = filled(prefix)
    image, _ = notebook.batch(BATCH, SIZE, prefix)
    metadata = dict(base.versions(), made_by="tests/golden/tiny.py", prefix=prefix, **metadata)
    metadata["nearest_kink"] = "%.3e" % notebook.nearest_kink(filled(prefix), image)
    init = {
        n: t.numpy() if t.dtype == torch.int64 else t.numpy().astype(np.float32)
        for n, t in model.state_dict().items()
    }
    for suffix, content in (("_init", init), ("", tensors)):
        path = os.path.join(base.FOLDER, name + suffix + ".safetensors")
        base.write_safetensors(path, content, metadata)
        print("%s: %d bytes" % (os.path.basename(path), os.path.getsize(path)))
    print(metadata)


def main():
    torch.set_num_threads(2)
    tensors = one_step("")
    error = float_error("", tensors)
    tensors.update(adam_steps("", 10))
    write("tiny", "", tensors, {"float_gradient_error": "%.3e" % error})

    prefix = find_smooth_seed()
    image, _ = notebook.batch(BATCH, SIZE, prefix)
    assert notebook.nearest_kink(filled(prefix), image) >= MARGIN
    tensors = one_step(prefix)
    error = float_error(prefix, tensors)
    assert error <= 1e-5, error
    write("tiny_smooth", prefix, tensors, {"float_gradient_error": "%.3e" % error})


if __name__ == "__main__":
    main()
