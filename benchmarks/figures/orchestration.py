"""What DVC, the start of processes and tracking cost beside the work itself.

All of it happens in temporary clones of the working tree. `dvc repro` with nothing to do is timed
on the reduced study with `placeholders` for its outs; the cost of a stage on the smoke study, whose
stages have next to no work, as the difference to the same work in a process that is warm.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from knowledge_gaps.runtime.files import dump_json, write_text
from knowledge_gaps.study import PARAMS_FILE, load_study
from knowledge_gaps.study.load import read_yaml
from measuring.pairs import Spread, compare, take_turns
from measuring.processes import REPOSITORY, run_script
from measuring.results import Effort, Figure, Row, Target
from studies.clone import Clone, Repro, clone_working_tree
from studies.placeholders import finish_with_placeholders
from studies.short_study import REDUCED_FILE

_SMOKE_FILE = REPOSITORY / "settings" / "smoke.yaml"
# kinds that a study has many stages of; those that are measured in turns are most of them
_IN_TURNS = ("gans@baseline", "pools@c0")
_MANY = (*_IN_TURNS, "classifiers@iteration_0")
_ONCE = (
    "check",
    "prepare",
    "samples",
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
_PROBE_SEC = 5
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
    overhead_sec = costs.sum_over(counts)
    return Figure(
        "orchestration",
        "Orchestration",
        f"`dvc repro` with nothing to do: {settings.name}, {sum(counts.values())} stages, small "
        f"files in the place of its {num_outs} outs. The share of process starts, DVC and "
        "tracking: seconds of a stage of the smoke study under `dvc repro`, less those of the same "
        "work in a warm process without tracking, by kind of stage, times the stages of "
        f"{settings.name}; of their sum and the seconds of work that `kgaps plan` measures for its "
        f"trainings, samples and detections. {' and '.join(_IN_TURNS)} are measured in turns and "
        "count with their medians; the other stages and the work are measured once, to save time, "
        "so the share has no spread. Other work is left out, so the share is rather too high. A "
        f"new GAN cohort in the finished smoke study ran {len(joined.new.stages)} stages of "
        f"{joined.new.num_stages}: {', '.join(joined.new.stages)}.",
        [
            *_list_idle(idle),
            Row(
                "`dvc repro`, a new GAN cohort in the smoke study / nothing to do in it",
                Spread((joined.new.seconds / joined.idle_sec,)),
                note="measured once",
            ),
            *_list_stages(costs, settings, overhead_sec, work_sec),
        ],
        measured={
            "idle_sec": idle,
            "work_sec": work_sec,
            "overhead_sec": overhead_sec,
            "stages": counts,
            "stage_sec": costs.to_json(),
            "new_cohort": asdict(joined),
        },
    )


def _list_idle(idle: Mapping[str, Sequence[float]]) -> Iterator[Row]:
    seconds = Spread(tuple(idle[_REPRO]))
    yield Row("`dvc repro`, nothing to do", seconds, "s", Target(_IDLE_TARGET_SEC, is_least=False))
    for name, other in (("`dvc status`", _STATUS), ("Python that imports DVC", _IMPORT)):
        yield Row(f"`dvc repro`, nothing to do / {name}", compare(idle[_REPRO], idle[other]))


def _list_stages(
    costs: StageCosts, settings: Path, overhead_sec: float, work_sec: float
) -> Iterator[Row]:
    for stage in _MANY:
        note = "" if stage in _IN_TURNS else "measured once"
        yield Row(f"{_get_kind(stage)}: a stage / its work", costs.compare(stage), note=note)
    yield Row(
        f"process starts, DVC and tracking, of all of {settings.name}",
        Spread((overhead_sec / (overhead_sec + work_sec),)),
        "%",
        Target(_SHARE_TARGET, is_least=False),
        f"one value: {overhead_sec:,.0f} s beside {work_sec:,.0f} s of work",
    )


def _get_kind(stage: str) -> str:
    return stage.partition("@")[0]


def sum_work(clone: Clone) -> float:
    """Sum the seconds that `kgaps plan` measures for a study's trainings and what follows."""
    plan = json.loads(clone.run("kgaps", "plan", "--json", "--probe-sec", str(_PROBE_SEC)))
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
        whole: of those that are measured in turns, one a turn.
        work: likewise.
        start_sec: of `dvc repro` before its first stage.
    """

    first: Mapping[str, tuple[float, float]]
    whole: Mapping[str, Sequence[float]]
    work: Mapping[str, Sequence[float]]
    start_sec: float

    def compare(self, stage: str) -> Spread:
        """Divide a stage's seconds by those of its work."""
        if stage in self.whole:
            return compare(self.whole[stage], self.work[stage])
        whole, work = self.first[stage]
        return Spread((whole / work,))

    def sum_over(self, counts: Mapping[str, int]) -> float:
        """Sum what is no work over a study's stages."""
        once = sum(self._subtract(stage) for stage in _ONCE)
        many = sum(counts[_get_kind(stage)] * self._subtract(stage) for stage in _MANY)
        return self.start_sec + once + many

    def _subtract(self, stage: str) -> float:
        if stage not in self.whole:
            return self.first[stage][0] - self.first[stage][1]
        pairs = zip(self.whole[stage], self.work[stage], strict=True)
        return Spread(tuple(whole - work for whole, work in pairs)).median

    def to_json(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        whole, work = dict(self.whole), dict(self.work)
        return {"from_scratch": dict(self.first), "in_turns": whole, "work": work}


def measure_stages(clone: Clone, num_turns: int) -> StageCosts:
    """Run the smoke study from scratch, then stages of it again, and their work alone, in turns."""
    scratch = clone.reproduce()
    stages = [*_ONCE, *_MANY]
    work = run_script("children/stage.py", clone.root, *stages).content
    first = {stage: (scratch.stages[stage], work[stage]) for stage in stages}
    wholes: dict[str, list[float]] = {stage: [] for stage in _IN_TURNS}
    works: dict[str, list[float]] = {stage: [] for stage in _IN_TURNS}

    def run_whole() -> float:
        repro = clone.reproduce("--force", "--single-item", *_IN_TURNS)
        return _keep(wholes, repro.stages)

    def run_work() -> float:
        return _keep(works, run_script("children/stage.py", clone.root, *_IN_TURNS).content)

    take_turns({"whole": run_whole, "work": run_work}, num_turns)
    start_sec = scratch.seconds - sum(scratch.stages.values())
    return StageCosts(first, wholes, works, start_sec)


def _keep(found: dict[str, list[float]], seconds: Mapping[str, float]) -> float:
    for stage, values in found.items():
        values.append(seconds[stage])
    return sum(seconds.values())


@dataclass(frozen=True)
class Joined:
    """`dvc repro` of a finished study with nothing to do, and then with one more cohort."""

    idle_sec: float
    new: Repro


def add_cohort(clone: Clone) -> Joined:
    """Add a GAN cohort to a finished study."""
    clone.run("dvc", "repro")  # files that changed are hashed once
    idle_sec = clone.time("dvc", "repro")
    content = read_yaml(clone.root / PARAMS_FILE)
    content["gans"][_NEW] = {**content["gans"]["baseline"], "instances": 1}
    write_text(clone.root / PARAMS_FILE, dump_json(content))  # JSON is a part of YAML
    return Joined(idle_sec, clone.reproduce())


def count_stages(settings: Path) -> dict[str, int]:
    """Count a study's stages by kind."""
    study = load_study(settings)
    counts = {
        "gans": len(study.gans),
        "classifiers": len(study.classifiers),
        "pools": len(study.pools),
    }
    return counts | dict.fromkeys(_ONCE, 1)
