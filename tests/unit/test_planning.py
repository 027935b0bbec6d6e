"""The plan: what is counted from the settings, what is there, how probes become hours."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from knowledge_gaps.execution.code import write_training_code
from knowledge_gaps.planning.standing import classify_changes, find_standings

from knowledge_gaps.core.errors import UserError
from knowledge_gaps.core.files import read_json, write_json
from knowledge_gaps.core.layout import get_code_file
from knowledge_gaps.planning import estimate, measure, probe, timing
from knowledge_gaps.planning.estimate import Row, compute_makespan, describe_fit
from knowledge_gaps.planning.inventory import CohortWork, find_reals, list_cohorts
from knowledge_gaps.planning.measure import Prober
from knowledge_gaps.planning.networks import build_generator, count_networks
from knowledge_gaps.planning.request import Measurement, Network, ProbeRequest, make_request
from knowledge_gaps.planning.table import (
    compute_totals,
    format_bytes,
    format_count,
    format_seconds,
    render,
)
from knowledge_gaps.study import DataSettings, Study, load_study
from study_tools import REPOSITORY, SMOKE_FILE

SHAPE = (1, 28, 28)


def load_smoke() -> Study:
    return load_study(SMOKE_FILE)


def load_reduced() -> Study:
    return load_study(REPOSITORY / "settings" / "mnist_reduced.yaml")


def find_work(study: Study, path: str) -> CohortWork:
    return next(work for work in list_cohorts(study) if work.path == path)


def with_data(**data: Any) -> Study:
    return load_smoke().model_copy(update={"data": DataSettings.model_validate(data)})


# --- what the settings say


def test_cohorts_stand_after_what_they_stand_on() -> None:
    cohorts = list_cohorts(load_reduced())
    seen: set[str] = set()
    for work in cohorts:
        assert set(work.upstream) <= seen
        seen.add(work.path)
    assert len(seen) == len(cohorts) == 20


def test_a_cohort_knows_its_pool_and_what_it_is_shown() -> None:
    work = find_work(load_reduced(), "gans/fool_all_2")
    assert work.upstream == ("classifiers/iteration_0", "classifiers/iteration_1")
    assert [recipe.architecture for recipe in work.frozen] == ["cnn", "cnn"]
    assert work.images_shown == 2000 * 64


def test_equal_trainings_are_asked_for_once() -> None:
    study = load_reduced()
    cohorts = list_cohorts(study)
    distinct: list[ProbeRequest] = []
    for work in cohorts:
        request = make_request(work, SHAPE)
        distinct += [] if request in distinct else [request]
    # GANs against 0, 1, 2 classifiers; classifiers of 1, 2, 3 generators, and of truncated ones
    assert len(cohorts) == 20
    assert len(distinct) == 7


def test_requests_survive_json() -> None:
    request = make_request(find_work(load_reduced(), "gans/multi_2"), SHAPE)
    assert ProbeRequest.from_json(json.loads(json.dumps(request.to_json()))) == request
    assert request.parse_recipe(8).batch_size == 8


@pytest.mark.parametrize(
    ("data", "shape", "counts"),
    [
        ({"name": "mnist", "source": "idx", "directory": "x"}, SHAPE, (60000, 10000)),
        (
            {"name": "mnist", "source": "idx", "directory": "x", "num_test": 7},
            SHAPE,
            (60000, 7),
        ),
        ({"name": "mnist", "source": "reduced", "directory": "x"}, SHAPE, (None, None)),
        (
            {
                "name": "ffhq",
                "source": "images",
                "directory": "x",
                "resolution_px": 64,
                "channels": 3,
                "num_test": 10,
            },
            (3, 64, 64),
            (None, 10),
        ),
    ],
)
def test_settings_tell_the_size_of_the_reals(
    tmp_path: Path, data: dict[str, Any], shape: Any, counts: Any
) -> None:
    reals = find_reals(tmp_path, with_data(**data))
    assert reals.shape == shape
    assert (reals.num_train, reals.num_test) == counts


def prepare(root: Path, name: str) -> None:
    described = {"name": name, "image_shape": [3, 32, 32], "num_train": 5, "num_test": 2}
    write_json(root / "data" / "prepared" / "dataset.json", described)


def test_prepared_reals_tell_their_size(tmp_path: Path) -> None:
    prepare(tmp_path, "own")
    reals = find_reals(tmp_path, with_data(name="own", source="idx", directory="x"))
    assert reals.shape == (3, 32, 32)
    assert reals.stored_bytes == 7 * 3 * 32 * 32


def test_reals_prepared_for_another_study_tell_nothing(tmp_path: Path) -> None:
    prepare(tmp_path, "other")
    with pytest.raises(UserError, match=r"data\.name: .*'own'.*dvc repro prepare"):
        find_reals(tmp_path, with_data(name="own", source="idx", directory="x"))
    prepare(tmp_path, "faces")
    images = {"source": "images", "directory": "x", "num_test": 1, "channels": 3}
    study = with_data(name="faces", resolution_px=64, **images)  # prepared at 32 px
    assert find_reals(tmp_path, study).shape == (3, 64, 64)


# --- what is there


DELETED = {"changed outs": {"models/gans/baseline": "deleted"}}
EDITED = {"changed deps": {"params.yaml": {"gan_recipes.dcgan": "modified"}}}


@pytest.mark.parametrize(
    ("entries", "note"),
    [
        ([{"changed deps": {"params.yaml": "new", "src/a.py": "modified"}}, DELETED], "new"),
        ([DELETED], "in DVC's cache"),
        ([{"changed deps": {"models/pools/none.json": "deleted"}}, DELETED], "in DVC's cache"),
        ([EDITED], "changed: gan_recipes.dcgan"),
        (
            [EDITED, {"changed outs": {"models/gans/baseline": "modified"}}],
            "changed: gan_recipes.dcgan",
        ),
        ([EDITED, DELETED], "new here: dvc.lock records other gan_recipes.dcgan"),
        ([{"changed deps": {"b": "modified", "a": "new", "c": "new"}}], "changed: b, a, ..."),
        (
            [{"changed outs": {"models/gans/baseline": "not in cache"}}],
            "recorded, but not in DVC's cache: pull or train",
        ),
        (["always changed"], "changed: always changed"),
    ],
)
def test_what_dvc_says_of_a_stage(entries: list[Any], note: str) -> None:
    assert classify_changes(entries) == note


def test_nothing_is_left_of_a_study_that_is_up_to_date(tmp_path: Path) -> None:
    study = load_smoke()
    cohorts = list_cohorts(study)
    changes = {"report": [EDITED], "gans@baseline": [DELETED]}
    standings = find_standings(tmp_path, study, cohorts, changes)
    assert all(standing.steps_left == () for standing in standings.values())
    assert standings["gans/baseline"].note == "in DVC's cache"


def record_code(root: Path, study: Study) -> None:
    """Note the code of a study's cohorts, and let dvc.lock say that they were trained by it."""
    write_training_code(root, study)
    stages: dict[str, Any] = {}
    for work in list_cohorts(study):
        note = get_code_file(root, work.path)
        digest = hashlib.md5(note.read_bytes()).hexdigest()
        dep = {"path": note.relative_to(root).as_posix(), "hash": "md5", "md5": digest}
        stages[f"{work.kind}@{work.name}"] = {"cmd": "kgaps", "deps": [dep]}
    (root / "dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": stages}))


