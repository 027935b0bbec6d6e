"""A sweep is the product of its lists, and every point of it a valid study."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from conftest import RunKgaps
from knowledge_gaps.core.errors import StoppedError, UserError
from knowledge_gaps.core.signals import StopFlag
from knowledge_gaps.study import Study, load_study
from knowledge_gaps.sweeps import queue, sweep
from knowledge_gaps.sweeps.grid import make_grid, parse_axis
from knowledge_gaps.sweeps.queue import State, Status, parse_statuses
from knowledge_gaps.sweeps.sweep import SHOWN_METRICS, draw_sweep, share_machine
from study_tools import SMOKE_FILE, change_params

PHI = "gans.fool_all_1.phi"


def accept(_: Study) -> None:
    """Check nothing more."""


def test_grid_is_the_product_of_the_lists() -> None:
    grid = make_grid(SMOKE_FILE, [f"{PHI}=0.1,1,1e2", "study.seed=0,1"], accept)
    assert [tuple(point.values.values()) for point in grid] == [
        (0.1, 0),
        (0.1, 1),
        (1, 0),
        (1, 1),
        (100.0, 0),
        (100.0, 1),
    ]
    assert len({point.name for point in grid}) == 6
    assert all(point.name.startswith("smoke-phi-") for point in grid)


def test_recipes_are_checked_at_every_point(smoke_root: Path, run_kgaps: RunKgaps) -> None:
    axis = "gan_recipes.dcgan.model.latent_dim=4,0"
    outcome = run_kgaps(smoke_root, "sweep", axis, "--dry-run")
    assert outcome.code == 2
    assert "kgaps: gan_recipes.dcgan.model.latent_dim=0: params.yaml: gan_recipes" in outcome.err
    assert outcome.err.count("\n") == 1


def test_overrides_name_every_value_and_the_study() -> None:
    [point, _] = make_grid(SMOKE_FILE, [f"{PHI}=0.1,1", "gans.fool_all_1.fooling=weighted"], accept)
    assert point.overrides == [
        f"{PHI}=0.1",
        '+gans.fool_all_1.fooling="weighted"',  # smoke leaves it to its default
        f'study.name="{point.name}"',
    ]


def test_name_tells_the_study_and_not_the_way_it_is_written(smoke_root: Path) -> None:
    file = smoke_root / "params.yaml"
    [first] = make_grid(file, [f"{PHI}=0.5"], accept)
    assert make_grid(file, [f"{PHI}=0.50"], accept) == [first]
    change_params(smoke_root, {"gans.fool_all_1.fooling": "sum"})  # its default
    assert make_grid(file, [f"{PHI}=0.5"], accept)[0].name == first.name
    change_params(smoke_root, {"gan_recipes.dcgan.steps": 25})
    assert make_grid(file, [f"{PHI}=0.5"], accept)[0].name != first.name


def test_long_names_are_names_of_studies() -> None:
    [point] = make_grid(
        SMOKE_FILE, [f"{PHI}=0.123456789012345678", "report.phi_sweep=[baseline]"], accept
    )
    assert len(point.name) <= 64


def test_values_are_read_as_yaml() -> None:
    assert parse_axis("a.b=1,0.5,x,null,[1, 2],true") == (
        "a.b",
        [1, 0.5, "x", None, [1, 2], True],
    )


@pytest.mark.parametrize(
    ("axes", "said"),
    [
        (["gans.fool_al_1.phi=1"], "unknown key 'fool_al_1' (allowed: baseline, fool_all_1)"),
        (["gans.fool_all_1.fi=1"], "unknown key 'fi' (allowed: recipe, instances"),
        (["study.seed.x=1"], "study.seed.x: unknown key 'x' (allowed: none)"),
        (["gans.fool_all_1=1"], "gans.fool_all_1: a section"),
        ([f"{PHI}=0.1,-1"], "greater than or equal to 0"),
        (["gans.fool_all_1.fools=nobody"], "'nobody' is not in pools"),
        (["study.name=a,b"], "study.name: cannot be swept"),
        ([f"{PHI}=1,1.0"], f"{PHI}=1.0: the same study as {PHI}=1,"),
        ([f"{PHI}=1", f"{PHI}=2"], "given twice in the sweep"),
        ([PHI], "KEY=VALUE,VALUE,... is needed"),
        ([f"{PHI}="], "KEY=VALUE,VALUE,... is needed"),
        ([f"{PHI}=[1,"], "no list of values"),
    ],
)
def test_what_the_study_cannot_take_is_refused(
    smoke_root: Path, run_kgaps: RunKgaps, axes: list[str], said: str
) -> None:
    outcome = run_kgaps(smoke_root, "sweep", *axes)
    assert outcome.code == 2
    assert said in outcome.err
    assert len(outcome.err.splitlines()) == 1
    assert not (smoke_root / ".kgaps").exists()  # nothing was begun


def test_dry_run_prints_the_grid_and_does_nothing(smoke_root: Path, run_kgaps: RunKgaps) -> None:
    outcome = run_kgaps(smoke_root, "sweep", f"{PHI}=0.25,4", "--dry-run")
    assert outcome.code == 0
    assert outcome.out.count("not queued") == 2
    assert not (smoke_root / ".kgaps").exists()


GONE = 2**22 + 1  # beyond the largest process id


def make_entry(name: str, state: str | None, pid: int | None = None) -> dict[str, Any]:
    metrics = {"reports/metrics.json": {"data": {"fid": {"a": 2}, "passed": 1.0, "word": "x"}}}
    return {
        "name": name,
        "executor": None if state is None else {"state": state, "local": {"pid": pid}},
        "revs": [{"rev": "1", "name": name, "data": {"metrics": metrics}}],
    }


def test_statuses_are_read_from_what_dvc_prints() -> None:
    entries = [
        make_entry("done", "success"),
        make_entry("fetched", None),
        make_entry("queued", "queued"),
        make_entry("begins", "running"),
        make_entry("killed", "running", GONE),
        make_entry("failed", "failed"),
        make_entry("other", "success"),
    ]
    expected = {
        "done": State.DONE,
        "fetched": State.DONE,
        "queued": State.QUEUED,
        "begins": State.RUNNING,
        "killed": State.FAILED,
        "failed": State.FAILED,
        "new": State.MISSING,
    }
    found = parse_statuses([{"experiments": None}, {"experiments": entries}], list(expected))
    assert {name: status.state for name, status in found.items()} == expected
    assert [name for name, status in found.items() if status.is_gone] == ["killed"]
    assert found["done"].metrics == {"fid.a": 2.0, "passed": 1.0}


def test_an_experiment_that_ended_a_moment_ago_has_not_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DVC still says "running" when the process is gone already, and fails now and then."""
    gone = make_entry("a", "running", GONE)
    answers = [None, gone, make_entry("a", "success")]

    def answer(root: Path, *arguments: str, timeout_sec: float) -> str:
        entry = answers.pop(0)
        if entry is None:
            raise UserError("dvc exp show: unexpected error")
        return json.dumps([{"experiments": [entry]}])

    monkeypatch.setattr(queue, "call_dvc", answer)
    monkeypatch.setattr(queue, "_SETTLE_SEC", 0.0)
    assert queue.read_statuses(tmp_path, ["a"])["a"].state is State.DONE
    answers.extend([gone] * queue._TRIES)
    assert queue.read_statuses(tmp_path, ["a"])["a"].state is State.FAILED
    answers.extend([None] * queue._TRIES)
    with pytest.raises(UserError):
        queue.read_statuses(tmp_path, ["a"])


