"""Compare the headline metrics in the working tree with the committed ones.

    python .ci/compare_metrics.py            compare; exit 1 when they differ too much
    python .ci/compare_metrics.py --record   note this machine as the one of the committed numbers

On a machine of the same kind (processor, instruction sets, torch) the numbers must be identical.
Elsewhere rounding differs, a GAN's training amplifies it, and another, equally good study comes
out: there, each number must be as near as cohorts of other seeds are (TOLERANCES).
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

METRICS_FILE = Path("reports/metrics.json")
MACHINE_FILE = Path(".ci/reference_machine.json")

# first pattern that matches a metric's dotted name wins: largest absolute difference allowed
TOLERANCES: list[tuple[str, float]] = []


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


def find_tolerance(name: str) -> float:
    """Look up the tolerance of a metric; a metric without one must be identical everywhere."""
    return next((limit for pattern, limit in TOLERANCES if re.search(pattern, name)), 0.0)


def main() -> None:
    """Compare, or record the machine."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--record", action="store_true", help="note this machine and exit")
    machine = describe_machine()
    if parser.parse_args().record:
        MACHINE_FILE.write_text(json.dumps(machine, indent=2) + "\n")
        return
    is_same = json.loads(MACHINE_FILE.read_text()) == machine
    committed_text = subprocess.run(
        ["git", "show", f"HEAD:{METRICS_FILE}"], check=True, capture_output=True, text=True
    ).stdout
    committed = flatten(json.loads(committed_text))
    found = flatten(json.loads(METRICS_FILE.read_text()))
    problems = [f"{name} is only on one side" for name in sorted(committed.keys() ^ found.keys())]
    for name in sorted(committed.keys() & found.keys()):
        difference = abs(found[name] - committed[name])
        allowed = 0.0 if is_same else find_tolerance(name)
        if difference > allowed:
            problems.append(f"{name}: {found[name]} against {committed[name]}, allowed {allowed}")
    kind = "same kind of machine, identical" if is_same else "another kind of machine, tolerances"
    print(f"headline metrics: {len(found)} compared ({kind})")
    if problems:
        print("\n".join(problems))
        sys.exit(1)


if __name__ == "__main__":
    main()
