"""Who detects whom and how good images are, the way that first comes to mind.

For every pair of generator and classifier: load the network and both sets of images, score them,
call scikit-learn. For every generator, and the training reals: torch-fidelity's FID, KID, precision
and recall against the test reals, each call extracting both sets' features. torch's default
threads. Of this project it takes the feature extractor alone. It does less than the project: no
calibration error, no two-sample test, no density, coverage, class entropy or nearest reals.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file
from sklearn import metrics
from torch import Tensor
from torch.utils.data import Dataset
from torch_fidelity import calculate_metrics

from baselines.classifier_loop import Classifier
from knowledge_gaps.evaluation.extractors.lenet import register_extractor

_FORWARD_BATCH = 250
_KID_SUBSET = 1000  # or the number of images, if there are fewer
_PREFIX = "network."  # of the weights' names, beside which nothing is stored
# images in memory need no processes that load them: without, a call is faster
_SETTINGS: dict[str, Any] = {
    "fid": True,
    "kid": True,
    "prc": True,
    "cuda": False,
    "save_cpu_ram": True,
}

Images = npt.NDArray[np.uint8]


class ImageSet(Dataset[Tensor]):
    """Stored images one by one, as torch-fidelity takes them."""

    def __init__(self, path: Path, num_images: int) -> None:
        self._images = torch.from_numpy(load_images(path)[:num_images])

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> Tensor:
        return self._images[index]


def load_images(path: Path) -> Images:
    """Load uint8 [N, 1, 28, 28]."""
    images: Images = np.load(path, allow_pickle=False)
    return images


def load_classifier(path: Path) -> Classifier:
    """Load a trained classifier."""
    weights = load_file(path)
    classifier = Classifier()
    classifier.load_state_dict({key.removeprefix(_PREFIX): weights[key] for key in weights})
    return classifier.eval()


@torch.no_grad()
def score(classifier: Classifier, images: Images) -> npt.NDArray[np.float32]:
    """Return the logits of images."""
    batches = torch.from_numpy(images).split(_FORWARD_BATCH)
    logits: npt.NDArray[np.float32] = torch.cat(
        [classifier(batch.float() / 127.5 - 1) for batch in batches]
    ).numpy()
    return logits


def evaluate_pair(
    generated_file: Path, classifier_file: Path, reals_file: Path
) -> dict[str, float]:
    """Say how well a classifier tells a generator's images from reals."""
    classifier = load_classifier(classifier_file)
    generated = score(classifier, load_images(generated_file))
    reals = score(classifier, load_images(reals_file))
    labels = np.repeat([1, 0], [len(generated), len(reals)])  # generated images are sought
    found = -np.concatenate([generated, reals])
    weights = np.where(labels == 1, 1 / len(generated), 1 / len(reals))
    false_alarms, detections, _ = metrics.roc_curve(labels, found, drop_intermediate=False)
    called = found >= 0
    return {
        "detection_rate": metrics.recall_score(labels, called),
        "real_accuracy": metrics.recall_score(labels, called, pos_label=0),
        "auc": metrics.roc_auc_score(labels, found),
        "balanced_accuracy": metrics.balanced_accuracy_score(labels, called),
        "average_precision": metrics.average_precision_score(labels, found, sample_weight=weights),
        "detection_at_1pct_false_alarms": float(detections[false_alarms <= 0.01].max()),
        "detection_at_5pct_false_alarms": float(detections[false_alarms <= 0.05].max()),
    }


def evaluate_images(images_file: Path, reals_file: Path, num_images: int) -> dict[str, float]:
    """Say how close images are to reals."""
    found: dict[str, float] = calculate_metrics(
        input1=ImageSet(images_file, num_images),
        input2=ImageSet(reals_file, num_images),
        feature_extractor=register_extractor(),
        kid_subset_size=min(_KID_SUBSET, num_images),
        verbose=False,
        **_SETTINGS,
    )
    return found


def main() -> None:
    """Evaluate all pairs, or all sets of images."""
    parser = argparse.ArgumentParser(description="Evaluate pair by pair.")
    parser.add_argument("--stage", choices=["detections", "quality"], required=True)
    parser.add_argument("--reals", type=Path, nargs=2, help="test and training reals, .npy")
    parser.add_argument("--samples", type=Path, nargs="+", help="of a generator each, .npy")
    parser.add_argument("--classifiers", type=Path, nargs="+", help="safetensors files")
    options = parser.parse_args()
    test, train = options.reals
    if options.stage == "detections":
        for generated in options.samples:
            for classifier in options.classifiers:
                evaluate_pair(generated, classifier, test)
        return
    num_images = len(load_images(options.samples[0]))
    for images in [*options.samples, train]:
        evaluate_images(images, test, num_images)


if __name__ == "__main__":
    main()