def test_changed_code_trains_anew_though_dvc_sees_it_later(tmp_path: Path) -> None:
    study = load_smoke()
    record_code(tmp_path, study)
    standings = find_standings(tmp_path, study, list_cohorts(study), {})
    assert all(standing.steps_left == () for standing in standings.values())
    # as if the code of one architecture had changed since, first with its note and then without
    note = get_code_file(tmp_path, "classifiers/iteration_0")
    write_json(note, {**read_json(note), "knowledge_gaps/losses.py": "0" * 64})
    lock = tmp_path / "dvc.lock"
    stages = yaml.safe_load(lock.read_text())
    stages["stages"]["classifiers@iteration_0"]["deps"][0]["md5"] = "0" * 32
    lock.write_text(yaml.safe_dump(stages))
    for expected in ("changed: src/knowledge_gaps/losses.py", "changed: the code"):
        standings = find_standings(tmp_path, study, list_cohorts(study), {})
        assert standings["gans/baseline"].steps_left == ()
        assert standings["classifiers/iteration_0"].steps_left == (24, 24)
        assert standings["classifiers/iteration_0"].note == expected
        assert standings["gans/fool_all_1"].note == "after classifiers/iteration_0"
        note.unlink(missing_ok=True)


def test_what_stands_on_a_changed_cohort_trains_anew(tmp_path: Path) -> None:
    study = load_smoke()
    changes = {"classifiers@iteration_0": [EDITED]}
    standings = find_standings(tmp_path, study, list_cohorts(study), changes)
    assert standings["gans/baseline"].steps_left == ()
    assert standings["classifiers/iteration_0"].steps_left == (24, 24)
    assert standings["gans/fool_all_1"].steps_left == (24, 24)
    assert standings["gans/fool_all_1"].note == "after classifiers/iteration_0"


