"""Runs stages of a study's folder in one process whose imports are made, and prints their seconds.

    PYTHONPATH=benchmarks python benchmarks/children/stage.py ROOT gans@baseline quality ...

What is left of a stage when DVC, the start of processes and tracking are taken away: every stage
runs twice, and the second time counts, when nothing is left to import.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import shutil
import sys
import time
from pathlib import Path

from children.warm_workers import ALL, warm_workers
from knowledge_gaps.runtime.layout import get_samples_directory, get_state_directory
from knowledge_gaps.study import PARAMS_FILE, load_study


def main() -> None:
    """Run, print."""
    parser = argparse.ArgumentParser(description="Time the work of stages.")
    parser.add_argument("root", type=Path)
    parser.add_argument("stages", nargs="+", help="as in dvc.yaml")
    options = parser.parse_args()
    study = load_study(options.root / PARAMS_FILE)
    calls = {stage: stage.partition("@") for stage in options.stages}
    modules = {
        stage: importlib.import_module(f"knowledge_gaps.stages.{call[0]}")
        for stage, call in calls.items()
    }
    warm_workers(ALL)
    seconds = {}
    with contextlib.redirect_stdout(sys.stderr):
        for stage, (_, _, name) in [*calls.items(), *calls.items()]:
            # rows and images that are known from before would be no work
            shutil.rmtree(get_state_directory(options.root), ignore_errors=True)
            if stage == "samples":
                shutil.rmtree(get_samples_directory(options.root), ignore_errors=True)
            start = time.perf_counter()
            modules[stage].run(options.root, study, *filter(None, [name]))
            seconds[stage] = time.perf_counter() - start
    print(json.dumps(seconds))


if __name__ == "__main__":
    main()