def test_on_gpus_one_experiment_at_a_time_has_all_of_the_machine(
    smoke_root: Path, run_kgaps: RunKgaps, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, "count_gpus", lambda: 8)
    outcome = run_kgaps(smoke_root, "sweep", f"{PHI}=1,2", "-j", "2")
    assert outcome.code == 2
    assert outcome.err.startswith("kgaps: --jobs: 2 found, 1 is needed on a machine with GPUs")
    assert len(outcome.err.splitlines()) == 1
    assert run_kgaps(smoke_root, "sweep", f"{PHI}=1,2", "-j", "1", "--dry-run").code == 0
    assert share_machine(6, None) == (1, {})


@pytest.mark.parametrize(
    ("num_open", "max_jobs", "share"),
    [(0, None, (1, "8")), (2, None, (2, "4")), (20, None, (8, "1")), (20, 3, (3, "2"))],
)
def test_cores_are_shared_out_among_open_experiments(
    monkeypatch: pytest.MonkeyPatch, num_open: int, max_jobs: int | None, share: tuple[int, str]
) -> None:
    monkeypatch.setenv("KGAPS_DEVICE", "cpu")
    monkeypatch.setenv("KGAPS_WORKERS", "8")
    assert share_machine(num_open, max_jobs) == (share[0], {"KGAPS_WORKERS": share[1]})


