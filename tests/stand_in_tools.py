"""Clones in which DVC runs a stand-in for `kgaps`: the real DAG, with stages of milliseconds.

The stand-in writes what each stage of dvc.yaml has as outputs. Files in the clone's folder `play`
steer it: fail-STAGE makes a stage fail, hold-STAGE makes it wait for an interrupt or for the file
to go. It notes what it does in `play/notes`, a line an event: seconds, event, stage, workers.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from clone_tools import Clone, clone_working_tree

_STAND_IN = """#!/bin/sh
stage="$1${2:+@$2}"
note() { echo "$(date +%s.%N) $1 $stage ${KGAPS_WORKERS:-0}" >> "$PLAY/notes"; }
note start
trap 'note interrupt; exit 130' INT TERM
while [ -e "$PLAY/hold-$stage" ]; do sleep 0.1; done
sleep "${PLAY_SEC:-0}"
if [ -e "$PLAY/fail-$stage" ]; then echo "kgaps: $stage: asked to fail" >&2; note fail; exit 2; fi
folder() { mkdir -p "$1"; echo "$stage" > "$1/content"; }
file() { mkdir -p "$(dirname "$1")"; echo "$stage" > "$1"; }
case $1 in
    check)
        file models/pools/none.json
        for kind in gans classifiers; do
            for name in $(sed -n "/^$kind:/,/^[^ ]/s/^  \\([^ :]*\\):.*/\\1/p" params.yaml); do
                file "models/code/$kind/$name.json"
            done
        done ;;
    prepare) folder data/prepared/train; folder data/prepared/test ;;
    pools) file "models/pools/$2.json" ;;
    gans | classifiers) folder "models/$1/$2" ;;
    samples) folder data/samples ;;
    quality) file reports/quality.csv; file reports/neighbours.csv ;;
    spectra | attributions) folder "data/$1"; file "reports/$1.csv" ;;
    detections | audit | agreement) file "reports/$1.csv" ;;
    report)
        folder reports/figures; folder reports/plots
        file reports/cohorts.csv; file reports/index.html; echo '{}' > reports/verdicts.json
        grep -o 'phi: .*}' params.yaml | sed 's/phi: \\(.*\\)}/{"phi": \\1}/' | tail -1 \\
            > reports/metrics.json ;;
esac
note end
"""


@dataclass(frozen=True)
class Note:
    """Something that the stand-in did."""

    at_sec: float
    event: str
    stage: str
    workers: int


def make_play_clone(root: Path, params_file: Path, **environment: str) -> Clone:
    """Clone the working tree, with the stand-in before all else on the path."""
    play = root.parent / f"{root.name}_play"
    play.mkdir(parents=True)
    command = play / "kgaps"
    command.write_text(_STAND_IN, encoding="utf-8")
    command.chmod(0o755)
    clone = clone_working_tree(root, params_file, PLAY=str(play), **environment)
    path = f"{play}{os.pathsep}{clone.environment['PATH']}"
    return replace(clone, environment={**clone.environment, "PATH": path})


def get_play(clone: Clone) -> Path:
    return Path(clone.environment["PLAY"])


def read_notes(clone: Clone) -> list[Note]:
    file = get_play(clone) / "notes"
    if not file.exists():
        return []
    words = [line.split() for line in file.read_text(encoding="utf-8").splitlines()]
    return [Note(float(at), event, stage, int(workers)) for at, event, stage, workers in words]


def run_above(*arguments: str) -> tuple[str, ...]:
    """Give the command line of the real `kgaps`."""
    return sys.executable, "-m", "knowledge_gaps", *arguments
