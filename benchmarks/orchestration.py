"""What DVC, the start of processes and tracking cost beside the work itself.

All of it happens in temporary clones of the working tree. `dvc repro` with nothing to do is timed
on the reduced study with `placeholders` for its outs; the cost of a stage on the smoke study, whose
stages have next to no work, as the difference to the same work in a process that is warm.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from children import REPOSITORY, run_script
from clone import Clone, clone_working_tree
from knowledge_gaps.runtime.files import dump_json, write_text
from knowledge_gaps.study import PARAMS_FILE, load_study
from knowledge_gaps.study.load import read_yaml
from pairs import Spread, compare, take_turns
from placeholders import finish_with_placeholders
from results import Effort, Figure, Row, Target
from short_study import REDUCED_FILE

_SMOKE_FILE = REPOSITORY / "settings" / "smoke.yaml"
# a stage of each kind that a study has many of
_REPEATED = ("gans@baseline", "classifiers@iteration_0", "pools@c0", "samples@baseline")
_ONCE = (
    "check",
    "prepare",
    "detections",
    "quality",
    "spectra",
    "attributions",
    "audit",
    "agreement",
    "report",
)
_NEW = "new"  # a GAN cohort that joins
_IDLE_TARGET_SEC, _SHARE_TARGET = 5.0, 0.08
_REPRO, _STATUS, _IMPORT = "dvc repro", "dvc status", "import dvc.repo"


def measure_orchestration(effort: Effort) -> Figure:
    """Measure both clones."""
    settings = _SMOKE_FILE if effort.is_quick else REDUCED_FILE
    with tempfile.TemporaryDirectory() as folder:
        clone = clone_working_tree(Path(folder) / "idle" / "clone", settings.read_text("utf-8"))
        work_sec = sum_work(clone)
        num_outs = finish_with_placeholders(clone)
        idle = measure_idle(clone, effort.num_turns)
        smoke_text = _SMOKE_FILE.read_text("utf-8")
        smoke = clone_working_tree(Path(folder) / "smoke" / "clone", smoke_text)
        costs = measure_stages(smoke, effort.num_turns)
        joined = add_cohort(smoke)
    counts = count_stages(settings)
    overheads = costs.sum_over(counts)
    shares = Spread(tuple(cost / (cost + work_sec) for cost in overheads))
    seconds = {name: Spread(tuple(values)) for name, values in idle.items()}
    return Figure(
        "orchestration",
        "Orchestration",
        f"`dvc repro` with nothing to do: {settings.name}, {sum(counts.values())} stages, small "
        f"files in the place of its {num_outs} outs. The share of process starts, DVC and "
        "tracking: seconds of a stage of the smoke study under `dvc repro`, less those of the same "
        "work in a warm process without tracking, by kind of stage "
        f"({', '.join(_REPEATED)} once a pair, the others once), times the stages of "
        f"{settings.name}; of their sum and the {work_sec:,.0f} s of work that `kgaps plan` "
        "measures for its trainings, samples and detections. Other work is left out, so the share "
        f"is rather too high. A new GAN cohort in the finished smoke study ran {len(joined)} "
        f"stages of {len(costs.first) + 2}: {', '.join(joined)}.",
        [
            Row(
                "`dvc repro`, nothing to do",
                seconds[_REPRO],
                "s",
                Target(_IDLE_TARGET_SEC, is_least=False),
            ),
            Row("`dvc repro`, nothing to do / `dvc status`", compare(idle[_REPRO], idle[_STATUS])),
            Row(
                "`dvc repro`, nothing to do / Python that imports DVC",
                compare(idle[_REPRO], idle[_IMPORT]),
            ),
            *(
                Row(f"{stage.partition('@')[0]}: a stage / its work", costs.compare(stage))
                for stage in _REPEATED
            ),
            Row(
                f"process starts, DVC and tracking, of all of {settings.name}",
                shares,
                "%",
                Target(_SHARE_TARGET, is_least=False),
            ),
        ],
        measured={
            "idle_sec": idle,
            "work_sec": work_sec,
            "overhead_sec": overheads,
            "stages": counts,
            "stage_sec": costs.to_json(),
            "new_cohort": joined,
        },
    )


def sum_work(clone: Clone) -> float:
    """Sum the seconds that `kgaps plan` measures for a study's trainings and what follows."""
    plan = json.loads(clone.run("kgaps", "plan", "--json", "--probe-sec", "10"))
    return float(sum(row["seconds"] or 0 for row in plan["rows"]))


