"""What a fabricated report needs and whose values do not matter to its test."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from knowledge_gaps.report.evidence import choose_cohorts
from knowledge_gaps.study import Study

REPOSITORY = Path(__file__).parents[1]
AUDIT = """\
check,subject,fault,instance,steps,num_images,detection_rate,real_accuracy,auc,p_value,p_holm,num_defects,verdict
replay,cnn,none,0,600,2000,0.500000,0.500000,0.503000,0.740000,1.000000,,pass
control,cnn,truncated,0,600,2000,0.990000,0.990000,0.999000,0.000000,0.000000,,found
round_trip,train,none,,,600,,,,,,0,pass
"""
EVIDENCE_TABLES = (
    "agreement.csv",
    "attributions.csv",
    "audit.csv",
    "neighbours.csv",
    "spectra.csv",
)

DETECTION_FILLERS = {
    "balanced_accuracy": "0.75",
    "average_precision": "0.8",
    "detection_at_1pct_false_alarms": "0.4",
    "detection_at_5pct_false_alarms": "0.6",
    "equal_error_rate": "0.2",
    "calibration_error": "0.1",
    "c2st_log10_p": "-12.5",
}
QUALITY_FILLERS = {
    "kid_std_lenet_4k": "0.001",
    "density_lenet_4k": "0.8",
    "coverage_lenet_4k": "0.7",
    "missing_classes_lenet_4k": "0",
    "memorised_lenet_4k": "0.01",
    "collapse": "intact",
}


def widen(table: str, fillers: dict[str, str]) -> str:
    """Add columns of one value each to a CSV table."""
    header, *rows = table.splitlines()
    lines = [",".join([header, *fillers]), *(",".join([row, *fillers.values()]) for row in rows)]
    return "\n".join(lines) + "\n"


def write_evidence(
    root: Path,
    study: Study,
    audit: str = AUDIT,
    shape: tuple[int, ...] = (1, 28, 28),
) -> None:
    """Write what the stages beside detections and quality leave below a root.

    Args:
        root: of the report.
        study: whose cohorts are named.
        audit: content of audit.csv.
        shape: channels, height, width of the images.
    """
    reports = root / "reports"
    reports.mkdir(parents=True, exist_ok=True)
    (root / "findings.yaml").write_bytes((REPOSITORY / "findings.yaml").read_bytes())
    (reports / "audit.csv").write_text(audit)
    (reports / "attributions.csv").write_text("images\n")
    (reports / "agreement.csv").write_text(
        "classifier_cohort,classifier_a,classifier_b,on_images,num_images,num_errors_a,"
        "num_errors_b,num_errors_both,observed_agreement,expected_agreement,"
        "error_consistency,num_cka_images,cka\n"
    )
    cohort = next(iter(study.gans))
    (reports / "neighbours.csv").write_text(
        "generator_cohort,generator_instance,image,training_image,distance_lenet\n"
        f"{cohort},0,3,1,0.5\n{cohort},0,2,0,0.25\n"
    )
    index = root / "data/attributions/index.json"
    index.parent.mkdir(parents=True, exist_ok=True)
    index.write_text(json.dumps({"gans": None}))
    _write_spectra(root, ["real", "real_train", *choose_cohorts(study)], shape)


def write_attributions(
    root: Path, gans: str, classifiers: str, shape: tuple[int, ...], num_classifiers: int = 3
) -> None:
    """Write what the stage of that name leaves: two sets of images, every pair of classifiers."""
    rng = np.random.default_rng(1)
    directory = root / "data/attributions"
    names, num_images, num_shown = ["real", gans], 32, 6
    for name in names:
        arrays: dict[str, npt.NDArray[Any]] = {
            "images": rng.integers(0, 256, (num_shown, *shape), dtype=np.uint8),
            "attributions": rng.normal(0, 0.1, (num_classifiers, num_shown, *shape)),
            "logits": rng.normal(0, 2, (num_classifiers, num_shown)),
            "mean_absolute": rng.uniform(0, 0.1, (num_classifiers, *shape)),
        }
        (directory / name).mkdir(parents=True, exist_ok=True)
        for file, array in arrays.items():
            stored = array if array.dtype == np.uint8 else array.astype(np.float32)
            np.save(directory / name / f"{file}.npy", stored, allow_pickle=False)
    index = {
        "gans": gans,
        "classifier_cohort": classifiers,
        "classifiers": list(range(num_classifiers)),
        "images": names,
        "num_images": dict.fromkeys(names, num_images),
    }
    (directory / "index.json").write_text(json.dumps(index))
    lines = [
        "images,classifier_cohort,classifier_a,classifier_b,a_in_loss,b_in_loss,num_images,"
        "spearman_mean,spearman_std"
    ]
    for name in names:
        for a, b in combinations(range(num_classifiers), 2):
            rest = f"{str(a == 0).lower()},false,{num_images},{rng.uniform():.6f},0.05"
            lines.append(f"{name},{classifiers},{a},{b},{rest}")
    (root / "reports/attributions.csv").write_text("\n".join(lines) + "\n")


def _write_spectra(root: Path, names: list[str], shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    lines = ["generator_cohort,generator_instance,frequency,power"]
    for name in names:
        powers = rng.uniform(0.5, 1.5, shape[-1] // 2)
        lines += [f"{name},0,{f},{power:.6f}" for f, power in enumerate(powers, start=1)]
        directory = root / "data/spectra" / name
        directory.mkdir(parents=True, exist_ok=True)
        spectra = rng.uniform(0.5, 1.5, (1, *shape[1:])).astype(np.float32)
        fingerprints = rng.normal(0, 0.01, (1, *shape)).astype(np.float32)
        np.save(directory / "residual_spectra.npy", spectra, allow_pickle=False)
        np.save(directory / "fingerprints.npy", fingerprints, allow_pickle=False)
    (root / "reports/spectra.csv").write_text("\n".join(lines) + "\n")