def test_a_changed_pool_trains_anew_what_stands_on_it(tmp_path: Path) -> None:
    study = load_reduced()
    changes = {"pools@c0": [EDITED]}  # c0_c1 extends it
    standings = find_standings(tmp_path, study, list_cohorts(study), changes)
    assert len(standings["gans/fool_all_2"].steps_left) == 4
    assert standings["gans/against_1"].steps_left == ()


# --- sizes


def test_cnn_is_counted_by_hand() -> None:
    # 3x3 kernels 1 -> 8 -> 8 without bias, two normalisations, a head over 8 x 7 x 7
    expected = 9 * 8 + 2 * 8 + 9 * 8 * 8 + 2 * 8 + 8 * 7 * 7 + 1
    counts = count_networks("classifiers", "cnn", {"channels": [8, 8], "kernel_px": 3}, SHAPE)
    assert counts["C"]["parameters"] == expected
    # and running mean, variance (float32) and a counter (int64) of each normalisation
    assert counts["C"]["stored_bytes"] == 4 * (expected + 4 * 8) + 2 * 8


def test_counting_allocates_nothing_and_equals_the_real_network() -> None:
    model = {"latent_dim": 8, "channels": [8, 4], "kernel_px": 4}
    generator = build_generator("dcgan", model, SHAPE)
    counted = count_networks("gans", "dcgan", model, SHAPE)["G"]
    assert counted["parameters"] == sum(value.numel() for value in generator.parameters())
    assert torch.empty(1).device.type == "cpu"  # the device of counting is left


def test_stylegan2_has_the_published_size() -> None:
    counts = count_networks("gans", "stylegan2", {}, (3, 1024, 1024))
    assert counts["G"]["parameters"] == 30_370_060
    assert counts["D"]["parameters"] == 29_012_513


# --- probes


@pytest.mark.parametrize(
    ("intervals", "kinds"),
    [
        ([1], {0: 1}),
        ([1, 16, 4], {0: 1, 1: 12, 4: 3}),
        ([1, 2, 3], {0: 1, 1: 2, 2: 2, 3: 1}),
    ],
)
def test_kinds_of_steps(intervals: list[int], kinds: dict[int, int]) -> None:
    assert timing.list_step_kinds(intervals) == kinds


def test_lazy_phases_count_by_their_share(monkeypatch: pytest.MonkeyPatch) -> None:
    class Trainer:
        class accelerator:  # noqa: N801
            device = torch.device("cpu")

        def run_step(self, step: int) -> float:
            return 1 + 32 * (step % 16 == 0) + 8 * (step % 4 == 0)

    monkeypatch.setattr(timing, "time_call", lambda run, device: run())
    kinds = timing.list_step_kinds([1, 16, 4])
    seconds, _ = timing.time_steps(Trainer(), kinds, 9.0, num_rounds=1)  # type: ignore[arg-type]
    assert seconds == 1 + 32 / 16 + 8 / 4


@pytest.mark.parametrize(("budget_sec", "expected"), [(100.0, 2.0), (25.0, 3.0), (9.0, 10.0)])
def test_time_that_is_short_is_kept(
    monkeypatch: pytest.MonkeyPatch, budget_sec: float, expected: float
) -> None:
    # a warm-up of 10 s, then steps that get faster: 3, 1, 2, 2, 2 s; medians of what fits
    durations = iter([10.0, 3.0, 1.0, 2.0, 2.0, 2.0])
    now = [0.0]

    def time_call(run: Any, device: Any) -> float:
        seconds = next(durations)
        now[0] += seconds + 10  # by the clock, on a busy machine
        return seconds

    class Trainer:
        class accelerator:  # noqa: N801
            device = torch.device("cpu")

        def run_step(self, step: int) -> None:
            raise AssertionError("timed above, not run")

    monkeypatch.setattr(timing, "time_call", time_call)
    monkeypatch.setattr(timing.time, "monotonic", lambda: now[0])
    found = timing.time_steps(Trainer(), {0: 1}, budget_sec, 5)  # type: ignore[arg-type]
    assert found[0] == expected


def test_batch_sizes_are_halved_while_whole() -> None:
    assert probe.list_batch_sizes(24) == [24, 12, 6, 3]
    assert probe.list_batch_sizes(2) == [2]


