"""The notebook's network as a PyTorch module, and the fixture notebook.safetensors made from it.

    python3 tests/golden/notebook.py            writes tests/golden/notebook.safetensors

For batches of 2 and of 3 images of 3x96x96, in float64, by the formula in base.py, which also says
what a summary is; <b> is batch2 or batch3:

    init/<name>                 summary of each parameter and state before (checks the formula)
    <b>/eval/logits, <b>/eval/loss
                                in evaluation mode, with the initial running statistics
    <b>/logits, <b>/loss        in training mode
    <b>/grad/<name>             summary of each parameter's gradient
    <b>/state/<name>            summary of each running statistic after that forward pass
"""

import os

import numpy as np
import torch
import torch.nn as nn

import base


class Residual(nn.Module):
    def __init__(self, cin, cout, same):
        super().__init__()
        self.conv1 = nn.Conv2d(cin, cout, 3, stride=1 if same else 2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(cout)
        self.conv2 = nn.Conv2d(cout, cout, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(cout)
        self.conv3 = None if same else nn.Conv2d(cin, cout, 1, stride=2)
        self.relu = nn.ReLU()

    def forward(self, x):
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))  # yes, before the sum too
        shortcut = x if self.conv3 is None else self.conv3(x)
        return self.relu(shortcut + out)


class Notebook(nn.Module):
    def __init__(self):
        super().__init__()
        self.block1 = nn.Conv2d(3, 64, 7, stride=2)
        self.block2 = nn.Sequential(
            nn.MaxPool2d(3, 2), Residual(64, 64, True), Residual(64, 64, True)
        )
        self.block3 = nn.Sequential(Residual(64, 128, False), Residual(128, 128, True))
        self.block4 = nn.Sequential(Residual(128, 256, False), Residual(256, 256, True))
        self.block5 = nn.Sequential(
            Residual(256, 512, False), Residual(512, 512, True), nn.AvgPool2d(3)
        )
        self.classifier = nn.Linear(512, 10)

    def forward(self, x):
        for block in (self.block1, self.block2, self.block3, self.block4, self.block5):
            x = block(x)
        return self.classifier(torch.flatten(x, 1))


def fan_in_of(model, name):
    """C*R*S of the layer that owns a parameter; None for a batch norm's."""
    layer = model.get_submodule(name.rpartition(".")[0])
    return None if isinstance(layer, nn.BatchNorm2d) else layer.weight[0].numel()


def fill(model, prefix=""):
    """Gives every parameter and state its value by the formula, named prefix + name."""
    state = {}
    for name, old in model.state_dict().items():
        if name.endswith("num_batches_tracked"):
            state[name] = torch.zeros_like(old)
            continue
        value = base.formula_value(prefix + name, tuple(old.shape), fan_in_of(model, name))
        state[name] = torch.from_numpy(value).to(old.dtype)
    model.load_state_dict(state)


def batch(count, size, prefix="", classes=10):
    """Images and labels by the formula; a smaller batch is the start of a larger one."""
    image = base.unit(prefix + "image", count * 3 * size * size).reshape(count, 3, size, size)
    label = (base.bits(prefix + "label", count) % base.U64(classes)).astype(np.int64)
    return torch.from_numpy(image), torch.from_numpy(label)


def running(model):
    """The running statistics, by name."""
    return {n: t.clone() for n, t in model.state_dict().items() if ".running_" in n}


def evaluate(model, image, label):
    model.eval()
    with torch.no_grad():
        logits = model(image)
        loss = nn.functional.cross_entropy(logits, label)
    model.train()
    return logits.numpy(), loss.numpy().reshape(1)


def loss_and_gradients(model, image, label):
    """One forward pass in training mode and its backward pass."""
    model.train()
    model.zero_grad(set_to_none=True)
    logits = model(image)
    loss = nn.functional.cross_entropy(logits, label)
    loss.backward()
    gradients = {name: p.grad.numpy().copy() for name, p in model.named_parameters()}
    return logits.detach().numpy(), loss.detach().numpy().reshape(1), gradients


def nearest_kink(model, image):
    """How near a forward pass in training mode comes to where the gradient jumps.

    The smallest |input| of a ReLU, exact zeros (sums of two ReLUs) aside, and the smallest lead of
    a maximum over the next in a pool's window (pools without padding).
    """
    seen = []

    def look_relu(_, inputs):
        x = inputs[0].abs()
        seen.append(float(x[x > 0].min()))

    def look_maxpool(pool, inputs):
        size, stride = pool.kernel_size, pool.stride
        windows = inputs[0].unfold(2, size, stride).unfold(3, size, stride)
        top = windows.flatten(4).topk(2).values
        seen.append(float((top[..., 0] - top[..., 1]).min()))

    looks = {nn.ReLU: look_relu, nn.MaxPool2d: look_maxpool}
    layers = [m for m in model.modules() if type(m) in looks]
    hooks = [m.register_forward_pre_hook(looks[type(m)]) for m in layers]
    with torch.no_grad():
        model(image)
    for hook in hooks:
        hook.remove()
    return min(seen)


def float_error(image, label, logits):
    """Largest difference of a logit computed by PyTorch in float."""
    model = Notebook()
    fill(model)
    single, _, _ = loss_and_gradients(model, image.float(), label)
    return float(np.abs(single - logits).max())


def fixture_of_batch(count):
    """(tensors, metadata)"""
    model = Notebook().double()
    fill(model)
    image, label = batch(count, 96)
    key = "batch%d/" % count
    out = {}
    out[key + "eval/logits"], out[key + "eval/loss"] = evaluate(model, image, label)
    out[key + "logits"], out[key + "loss"], gradients = loss_and_gradients(model, image, label)
    for name, gradient in gradients.items():
        out[key + "grad/" + name] = base.summary(name, gradient)
    for name, value in running(model).items():
        out[key + "state/" + name] = base.summary(name, value)
    facts = {
        "nearest_kink": "%.3e" % nearest_kink(model, image),
        "float_logits_error": "%.3e" % float_error(image, label, out[key + "logits"]),
    }
    return out, {key + fact: text for fact, text in facts.items()}


def main():
    torch.set_num_threads(2)
    model = Notebook().double()
    fill(model)
    tensors, metadata = {}, dict(base.versions(), made_by="tests/golden/notebook.py")
    for name, value in model.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            tensors["init/" + name] = base.summary(name, value)
    for count in (2, 3):
        more, facts = fixture_of_batch(count)
        tensors.update(more)
        metadata.update(facts)
        print("batch %d: loss %.15f" % (count, more["batch%d/loss" % count][0]))
    path = os.path.join(base.FOLDER, "notebook.safetensors")
    base.write_safetensors(path, tensors, metadata)
    print("notebook.safetensors: %d bytes, %s" % (os.path.getsize(path), metadata))


if __name__ == "__main__":
    main()
