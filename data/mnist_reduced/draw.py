"""Draw the reduced MNIST sample from the full set, keeping the official splits apart.

    python data/mnist_reduced/draw.py --mnist DIRECTORY_OF_THE_FOUR_IDX_FILES

An image is taken when the sha256 of "SPLIT:INDEX" is among the smallest of its split, so the choice
depends on no library's random numbers; the dev split has the training images that come next. Images
keep the order of the full set.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import struct
from pathlib import Path

import numpy as np
import numpy.typing as npt

from knowledge_gaps.core.files import write_bytes, write_json
from knowledge_gaps.data.idx import CHECKSUMS_FILE, IMAGE_FILES, LABEL_FILES, STORED, load_dataset
from knowledge_gaps.study.schema import DataSettings

# by split of the sample: the official split, and which of its images by rank
RANKS = {
    "train": ("train", slice(0, 20_000)),
    "dev": ("train", slice(20_000, 24_000)),
    "test": ("test", slice(0, 4_000)),
}


def choose_indices(official: str, num_available: int, ranks: slice) -> npt.NDArray[np.int64]:
    """Choose the images of these ranks among an official split; ascending indices."""
    digests = [hashlib.sha256(f"{official}:{i}".encode()).digest() for i in range(num_available)]
    ranked = sorted(range(num_available), key=digests.__getitem__)
    return np.array(sorted(ranked[ranks]))


def write_idx(path: Path, values: npt.NDArray[np.uint8]) -> str:
    """Write an array as gzip-compressed IDX with a fixed timestamp; return the file's sha256."""
    header = struct.pack(f">4B{values.ndim}I", 0, 0, 8, values.ndim, *values.shape)
    return write_bytes(path, gzip.compress(header + values.tobytes(), 9, mtime=0))


def main() -> None:
    """Write the sample and its checksums beside this script."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--mnist", type=Path, required=True, help="folder of the four IDX files")
    arguments = parser.parse_args()
    settings = DataSettings(name="mnist", source="idx", directory=str(arguments.mnist.absolute()))
    dataset = load_dataset(settings, Path.cwd())
    target = Path(__file__).parent
    checksums = {}
    for name, (official, ranks) in RANKS.items():
        images_file, labels_file = STORED[official]
        images, labels = dataset.arrays[images_file][:, 0], dataset.arrays[labels_file]
        chosen = choose_indices(official, len(images), ranks)
        images, labels = images[chosen], labels[chosen].astype(np.uint8)
        for file_name, values in ((IMAGE_FILES[name], images), (LABEL_FILES[name], labels)):
            path = target / f"{file_name}.gz"
            checksums[path.name] = write_idx(path, values)
    write_json(target / CHECKSUMS_FILE, checksums)


if __name__ == "__main__":
    main()
