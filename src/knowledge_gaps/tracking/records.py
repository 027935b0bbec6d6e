"""What MLflow shows of one trained instance, from its directory; nothing here knows mlflow.

Names of parameters and metrics are the keys of meta.json, curves.csv and the two tables, joined
by "." (settings) or "/" (who was measured against whom). Metrics of the tables are in
`measurements`; `sync` and `live` write what is collected here.
"""

from __future__ import annotations

import csv
import json
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from knowledge_gaps.core.errors import UserError
from knowledge_gaps.core.files import hash_file, read_json
from knowledge_gaps.core.layout import (
    COHORT_FILE,
    META_FILE,
    get_cohort_directory,
    get_instance_directory,
)
from knowledge_gaps.tracking.dvc_lock import read_stages

STUDY = "kgaps.study"
ROLE = "kgaps.role"  # "study" for the parent run, "instance" for its children
KIND = "kgaps.kind"
COHORT = "kgaps.cohort"
INSTANCE = "kgaps.instance"
META_SHA256 = "kgaps.meta_sha256"  # what a finished run is recognised by
CURRENT = "kgaps.current"  # "false" once the instance was trained again and differs
GIT_COMMIT = "kgaps.git_commit"
DVC_MD5 = "kgaps.dvc_md5"
DATA_SHA256 = "kgaps.data_sha256"
WEIGHTS_SHA256 = "kgaps.weights_sha256"
POOL = "kgaps.pool"

Point = tuple[str, float, int]  # name, value, step

_FIRST_PARAMS = ("phi", "fooling", "fools", "detects", "recipe")  # then the rest by name
_TOP_LEVEL_PARAMS = ("architecture", "seed", "steps", "images_seen")
_INPUTS = (".", ":(exclude)dvc.lock", ":(exclude)reports")  # dvc repro itself writes the others
_GIT_SEC = 10


@dataclass(frozen=True)
class InstanceRecord:
    """One trained instance as its directory tells it.

    Attributes:
        kind: "gans" or "classifiers".
        cohort: the cohort's name.
        instance: 0, 1, ...
        directory: models/KIND/COHORT/INSTANCE.
        meta: the content of meta.json.
        meta_sha256: sha256 of meta.json, which names every other file by its sha256.
    """

    kind: str
    cohort: str
    instance: int
    directory: Path
    meta: Mapping[str, Any]
    meta_sha256: str

    @property
    def key(self) -> tuple[str, str, int]:
        """Kind, cohort and instance."""
        return self.kind, self.cohort, self.instance

    @property
    def weights_sha256(self) -> str:
        """The sha256 of the weights that others are trained against."""
        return str(self.meta["files"][self.meta["weights"]])


def read_cohort(root: Path, kind: str, cohort: str) -> list[InstanceRecord]:
    """Read the trained instances of a cohort; an empty list when it has not been trained yet.

    Raises:
        UserError: when a meta.json is missing or is not the one that cohort.json recorded.
    """
    manifest = get_cohort_directory(root, f"{kind}/{cohort}") / COHORT_FILE
    if not manifest.is_file():
        return []
    records = []
    for entry in read_json(manifest)["instances"]:
        instance, recorded = int(entry["instance"]), str(entry["sha256"])
        path = get_instance_directory(root, f"{kind}/{cohort}", instance) / META_FILE
        found = hash_file(path)
        if found != recorded:
            raise UserError(f"{path}: sha256 is {found}, {COHORT_FILE} recorded {recorded}")
        meta = read_json(path)
        records.append(InstanceRecord(kind, cohort, instance, path.parent, meta, found))
    return records


def clean_name(name: str) -> str:
    """Replace the characters that MLflow refuses in names of metrics and parameters by "_"."""
    parts = [re.sub(r"[^A-Za-z0-9_.-]", "_", part) for part in name.split("/")]
    return "/".join(part if part.strip(".") else "_" for part in parts)


