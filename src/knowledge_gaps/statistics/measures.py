"""The names of the measures in the tables: columns of detections.csv, and metrics of quality.

A metric is the start of a column's name, before its protocol: `fid_lenet_4k` is the Frechet
distance of 4,000 generated images in features of the packaged LeNet.
"""

from __future__ import annotations

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
FRECHET = "frechet"  # the name of FID's distance in features of an extractor that has no FID


def name_metric(metric: str, num_images: int, extractor: str, is_fid: bool = True) -> str:
    """Name the column of a metric of so many generated images; whole thousands are as in "4k".

    FID in features of an extractor that has none is called FRECHET.
    """
    name = FRECHET if metric == FID and not is_fid else metric
    whole_thousands = num_images >= 1000 and num_images % 1000 == 0
    count = f"{num_images // 1000}k" if whole_thousands else str(num_images)
    return f"{name}_{extractor}_{count}"


def find_metric_of(column: str) -> str | None:
    """Return the metric that a column of quality.csv holds, or None for another column."""
    metrics = [metric for metric in (FRECHET, *METRICS) if column.startswith(f"{metric}_")]
    return max(metrics, key=len, default=None)  # "kid_std_lenet_4k" is no "kid"