def measure_idle(clone: Clone, num_turns: int) -> dict[str, list[float]]:
    """Time commands of DVC in a clone in which everything is done."""
    clone.run("dvc", "repro")  # files are hashed once
    commands = {
        _REPRO: ("dvc", "repro"),
        _STATUS: ("dvc", "status"),
        _IMPORT: (sys.executable, "-c", "import dvc.repo"),
    }
    variants = {name: partial(clone.time, *command) for name, command in commands.items()}
    return take_turns(variants, num_turns)


@dataclass(frozen=True)
class StageCosts:
    """Seconds of stages under `dvc repro`, and of their work alone.

    Attributes:
        first: of every stage, from scratch, and of their work.
        whole: of the repeated kinds, one a turn.
        work: likewise.
        start_sec: of `dvc repro` before its first stage.
    """

    first: Mapping[str, tuple[float, float]]
    whole: Mapping[str, Sequence[float]]
    work: Mapping[str, Sequence[float]]
    start_sec: float

    def compare(self, stage: str) -> Spread:
        """Divide a repeated stage's seconds by those of its work."""
        return compare(self.whole[stage], self.work[stage])

    def sum_over(self, counts: Mapping[str, int]) -> list[float]:
        """Sum what is no work over a study's stages, once a turn."""
        once = self.start_sec + sum(self.first[name][0] - self.first[name][1] for name in _ONCE)
        sums = []
        for turn in range(len(self.whole[_REPEATED[0]])):
            each = {name: self.whole[name][turn] - self.work[name][turn] for name in _REPEATED}
            many = sum(counts[name.partition("@")[0]] * cost for name, cost in each.items())
            sums.append(once + many)
        return sums

    def to_json(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        whole, work = dict(self.whole), dict(self.work)
        return {"from_scratch": dict(self.first), "repeated": whole, "work": work}


def measure_stages(clone: Clone, num_turns: int) -> StageCosts:
    """Run the smoke study from scratch, then stages of it again, and their work alone, in turns."""
    scratch = clone.reproduce()
    stages = [*_ONCE, *_REPEATED]
    work = run_script("stage_child.py", clone.root, *stages).content
    first = {stage: (scratch.stages[stage], work[stage]) for stage in stages}
    wholes: dict[str, list[float]] = {stage: [] for stage in _REPEATED}
    works: dict[str, list[float]] = {stage: [] for stage in _REPEATED}

    def run_whole() -> float:
        repro = clone.reproduce("--force", "--single-item", *_REPEATED)
        return _keep(wholes, repro.stages)

    def run_work() -> float:
        return _keep(works, run_script("stage_child.py", clone.root, *_REPEATED).content)

    take_turns({"whole": run_whole, "work": run_work}, num_turns)
    start_sec = scratch.seconds - sum(scratch.stages.values())
    return StageCosts(first, wholes, works, start_sec)


def _keep(found: dict[str, list[float]], seconds: Mapping[str, float]) -> float:
    for stage, values in found.items():
        values.append(seconds[stage])
    return sum(seconds.values())


def add_cohort(clone: Clone) -> list[str]:
    """Add a GAN cohort to a finished study; list the stages that ran."""
    content = read_yaml(clone.root / PARAMS_FILE)
    content["gans"][_NEW] = {**content["gans"]["baseline"], "instances": 1}
    write_text(clone.root / PARAMS_FILE, dump_json(content))  # JSON is a part of YAML
    return list(clone.reproduce().stages)


def count_stages(settings: Path) -> dict[str, int]:
    """Count a study's stages by kind."""
    study = load_study(settings)
    counts = {
        "gans": len(study.gans),
        "classifiers": len(study.classifiers),
        "pools": len(study.pools),
        "samples": len(study.gans),
    }
    return counts | dict.fromkeys(_ONCE, 1)