def flatten(values: Mapping[str, Any], separator: str, prefix: str = "") -> dict[str, Any]:
    """Flatten nested mappings: {"a": {"b": 1}} becomes {"a.b": 1} with separator "."."""
    flat: dict[str, Any] = {}
    for key in sorted(values):
        name, value = prefix + clean_name(str(key)), values[key]
        if isinstance(value, Mapping):
            flat |= flatten(value, separator, name + separator)
        else:
            flat[name] = value
    return flat


def collect_params(meta: Mapping[str, Any]) -> dict[str, str]:
    """Collect the parameters of a run, phi first.

    Args:
        meta: meta.json, or as much of it as is known before the training.

    Returns:
        Strings as they are; everything else as JSON.
    """
    settings = flatten(meta.get("cohort_settings", {}), ".")
    values = {name: settings.pop(name) for name in _FIRST_PARAMS if name in settings}
    values |= {name: meta[name] for name in _TOP_LEVEL_PARAMS if name in meta}
    values |= settings | flatten(meta.get("settings", {}), ".", "settings.")
    return {k: v if isinstance(v, str) else json.dumps(v) for k, v in values.items()}


def collect_inputs(meta: Mapping[str, Any]) -> dict[str, str]:
    """Collect the tags that name what the instance was trained on: data and pool members."""
    lineage = meta.get("lineage", {})
    tags = {}
    if "data" in lineage:
        tags[DATA_SHA256] = str(lineage["data"]["sha256"])
    for index, member in enumerate(lineage.get("pool", [])):
        name = f"{member['cohort']}/{member['instance']}"
        tags[f"{POOL}.{index}"] = f"{name} sha256={member['sha256']}"
    return tags


def collect_tags(record: InstanceRecord) -> dict[str, str]:
    """Collect the tags of a finished run, but for those that depend on MLflow's own state."""
    versions = record.meta.get("versions", {})
    return {
        CURRENT: "true",
        WEIGHTS_SHA256: record.weights_sha256,
        **collect_inputs(record.meta),
        **{f"kgaps.version.{clean_name(name)}": str(versions[name]) for name in sorted(versions)},
    }


def read_curves(path: Path) -> list[Point]:
    """Read curves.csv as points of metrics; cells that hold no number are left out."""
    points = []
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            step = int(row.pop("step"))
            for name, cell in row.items():
                value = parse_number(cell)
                if value is not None:
                    points.append((clean_name(name), value, step))
    return points


def parse_number(cell: str | None) -> float | None:
    """Read a cell of a CSV file; None when it holds no number."""
    try:
        return float(cell) if cell else None
    except ValueError:
        return None


def read_dvc_hashes(root: Path) -> dict[tuple[str, str], str]:
    """Read the md5 of every cohort's directory from dvc.lock: (kind, cohort) to md5.

    Raises:
        UserError: when dvc.lock is damaged.
    """
    stages = read_stages(root)
    hashes = {}
    for stage in sorted(stages):
        kind, _, cohort = stage.partition("@")
        for out in stages[stage].get("outs", []):
            directory = get_cohort_directory(Path(), f"{kind}/{cohort}")
            if out.get("path") == directory.as_posix() and "md5" in out:
                hashes[kind, cohort] = str(out["md5"])
    return hashes


def describe_commit(root: Path) -> dict[str, str]:
    """Name the git commit as a tag; {} without git.

    Returns:
        The commit, with "-dirty" when a tracked file differs that is no result.
    """
    try:
        commit = _run_git(root, "rev-parse", "HEAD")
        changes = _run_git(root, "status", "--porcelain", "--untracked-files=no", "--", *_INPUTS)
    except (OSError, subprocess.SubprocessError):
        return {}
    return {GIT_COMMIT: commit + ("-dirty" if changes else "")}


def _run_git(root: Path, *arguments: str) -> str:
    command = ["git", "--no-optional-locks", "-C", str(root), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_GIT_SEC, check=True)
    return done.stdout.strip()
