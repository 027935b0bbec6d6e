"""The names of the measures in the tables.

A measure of pairs is a column of detections.csv. A metric of quality is the start of a column's
name, followed by its protocol: `fid_lenet_4k` is the Frechet distance of 4,000 generated images in
features of the packaged LeNet.
"""

from __future__ import annotations

# detections.csv, a row per generator instance and classifier instance
DETECTION_RATE = "detection_rate"
REAL_ACCURACY = "real_accuracy"
AUC = "auc"
BALANCED_ACCURACY = "balanced_accuracy"
AVERAGE_PRECISION = "average_precision"
DETECTION_AT_1PCT = "detection_at_1pct_false_alarms"
DETECTION_AT_5PCT = "detection_at_5pct_false_alarms"
EQUAL_ERROR_RATE = "equal_error_rate"
CALIBRATION_ERROR = "calibration_error"
C2ST_LOG10_P = "c2st_log10_p"
DETECTION_MEASURES = (  # in the order of the columns
    DETECTION_RATE,
    REAL_ACCURACY,
    AUC,
    BALANCED_ACCURACY,
    AVERAGE_PRECISION,
    DETECTION_AT_1PCT,
    DETECTION_AT_5PCT,
    EQUAL_ERROR_RATE,
    CALIBRATION_ERROR,
    C2ST_LOG10_P,
)

# quality.csv, a row per generator instance
FID = "fid"
FRECHET = "frechet"  # the same distance on an extractor whose features nobody calls FID's
KID = "kid"
KID_STD = "kid_std"
PRECISION = "precision"
RECALL = "recall"
DENSITY = "density"
COVERAGE = "coverage"
CLASS_ENTROPY = "class_entropy"
MISSING_CLASSES = "missing_classes"
MEMORISED = "memorised"
_AFTER_FRECHET = (
    KID,
    KID_STD,
    PRECISION,
    RECALL,
    DENSITY,
    COVERAGE,
    CLASS_ENTROPY,
    MISSING_CLASSES,
    MEMORISED,
)
METRICS = (FID, *_AFTER_FRECHET)  # of an extractor with FID, in the order of the columns

FID_EXTRACTORS = frozenset({"inception", "lenet"})


def name_frechet(extractor: str) -> str:
    """Return the name of the Frechet distance in features of an extractor: FID or FRECHET."""
    return FID if extractor in FID_EXTRACTORS else FRECHET


def list_metrics(extractor: str) -> tuple[str, ...]:
    """List the metrics of quality of an extractor, in the order of the columns."""
    return (name_frechet(extractor), *_AFTER_FRECHET)


def name_metric(metric: str, num_images: int, extractor: str) -> str:
    """Name a metric's column.

    Args:
        metric: one of `list_metrics`.
        num_images: number of generated images; whole thousands are written as "4k".
        extractor: name of the feature extractor.
    """
    whole_thousands = num_images >= 1000 and num_images % 1000 == 0
    count = f"{num_images // 1000}k" if whole_thousands else str(num_images)
    return f"{metric}_{extractor}_{count}"


def find_metric_of(column: str) -> str | None:
    """Return the metric that a column of quality.csv holds, or None for another column.

    It is the longest that the name starts with: "kid_std_lenet_4k" is no "kid".
    """
    metrics = [metric for metric in (FRECHET, *METRICS) if column.startswith(f"{metric}_")]
    return max(metrics, key=len, default=None)