@pytest.mark.parametrize(
    ("budget_sec", "limit_bytes", "largest", "chosen"),
    [
        (1000.0, None, 64, 64),
        (100.0, None, 64, 16),  # two kinds of step of a second an image, each twice
        (1000.0, 100 + 35 * 10, 64, 32),
        (1000.0, None, 8, 8),
        (0.0, None, 64, 2),
    ],
)
def test_probe_takes_the_largest_batch_that_time_and_memory_allow(
    monkeypatch: pytest.MonkeyPatch,
    budget_sec: float,
    limit_bytes: int | None,
    largest: int,
    chosen: int,
) -> None:
    def measure_at(request: Any, size: int, *options: Any) -> tuple[Measurement, float]:
        return Measurement(size, float(size), 1.0, 100, 100 + 10 * size, limit_bytes), 2.0 * size

    monkeypatch.setattr(probe, "_measure_at", measure_at)
    request = make_request(find_work(load_reduced(), "gans/baseline"), SHAPE)
    assert probe.measure(request, budget_sec, largest).batch_size == chosen


def test_probe_falls_back_when_memory_runs_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def measure_at(request: Any, size: int, *options: Any) -> tuple[Measurement, float]:
        if size > 8:
            raise probe.TooLargeError
        return Measurement(size, 0.0, 0.0, 100, 110, None), 0.0

    monkeypatch.setattr(probe, "_measure_at", measure_at)
    request = make_request(find_work(load_reduced(), "gans/baseline"), SHAPE)
    assert probe.measure(request, 60.0, 64).batch_size == 8


@pytest.mark.parametrize("path", ["gans/fool_all_1", "classifiers/iteration_0"])
def test_a_probe_runs_the_real_trainer(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "_STEADY_SEC", 0.0)
    request = make_request(find_work(load_smoke(), path), SHAPE)
    question = {"request": request.to_json(), "budget_sec": 30.0, "largest_batch": 16}
    found = Measurement(**probe.answer(question)["measurement"])
    assert found.batch_size == 16
    assert 0 < found.seconds_per_image < found.seconds_per_step
    assert 0 < found.static_bytes <= found.peak_bytes


def test_static_memory_is_counted_by_hand() -> None:
    request = make_request(find_work(load_smoke(), "gans/fool_all_1"), SHAPE)
    trainer = probe.build_trainer(request, 4)
    trainer.run_step(0)
    sizes = count_networks("gans", "dcgan", request.recipe["model"], SHAPE)
    G, D = sizes["G"], sizes["D"]
    # both networks, the average of G, the frozen classifier, G's gradients, two moments of each
    expected = 2 * G["stored_bytes"] + D["stored_bytes"] + 4436 + 4 * G["parameters"]
    expected += 2 * 4 * (G["parameters"] + D["parameters"])
    # counters: of the average, and of Adam for every tensor of weights
    found = probe.count_static_bytes(trainer, request)
    assert 0 <= found - expected <= 200


def test_a_recipe_that_does_not_fit_is_an_answer() -> None:
    request = make_request(find_work(load_smoke(), "gans/baseline"), (1, 30, 30))
    question = {"request": request.to_json(), "budget_sec": 0.1, "largest_batch": 16}
    assert "30x30" in probe.answer(question)["error"]


def test_a_second_plan_asks_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def ask(question: dict[str, Any], timeout_sec: float | None) -> dict[str, Any] | None:
        asked.append(question["largest_batch"])
        if question["largest_batch"] > 4:
            return None  # ended by the system
        return {"measurement": vars(Measurement(4, 1.0, 1.0, 1, 2, None))}

    monkeypatch.setattr(measure, "_ask", ask)
    request = make_request(find_work(load_smoke(), "gans/baseline"), SHAPE)
    said: list[str] = []
    for _ in range(2):
        found = Prober(tmp_path, 60.0, said.append).find(request, "title")
        assert isinstance(found, Measurement)
        assert found.batch_size == 4
    assert asked == [16, 8, 4]
    assert said == ["title"]
    other = replace(request, frozen=(Network("cnn", {"channels": [8]}),))
    Prober(tmp_path, 60.0, said.append).find(other, "other")
    assert said == ["title", "other"]


def test_probes_run_in_a_process_of_their_own(tmp_path: Path) -> None:
    model = {"channels": [8, 8], "kernel_px": 3}
    prober = Prober(tmp_path, 1.0, print)
    [counts] = prober.count([("classifiers", "cnn", model)], SHAPE)
    assert counts["C"]["parameters"] == 1073


def test_an_unknown_architecture_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "_ask", lambda question, timeout_sec: probe.answer(question))
    with pytest.raises(UserError, match="unknown classifier 'nothing'"):
        Prober(tmp_path, 1.0, print).count([("classifiers", "nothing", {})], SHAPE)


# --- from probes to costs