class Queue:
    """Stands in for DVC: notes its commands and gives the states that a test says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *states: list[State]) -> None:
        self.states, self.calls, self.stop = list(states), list[tuple[str, ...]](), StopFlag()
        monkeypatch.setattr(sweep, "read_statuses", self.read)
        monkeypatch.setattr(sweep, "call_dvc", lambda _, *arguments: self.calls.append(arguments))
        monkeypatch.setattr(queue, "call_dvc", lambda _, *arguments: self.calls.append(arguments))
        monkeypatch.setattr(sweep, "start_workers", lambda _, jobs, __: self.note("start", jobs))
        monkeypatch.setattr(sweep, "_POLL_SEC", 0.0)

    def read(self, root: Path, names: list[str]) -> dict[str, Status]:
        return {name: Status(state) for name, state in zip(names, self.states.pop(0), strict=True)}

    def note(self, *words: object) -> None:
        self.calls.append(tuple(map(str, words)))


def test_what_is_done_or_begun_is_not_queued_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dvc = Queue(monkeypatch, [State.DONE, State.FAILED, State.RUNNING, State.MISSING])
    grid = make_grid(SMOKE_FILE, [f"{PHI}=1,2,3,4"], accept)
    assert sweep._queue_missing(tmp_path, load_study(SMOKE_FILE), grid, dvc.stop) == 3
    assert [call[:2] for call in dvc.calls] == [("queue", "kill"), ("queue", "remove")] + [
        ("exp", "run")
    ] * 2
    assert [call[4] for call in dvc.calls[2:]] == [grid[1].name, grid[3].name]


def test_the_queue_is_kept_going_until_nothing_is_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    states = [State.QUEUED] * 2, [State.RUNNING, State.QUEUED], [State.DONE, State.FAILED]
    dvc = Queue(monkeypatch, *states)
    statuses = sweep._wait(tmp_path, ["a", "b"], (1, {}), dvc.stop)
    assert dvc.calls == [("start", "1")]
    with pytest.raises(UserError, match=r"^1 of 2 experiments failed: b; `dvc queue logs NAME`"):
        sweep._conclude(tmp_path, statuses)


def test_stop_interrupts_what_runs_and_queues_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running, ended = [State.RUNNING, State.QUEUED], [State.FAILED, State.QUEUED]
    dvc = Queue(monkeypatch, running, ended, ended)
    dvc.stop.set()
    with pytest.raises(StoppedError, match="2 experiments not done; the same command goes on"):
        sweep._wait(tmp_path, ["a", "b"], (2, {}), dvc.stop)
    assert dvc.calls == [("queue", "stop"), ("queue", "kill", "a")]
    grid = make_grid(SMOKE_FILE, [f"{PHI}=1,2"], accept)
    with pytest.raises(StoppedError, match="not all experiments are queued"):
        sweep._queue_missing(tmp_path, load_study(SMOKE_FILE), grid, dvc.stop)


def draw(*found: dict[str, float]) -> list[str]:
    grid = make_grid(SMOKE_FILE, [f"{PHI}=1,2"], accept)
    statuses = {
        point.name: Status(State.DONE if metrics else State.FAILED, metrics)
        for point, metrics in zip(grid, found, strict=True)
    }
    return draw_sweep(grid, statuses).splitlines()


@pytest.mark.parametrize(
    ("found", "shown"),
    [
        (({"a": 1.0, "b": 2.0}, {"a": 1.0, "b": 3.0}), ["b"]),
        (({"a": 1.0, "b": 2.0}, {"b": 2.0}), ["a"]),  # a collapsed GAN has no distance
        (({"a": 1.0}, {}), []),  # one that failed is not compared
        (({}, {}), []),
        (({"x.fool_all_1.phi": 1.0, "phi": 1.0}, {"x.fool_all_1.phi": 2.0, "phi": 2.0}), ["phi"]),
    ],
)
def test_table_shows_metrics_that_differ(
    found: tuple[dict[str, float], dict[str, float]], shown: list[str]
) -> None:
    lines = draw(*found)
    assert lines[0].split() == ["experiment", PHI, "state", *shown]
    assert len(lines) == 3


def test_table_counts_the_metrics_that_it_leaves_out() -> None:
    found = [{f"m{k}": float(value) for k in range(SHOWN_METRICS + 9)} for value in (0, 1)]
    lines = draw(*found)
    assert lines[0].split()[3:] == [f"m{k}" for k in range(SHOWN_METRICS)]
    assert lines[-1] == "9 more differ: `dvc exp show --only-changed`"
