#!/usr/bin/env python3
"""Writes resize.txt: Pillow's own bilinear resize of made-up planes, against which test_data.c holds rg_resize_plane.

    python3 make_resize.py > resize.txt        (needs Pillow before 13)

From version 13 on Pillow makes the vertical pass first where height shrinks by over twice as many pixels as width, which
rounds otherwise; rg_resize keeps the order that all versions before it have, and all versions for square images.

A line is `in_h in_w out_h out_w seed hash bytes`: FNV-1a (64 bits) of the output plane and its first bytes. Byte i of
the input is the top byte of the i-th number of the generator x = x*1664525 + 1013904223 (mod 2^32) that starts at seed;
with an odd seed it is 255 where that byte is over 127, else 0, so that sums reach both ends of the range.
"""
from PIL import Image, __version__

SIZES = [(32, 32, 96, 96), (32, 32, 40, 17), (96, 96, 32, 32), (32, 32, 32, 32), (32, 32, 224, 224), (1, 1, 5, 7),
         (5, 7, 1, 1), (3, 1000, 2, 3), (1000, 3, 7, 3), (64, 48, 48, 64), (37, 53, 53, 37), (2, 2, 3, 3), (224, 224, 96, 96)]


def plane(count, seed):
    x, out = seed, bytearray()
    for _ in range(count):
        x = (x * 1664525 + 1013904223) & 0xFFFFFFFF
        byte = x >> 24
        out.append((255 if byte > 127 else 0) if seed % 2 else byte)
    return bytes(out)


def fnv(data):
    h = 0xCBF29CE484222325
    for byte in data:
        h = ((h ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return h


print(f"# Pillow {__version__}; made by make_resize.py")
for number, (in_h, in_w, out_h, out_w) in enumerate(SIZES):
    for seed in (2 * number + 2, 2 * number + 1):
        image = Image.frombytes("L", (in_w, in_h), plane(in_h * in_w, seed))
        out = image.resize((out_w, out_h), Image.BILINEAR).tobytes()
        print(in_h, in_w, out_h, out_w, seed, f"{fnv(out):016x}", out[:16].hex())
