"""CIFAR-10's binary version, resized as PIL's bilinear does and normalised as the notebook does.

    python3 tests/golden/cifar.py DIR       compares the resize with python3-pil's, bit by bit
"""

import os
import sys

import numpy as np

PRECISION = 22  # Pillow's Resample.c: fixed point of the coefficients


def read_train(folder, count):
    """The first images of the training files: (uint8 [count][3][32][32], int64 labels)."""
    if os.path.isdir(os.path.join(folder, "cifar-10-batches-bin")):
        folder = os.path.join(folder, "cifar-10-batches-bin")
    pixels, labels = [], []
    for index in range(1, 6):
        records = np.fromfile(os.path.join(folder, "data_batch_%d.bin" % index), dtype=np.uint8)
        records = records.reshape(-1, 3073)[: count - sum(map(len, labels))]
        labels.append(records[:, 0].astype(np.int64))
        pixels.append(records[:, 1:].reshape(-1, 3, 32, 32))
        if sum(map(len, labels)) == count:
            break
    return np.concatenate(pixels), np.concatenate(labels)


def coefficients(size_in, size_out):
    """Integer weights [size_out][size_in] of the triangle filter."""
    scale = size_in / size_out
    support = max(scale, 1.0)
    table = np.zeros((size_out, size_in), dtype=np.int64)
    for i in range(size_out):
        center = (i + 0.5) * scale
        first = max(int(center - support + 0.5), 0)
        last = min(int(center + support + 0.5), size_in)
        place = (np.arange(first, last) - center + 0.5) / support
        weight = np.maximum(1.0 - np.abs(place), 0.0)
        table[i, first:last] = (weight / weight.sum() * (1 << PRECISION) + 0.5).astype(np.int64)
    return table


def resize(pixels, size):
    """uint8 [n][c][h][w] -> uint8 [n][c][size][size]; rounded after each direction, rows first.

    All sums are whole numbers below 2^31: exact in double, whose products numpy is fast at.
    """
    half = 1 << (PRECISION - 1)
    across = coefficients(pixels.shape[3], size).astype(np.float64)
    down = coefficients(pixels.shape[2], size).astype(np.float64)

    def rounded(sums):
        return np.clip((sums.astype(np.int64) + half) >> PRECISION, 0, 255).astype(np.float64)

    return rounded(down @ rounded(pixels.astype(np.float64) @ across.T)).astype(np.uint8)


def normalise(pixels):
    """As torchvision's ToTensor and Normalize(0.5, 0.5), in float."""
    scaled = pixels.astype(np.float32) / np.float32(255)
    return (scaled - np.float32(0.5)) / np.float32(0.5)


def main():
    from PIL import Image

    pixels, _ = read_train(sys.argv[1], 200)
    ours = resize(pixels, 96)
    for image, mine in zip(pixels, ours):
        resized = Image.fromarray(image.transpose(1, 2, 0)).resize((96, 96), Image.BILINEAR)
        assert (np.asarray(resized).transpose(2, 0, 1) == mine).all()
    small = resize(pixels, 20)
    for image, mine in zip(pixels, small):
        resized = Image.fromarray(image.transpose(1, 2, 0)).resize((20, 20), Image.BILINEAR)
        assert (np.asarray(resized).transpose(2, 0, 1) == mine).all()
    print("%d images, 32 -> 96 and 32 -> 20: equal to PIL's" % len(pixels))


if __name__ == "__main__":
    main()