def test_memory_is_a_constant_and_a_share_an_image() -> None:
    found = Measurement(4, 2.0, 1.0, static_bytes=100, peak_bytes=140, limit_bytes=None)
    assert found.compute_memory(64) == 100 + 64 * 10
    assert found.compute_seconds(64) == 32.0
    assert found.find_fitting_batch(355) == 25
    assert found.find_fitting_batch(50) == 0


@pytest.mark.parametrize(
    ("steps", "expected"), [((), 0), ((10, 10, 10), 20), ((7, 3, 4), 7), ((5,), 5)]
)
def test_trainings_are_handed_out_to_workers(
    monkeypatch: pytest.MonkeyPatch, steps: tuple[int, ...], expected: int
) -> None:
    monkeypatch.setenv("KGAPS_WORKERS", "2")
    assert compute_makespan(steps) == expected


def test_processes_that_train_together_share_the_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimate, "count_gpus", lambda: 8)
    monkeypatch.setattr(estimate, "is_launch_due", lambda num_waiting: num_waiting < 8)
    assert compute_makespan((10, 6)) == (10 + 6) / 8
    monkeypatch.setenv("KGAPS_PROCESSES", "4")
    assert compute_makespan((10, 6)) == (10 + 6) / 4


@pytest.mark.parametrize(
    ("free_bytes", "notes"),
    [
        (10_000, []),
        (739, ["batch 64 does not fit into the memory, 63 would"]),
        (1000, ["2 side by side do not fit: KGAPS_WORKERS=1"]),
    ],
)
def test_what_does_not_fit_is_said(
    monkeypatch: pytest.MonkeyPatch, free_bytes: int, notes: list[str]
) -> None:
    monkeypatch.setenv("KGAPS_WORKERS", "2")
    monkeypatch.setenv("KGAPS_DEVICE", "cpu")
    monkeypatch.setattr(estimate, "find_free_bytes", lambda: free_bytes)
    found = Measurement(64, 1.0, 1.0, static_bytes=100, peak_bytes=740, limit_bytes=None)
    assert describe_fit(found, 64, num_trainings=3) == notes


def test_extrapolation_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimate, "find_free_bytes", lambda: None)
    found = Measurement(16, 1.0, 1.0, static_bytes=100, peak_bytes=740, limit_bytes=None)
    assert describe_fit(found, 64, num_trainings=3) == ["extrapolated from batch 16"]


# --- what is printed


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (format_bytes(999), "999 B"),
        (format_bytes(1_234_567), "1.23 MB"),
        (format_bytes(12_345_678_901), "12.3 GB"),
        (format_bytes(999_600), "1 MB"),
        (format_count(78_125), "78,125"),
        (format_count(30_370_060), "30.4 M"),
        (format_seconds(12.34), "12.3 s"),
        (format_seconds(150), "2.5 min"),
        (format_seconds(5_400 * 2), "3 h"),
        (format_seconds(3600 * 1234.4), "1,234 h"),
    ],
)
def test_numbers_are_short(written: str, expected: str) -> None:
    assert written == expected


ROWS = [
    Row("prepare", disk_bytes=1000),
    Row(
        "gans@a",
        trainings=2,
        trainings_left=1,
        steps=10,
        images_shown=40,
        parameters={"G": 5, "D": 7},
        seconds=3600.0,
        seconds_left=1800.0,
        disk_bytes=10,
        resume_bytes=30,
        notes=("a/0 at step 4",),
    ),
    Row("classifiers@longer_name", trainings=1, trainings_left=0, seconds=0.0, seconds_left=0.0),
]


def test_totals() -> None:
    assert compute_totals(ROWS) == {
        "trainings": 3,
        "trainings_left": 1,
        "images_shown": 40,
        "hours": 1.0,
        "hours_left": 0.5,
        "disk_bytes": 1010,
        "largest_resume_bytes": 30,
    }
    assert compute_totals([*ROWS, Row("samples")])["hours"] is None


def test_the_table_is_aligned_and_plain() -> None:
    text = render("name", ["machine"], ROWS)
    assert text.isascii()
    title, _, header, *lines = text.splitlines()
    assert title == "name on machine"
    rows = lines[: len(ROWS) + 1]
    for name in ("trainings", "to do", "disk"):  # right-aligned under their headings
        end = header.index(f" {name}") + len(name) + 1
        assert {row[end : end + 1].strip() for row in rows} == {""}
        assert rows[-1][:end].split()[-1] != ""
    assert rows[1].endswith("a/0 at step 4")
    assert "0.50 left of 1.00" in text
    assert not any(line.endswith(" ") for line in text.splitlines())
