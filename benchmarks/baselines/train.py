"""Trains networks by a plain loop, one after the other, without anything of this project.

    python -m baselines.train IMAGES.npy --instances 8 --steps 2000                 # DCGANs
    python -m baselines.train IMAGES.npy G.safetensors ... --instances 8 --steps 2000  # classifiers

The reals are one float tensor in memory, which is faster here than a DataLoader.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from baselines import classifier_loop, dcgan_loop


def main() -> None:
    """Train so many networks."""
    parser = argparse.ArgumentParser(description="Train networks one after the other.")
    parser.add_argument("images", type=Path, help=".npy file of uint8 [N, 1, 28, 28]")
    parser.add_argument("generators", type=Path, nargs="*", help="frozen; safetensors files")
    parser.add_argument("--instances", type=int, default=8)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--threads", type=int, help="torch's own number if not given")
    options = parser.parse_args()
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    images = torch.from_numpy(np.load(options.images, allow_pickle=False)).float() / 127.5 - 1
    generators = [classifier_loop.load_generator(path) for path in options.generators]
    for instance in range(options.instances):
        torch.manual_seed(instance)
        if generators:
            classifier_loop.train(images, generators, options.steps)
        else:
            dcgan_loop.train(images, options.steps)


if __name__ == "__main__":
    main()
