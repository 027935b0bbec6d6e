"""Compare the headline metrics of a reproduction with the committed ones.

    python .ci/compare_metrics.py CLONE      compare a clone in which `make repro` was run
    python .ci/compare_metrics.py --record   note this machine as the one of the committed numbers

On a machine of the same kind (processor, instruction sets, torch) the numbers, and the hashes of
all models in dvc.lock, must be identical. Elsewhere rounding differs, a GAN's training amplifies
it, and another, equally good study comes out: there, TOLERANCES say how near it must be.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import re
import subprocess
import sys
from pathlib import Path

METRICS_FILE = Path("reports/mnist_reduced/metrics.json")
LOCK_FILE = Path("dvc.lock")
MACHINE_FILE = Path(".ci/reference_machine.json")

# On another kind of machine: the largest absolute difference allowed, by the first pattern that a
# metric's dotted name matches. A headline number is a mean over three chains; two such means of the
# same study differ with 0.8 of the standard deviation over chains (reports/LOG.md: 0.03 in a
# detection rate of baselines, 0.1 to 0.15 in one of GANs that fool classifiers), and limits are
# about four times that. None: not compared there, because another draw can give anything: from
# phi = 1 on whether a held-out classifier says 0 or 1 is a matter of chance.
TOLERANCES: list[tuple[str, float | None]] = [
    # what a sweep is along is a setting, the same everywhere
    (r"^(phi_sweep|truncation)\.[^.]+\.(phi|truncation)$", 0.0),
    (r"^(multi_instance|generalisation)\.[^.]+\.num_(classifiers|generators)$", 0.0),
    (r"^floor\.", 1e-3),
    (r"^audit_(passed|has_power)$", 0.0),
    (r"^verdicts\.", None),
    (r"^(controls|gaps|matched_distortion|perturbations)\.", None),
    (r"^transfer\..*phi_1e[12]$", None),
    (r"^transfer\.", 0.5),
    (r"^real_accuracy\.", 0.03),
    (r"^generalisation\.", 0.4),
    (r"^held_out_detection\.iteration_0\.baseline$", 0.1),
    (r"^held_out_detection\.(\w+)\.baseline$", 0.2),
    (r"^(memoryless_|memory_)?held_out_detection\.", 0.4),
    (r"^(multi_instance|mutual_fooling)\.([^.]+\.)?held_out_detection$", 0.25),
    (r"^(multi_instance|mutual_fooling)\.([^.]+\.)?in_loss_detection$", 0.15),
    (r"^truncation\.", 0.15),
    (r"^in_loss_detection\.", 0.15),
    (r"^judge_best_auc\.", 0.05),
    (r"^phi_sweep\.phi_1e-\d\.fid", 5.0),
    (r"^phi_sweep\.phi_1e-\d\.class_entropy", 0.15),
    (r"^phi_sweep\.phi_1e-\d\.(held_out|in_loss)", 0.4),
    (r"^phi_sweep\.phi_1e\d\.in_loss_detection$", 0.1),
    (r"^phi_sweep\.", None),
    (r"^baseline\.fid", 2.0),
    (r"^baseline\.class_entropy", 0.1),
    (r"^baseline\.missing_classes", 0.5),
    (r"^baseline\.(kid|precision|recall|density|coverage|memorised)", 0.15),
    (r"^fid\.", 12.0),
]


def describe_machine() -> dict[str, str]:
    """Name what decides the last bits of a result on a CPU."""
    import torch

    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    pairs = (line.partition(":") for line in lines)
    kept = {key.strip(): value.strip() for key, _, value in pairs}
    flags = hashlib.sha256(kept.get("flags", "").encode()).hexdigest()[:16]
    model = " ".join(kept.get(key, "?") for key in ("vendor_id", "cpu family", "model", "stepping"))
    return {
        "processor": f"{platform.machine()} {model}",
        "flags_sha256": flags,
        "torch": torch.__version__,
    }


def flatten(value: object, prefix: str = "") -> dict[str, float]:
    """Turn nested mappings of numbers into dotted names."""
    if isinstance(value, dict):
        return {
            name: number
            for key, inner in value.items()
            for name, number in flatten(inner, f"{prefix}{key}.").items()
        }
    return {prefix.rstrip("."): float(value)} if isinstance(value, (int, float)) else {}


def find_tolerance(name: str) -> float | None:
    """Look up the tolerance of a metric on another kind of machine; None for not compared.

    Raises:
        KeyError: when no pattern matches it.
    """
    for pattern, limit in TOLERANCES:
        if re.search(pattern, name):
            return limit
    raise KeyError(name)


def read_committed(path: Path) -> str:
    """Read a file as it is committed."""
    command = ["git", "show", f"HEAD:{path}"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def list_differences(
    found: dict[str, float], committed: dict[str, float], must_be_identical: bool
) -> list[str]:
    """List what differs by more than it may, a line each."""
    lines = [f"{name} is only on one side" for name in sorted(committed.keys() ^ found.keys())]
    for name in sorted(committed.keys() & found.keys()):
        allowed = 0.0 if must_be_identical else find_tolerance(name)
        if allowed is not None and abs(found[name] - committed[name]) > allowed:
            lines.append(f"{name}: {found[name]} against {committed[name]}, allowed {allowed}")
    return lines


def main() -> None:
    """Compare, or record the machine."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("clone", nargs="?", type=Path, help="where the study was run")
    parser.add_argument("--record", action="store_true", help="note this machine and exit")
    arguments = parser.parse_args()
    machine = describe_machine()
    if arguments.record:
        MACHINE_FILE.write_text(json.dumps(machine, indent=2) + "\n")
        return
    if arguments.clone is None or not MACHINE_FILE.exists():
        parser.error(f"a clone to compare and {MACHINE_FILE} (--record) are needed")
    is_same = json.loads(MACHINE_FILE.read_text()) == machine
    found = flatten(json.loads((arguments.clone / METRICS_FILE).read_text()))
    committed = flatten(json.loads(read_committed(METRICS_FILE)))
    problems = list_differences(found, committed, must_be_identical=is_same)
    if is_same and (arguments.clone / LOCK_FILE).read_text() != read_committed(LOCK_FILE):
        problems.append(f"{LOCK_FILE} is another one: some model's bytes differ")
    kind = "same kind of machine: identical" if is_same else "another kind of machine: tolerances"
    print(f"headline metrics: {len(found)} compared ({kind}), {len(problems)} differ")
    if problems:
        print("\n".join(problems))
        sys.exit(1)


if __name__ == "__main__":
    main()
