"""The names of the measures in the tables: columns of detections.csv, and metrics of quality.

A metric is the start of a column's name, before its protocol: `fid_lenet_4k` is the Frechet
distance of 4,000 generated images in features of the packaged LeNet, `fid_lenet_fashion_mnist_4k`
that in features of a LeNet trained on Fashion-MNIST.
"""

from __future__ import annotations

import re

DETECTION_MEASURES = (  # of detections.csv, a row per pair of instances; see measure_detection
    DETECTION_RATE := "detection_rate",
    REAL_ACCURACY := "real_accuracy",
    AUC := "auc",
    BALANCED_ACCURACY := "balanced_accuracy",
    AVERAGE_PRECISION := "average_precision",
    DETECTION_AT_1PCT := "detection_at_1pct_false_alarms",
    DETECTION_AT_5PCT := "detection_at_5pct_false_alarms",
    EQUAL_ERROR_RATE := "equal_error_rate",
    CALIBRATION_ERROR := "calibration_error",
    C2ST_LOG10_P := "c2st_log10_p",
    MEDIAN_SCORE := "median_score",
    MEDIAN_SCORE_REAL := "median_score_real",
)
PERTURBED_MEASURES = (  # of perturbations.csv; see measure_perturbed
    DETECTION_RATE,
    REAL_ACCURACY,
    AUC,
    DETECTION_AT_DEV_5PCT := "detection_at_5pct",
)
CONTROLLED_MEASURES = (  # of controls.csv
    DETECTION_RATE,
    REAL_ACCURACY,
    AUC,
    MEDIAN_SCORE,
    MEDIAN_SCORE_REAL,
)
METRICS = (  # of quality.csv, a row per generator instance
    FID := "fid",
    KID := "kid",
    "kid_std",
    PRECISION := "precision",
    RECALL := "recall",
    "density",
    COVERAGE := "coverage",
    CLASS_ENTROPY := "class_entropy",
    MISSING_CLASSES := "missing_classes",
    MEMORISED := "memorised",
)
LOSS_DISCRIMINATOR = "loss_discriminator"  # of a training, in nats
JUDGE_BEST_AUC = "judge_best_auc"  # of the best judge outside the loop on a GAN cohort
FRECHET = "frechet"  # the name of FID's distance in features of an extractor that has no FID


def name_features(extractor: str, data_name: str) -> str:
    """Name the features of an extractor in columns of tables.

    Those of an extractor that a study's own reals trained, NAME_on_reals, have the data's name.
    """
    name, is_own, _ = extractor.partition("_on_reals")
    return f"{name}_{re.sub('[^A-Za-z0-9]+', '_', data_name)}" if is_own else extractor


def name_metric(metric: str, num_images: int, features: str, is_fid: bool = True) -> str:
    """Name the column of a metric of so many generated images; whole thousands are as in "4k".

    FID in features of an extractor that has none is called FRECHET.
    """
    name = FRECHET if metric == FID and not is_fid else metric
    whole_thousands = num_images >= 1000 and num_images % 1000 == 0
    count = f"{num_images // 1000}k" if whole_thousands else str(num_images)
    return f"{name}_{features}_{count}"


def find_metric_of(column: str) -> str | None:
    """Return the metric that a column of quality.csv holds, or None for another column."""
    metrics = [metric for metric in (FRECHET, *METRICS) if column.startswith(f"{metric}_")]
    return max(metrics, key=len, default=None)  # "kid_std_lenet_4k" is no "kid"
