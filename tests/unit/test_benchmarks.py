"""The benchmarks: their statistics, their page, and that what they compare is the same task."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import benchmark_paths
import numpy as np
import pandas as pd
import pytest
import torch
from figures.orchestration import Joined, StageCosts
from torch import Tensor

import classifier_loop
import dcgan_loop
import naive_evaluation
from children import cohort as cohort_child
from children.cohort import FirstReport, time_training
from children.evaluation import write_random
from figures import orchestration, side_by_side
from figures.growth import Curve, Per, describe_start
from knowledge_gaps.data.images import to_float
from knowledge_gaps.data.store import hold_images
from knowledge_gaps.execution.cohort import train_cohort
from knowledge_gaps.execution.tasks import make_tasks
from knowledge_gaps.models.registry import Generator
from knowledge_gaps.planning.networks import build_classifier, build_discriminator, build_generator
from knowledge_gaps.stages import detections, quality
from knowledge_gaps.study import ClassifierRecipe, GanRecipe, Kind, load_study
from knowledge_gaps.training.accelerator import build_accelerator
from knowledge_gaps.training.batches import Stream, draw_latents, draw_reals
from knowledge_gaps.training.classifier import ClassifierTrainer
from knowledge_gaps.training.gan import GanTrainer
from knowledge_gaps.training.optimizers import compute_decay
from knowledge_gaps.training.phases import Fooling
from knowledge_gaps.training.task import TrainingTask
from measuring.pairs import Spread, compare, fit_line, fit_power, take_turns
from measuring.results import JSON_FILE, PAGE_FILE, Effort, Figure, Growth, Results, Row, Target
from studies.clone import Clone, Repro
from study_tools import REPOSITORY

SHAPE = (1, 28, 28)
REDUCED = load_study(REPOSITORY / "settings" / "mnist_reduced.yaml")
SEED = 3
PRINTED = 6e-7  # tables have six decimals
SAME, NEARLY = 3e-6, 1e-4  # float32 rounding of a loss, and after an update by Adam

# -------------------------------------------------------------------------------------- statistics


def test_every_second_turn_is_reversed() -> None:
    order: list[str] = []

    def note(name: str) -> float:
        order.append(name)
        return float(len(order))

    found = take_turns({"a": lambda: note("a"), "b": lambda: note("b")}, 3)
    assert order == ["a", "b", "b", "a", "a", "b"]
    assert found == {"a": [1, 4, 5], "b": [2, 3, 6]}


def test_ratios_are_of_the_same_turn() -> None:
    spread = compare([10, 6, 9, 40], [5, 6, 3, 10])
    assert spread.values == (2, 1, 3, 4)
    assert (spread.median, spread.low, spread.high) == (2.5, 1, 4)
    with pytest.raises(ValueError, match="zip"):
        compare([1, 2], [1])


def test_slope_of_a_power_law() -> None:
    slope = fit_power([1, 2, 5, 10], [3 * size**1.5 for size in (1, 2, 5, 10)])
    assert slope.value == pytest.approx(1.5, abs=1e-12)
    assert slope.std_error == pytest.approx(0, abs=1e-6)


def test_slope_by_hand() -> None:
    # in units of ln 2 the points are (0, 0), (1, 1), (2, 3): slope 3/2, residuals 1/6, -1/3, 1/6,
    # so the variance is 1/6 with one degree of freedom, the slope's 1/12; t is 12.7062
    slope = fit_power([1, 2, 4], [1, 2, 8])
    assert slope.value == pytest.approx(1.5)
    assert slope.std_error == pytest.approx((1 / 12) ** 0.5)
    assert slope.high - 1.5 == pytest.approx(12.7062 * (1 / 12) ** 0.5, rel=1e-5)
    assert slope.low + slope.high == pytest.approx(3)


def test_slope_of_a_line_ignores_its_constant() -> None:
    # 1 + 0.1 n, whose power law would have an exponent of 0.19
    line = fit_line([1, 2, 3, 4, 5], [1.1, 1.2, 1.3, 1.4, 1.5])
    assert line.value == pytest.approx(0.1)
    assert line.std_error == pytest.approx(0, abs=1e-8)


def test_line_needs_three_sizes() -> None:
    with pytest.raises(ValueError, match="at least three"):
        fit_power([1, 2, 2], [1, 2, 3])


@pytest.mark.parametrize(
    ("is_least", "value", "is_met"),
    [(True, 2.5, True), (True, 2.49, False), (False, 2.5, True), (False, 2.51, False)],
)
def test_target_is_met_on_its_limit(is_least: bool, value: float, is_met: bool) -> None:
    assert Target(2.5, is_least).is_met(value) is is_met


def make_curve(*, is_power: bool) -> Curve:
    seconds = {1: [2.0, 4.0], 1000: [2.0, 4.0], 2000: [4.0, 10.0], 4000: [8.0, 20.0]}
    peaks = {1: 2**20, 1000: 2**20, 2000: 2**21, 4000: 2**22}
    return Curve(
        "a stage", "{:,} images".format, Per("1,000 images", 1000), is_power, seconds, peaks
    )


def test_growth_is_told_from_the_smallest_size() -> None:
    curve = make_curve(is_power=True)
    last = list(curve.list_rows())[-1]
    assert last.name == "a stage: 4,000 images / 1 images"
    assert last.spread is not None
    assert last.spread.values == (4, 5)
    assert last.note == "4 MiB at the peak"
    time, memory = curve.list_growths(least=1000)
    assert "1,000 images to 4,000 images" in time.name
    assert time.unit == ""
    assert time.slope.value == pytest.approx(np.log2(14 / 3) / 2)
    assert memory.unit == "MiB, 1,000 images"
    assert memory.slope.value == pytest.approx(1)


def test_growth_along_a_line_is_told_in_the_first_size() -> None:
    # medians 3, 7, 14 at 1, 2, 4, whose mean is 7/3: (-4/3 * 3 - 1/3 * 7 + 5/3 * 14) / (42/9)
    time, _ = make_curve(is_power=False).list_growths(least=1000)
    assert time.slope.value == pytest.approx(51 / 14 / 3)
    assert time.unit == "of the time of 1,000 images, 1,000 images"


def test_growth_says_where_its_lines_begin() -> None:
    curve = make_curve(is_power=True)
    assert curve.select_sizes(1000) == [1000, 2000, 4000]
    assert describe_start(curve, 1000).endswith("so the lines begin at 1000")
    assert curve.select_sizes(2000) == [1, 1000, 2000, 4000]  # two sizes are no line
    assert describe_start(curve, 2000).endswith("so the lines begin at 1, where cores are idle")


def make_costs() -> StageCosts:
    once = ("check", "prepare", "detections", "quality", "spectra", "attributions", "audit")
    return StageCosts(
        first=dict.fromkeys((*once, "samples", "agreement", "report"), (3.0, 1.0))
        | {
            "gans@baseline": (100.0, 1.0),  # what is measured in turns counts alone
            "pools@c0": (100.0, 1.0),
            "classifiers@iteration_0": (7.0, 2.0),
        },
        whole={"gans@baseline": [5, 6, 16], "pools@c0": [4, 4, 4]},
        work={"gans@baseline": [1, 1, 1], "pools@c0": [1, 2, 1]},
        start_sec=10,
    )


def test_overhead_counts_stages_of_every_kind() -> None:
    costs = make_costs()
    counts = {"gans": 14, "classifiers": 6, "pools": 12}
    assert costs.sum_over(counts) == 10 + 10 * 2 + 14 * 5 + 6 * 5 + 12 * 3
    assert costs.compare("gans@baseline").values == (5, 6, 16)
    assert costs.compare("classifiers@iteration_0").values == (3.5,)


def test_what_is_measured_once_has_no_spread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    idle = {name: [2.0, 3.0, 4.0] for name in ("dvc repro", "dvc status", "import dvc.repo")}
    joined = Joined(2.0, Repro(9.0, {"gans@new": 4.0, "samples": 3.0}, 16))
    answers = {
        "clone_working_tree": None,
        "sum_work": 1000.0,
        "finish_with_placeholders": 40,
        "measure_idle": idle,
        "measure_stages": make_costs(),
        "add_cohort": joined,
    }
    for name, answer in answers.items():
        monkeypatch.setattr(orchestration, name, lambda *_, answer=answer: answer)
    Results(tmp_path, "two cores", ["orchestration"], is_quick=True).put(
        orchestration.measure_orchestration(Effort(3, is_quick=True)), "idle"
    )
    [figure] = json.loads((tmp_path / JSON_FILE).read_text())["figures"]
    rows = {row["name"].partition(",")[0]: row["values"] for row in figure["rows"]}
    assert rows["gans: a stage / its work"] == [5, 6, 16]
    assert rows["classifiers: a stage / its work"] == [3.5]
    overhead = 10 + 10 * 2 + 2 * 5 + 1 * 5 + 2 * 3  # of the smoke study's stages
    assert rows["process starts"] == [pytest.approx(overhead / (overhead + 1000))]
    assert figure["rows"][3]["values"] == [4.5]
    assert "ran 2 stages of 16: gans@new, samples" in figure["text"]


# --------------------------------------------------------------------------------------- the page


def make_figure(name: str, median: float) -> Figure:
    spread = Spread((median - 1, median, median + 2))
    rows = [
        Row("this / that", spread, "x", Target(4.0, is_least=True)),
        Row("a share", Spread((0.0312,)), "%", note="measured once"),
        Row("what did not run", None, note="no compiler"),
    ]
    return Figure(
        name,
        name.title(),
        "How.",
        rows,
        [
            Growth("time", fit_power([1, 2, 4], [1, 2, 8])),
            Growth("memory", fit_line([1, 2, 3], [1, 2, 3]), "MiB, one"),
        ],
    )


def test_page_tells_targets_honestly(tmp_path: Path) -> None:
    results = Results(tmp_path, "two cores", ["first", "second"], is_quick=False)
    results.put(make_figure("second", 5.0), "idle")
    results.put(make_figure("first", 3.0), "idle")
    page = (tmp_path / PAGE_FILE).read_text()
    assert page.index("## First") < page.index("## Second")
    failed = "| this / that | 3.00 x | 2.00 x | 5.00 x | 3 | at least 4.00 x | **no** |"
    met = "| this / that | 5.00 x | 4.00 x | 7.00 x | 3 | at least 4.00 x | yes |"
    assert page.count(failed) == 2  # among the targets, and in its figure
    assert page.count(met) == 2
    assert "| a share (measured once) | 3.1 % | 3.1 % | 3.1 % | 1 |  |  |" in page
    assert "| what did not run (no compiler) | not measured |" in page
    assert "| time | exponent | 1.50 | 0.29 | -2.17 to 5.17 |" in page
    assert "| memory | MiB, one | 1.000 | 0.000 | 1.000 to 1.000 |" in page
    assert "two cores" in page


def test_figures_stay_until_they_are_measured_anew(tmp_path: Path) -> None:
    order = ["first", "second"]
    Results(tmp_path, "two cores", order, False).put(make_figure("first", 3.0), "idle")
    Results(tmp_path, "two cores", order, False).put(make_figure("second", 3.0), "idle")
    Results(tmp_path, "two cores", order, False).put(make_figure("first", 5.0), "idle")
    figures = json.loads((tmp_path / JSON_FILE).read_text())["figures"]
    assert [(each["name"], each["rows"][0]["median"]) for each in figures] == [
        ("first", 5.0),
        ("second", 3.0),
    ]
    Results(tmp_path, "four cores", order, False).put(make_figure("first", 5.0), "idle")
    figures = json.loads((tmp_path / JSON_FILE).read_text())["figures"]
    assert [each["name"] for each in figures] == ["first"]


def test_command_measures_and_writes(tmp_path: Path) -> None:
    command = [sys.executable, str(benchmark_paths.FOLDER), "--quick", "--turns", "1"]
    refused = subprocess.run(command, capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert "--folder" in refused.stderr
    command += ["--only", "fooling", "--folder", str(tmp_path)]
    subprocess.run(command, check=True, capture_output=True)
    [figure] = json.loads((tmp_path / JSON_FILE).read_text())["figures"]
    ratios = [row["median"] for row in figure["rows"]]
    assert ratios[2] > ratios[0]  # ten classifiers cost more than one
    assert "numbers mean nothing" in (tmp_path / PAGE_FILE).read_text()


def test_sweep_that_is_timed_is_a_study(tmp_path: Path) -> None:
    sizes = side_by_side.Sizes(cohorts=4, instances=1, steps=20)
    (tmp_path / "params.yaml").write_text(side_by_side.write_params(sizes, seed=7))
    study = load_study(tmp_path / "params.yaml")
    assert len(study.gans) == sizes.cohorts
    assert all(cohort.fools == "none" for cohort in study.gans.values())  # none waits for another
    assert study.study.seed == 7


def test_repro_is_timed_by_stage(tmp_path: Path) -> None:
    fake = tmp_path / "dvc"
    fake.write_text(
        f"#!{sys.executable}\nimport time\n"
        "def say(text, seconds):\n    print(text, flush=True)\n    time.sleep(seconds)\n"
        "say('', 0.3)\n"
        "say(\"Running stage 'gans@a':\", 0.2)\n"
        "say('> kgaps gans a', 0.2)\n"
        "say(\"Stage 'pools@b' didn't change, skipping\", 0.5)\n"
        "say(\"Running stage 'report':\", 0.1)\n"
    )
    fake.chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    repro = Clone(tmp_path, {**os.environ, "PATH": path}).reproduce()
    assert list(repro.stages) == ["gans@a", "report"]
    assert repro.num_stages == 3
    assert 0.3 <= repro.stages["gans@a"] < 0.4 + 0.4  # without the stage that was skipped
    assert repro.stages["report"] >= 0.1
    assert repro.seconds >= 0.3 + 0.4 + 0.5 + 0.1


def test_training_is_timed_from_its_first_report(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = 100.0

    def train(tasks: list[TrainingTask], listeners: list[FirstReport]) -> None:
        nonlocal clock
        for seconds in (60.0, 5.0, 7.0):  # 60 s until networks are built and a worker reports
            clock += seconds
            for listener in listeners:
                listener.report(0, 0, None)
        clock += 1.0  # the directory is published

    monkeypatch.setattr(cohort_child, "train_cohort", train)
    monkeypatch.setattr(cohort_child, "time", SimpleNamespace(perf_counter=lambda: clock))
    assert time_training([]) == 5 + 7 + 1


def test_cohort_reports_before_its_first_step(trained_copy: Path) -> None:
    heard: list[int] = []

    class Steps:
        def report(self, instance: int, step: int, row: dict[str, float] | None) -> None:
            heard.append(step)

    study = load_study(trained_copy / "params.yaml")
    train_cohort(make_tasks(trained_copy, study, Kind.GANS, "baseline"), [Steps()])
    assert heard[0] == 0


@pytest.mark.parametrize("turns", ["0", "-1", "2"])
def test_results_have_enough_pairs(turns: str) -> None:
    command = [sys.executable, str(benchmark_paths.FOLDER), "--turns", turns]
    refused = subprocess.run(command, capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert f"--turns: {turns}" in refused.stderr.splitlines()[-1]


# -------------------------------------------------------------------------------------- same tasks


def make_images() -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(0).integers(0, 256, (100, *SHAPE), dtype=np.uint8)


def get_gan_recipe() -> GanRecipe:
    recipe = REDUCED.gan_recipes["dcgan"]
    return recipe.model_copy(update={"mixed_precision": "no", "ema_decay": None})


def get_classifier_recipe() -> ClassifierRecipe:
    recipe = REDUCED.classifier_recipes["cnn"]
    return recipe.model_copy(update={"mixed_precision": "no", "ema_decay": None})


def test_plain_loops_have_the_sizes_of_the_recipes() -> None:
    gan, cnn = get_gan_recipe(), get_classifier_recipe()
    assert gan.model == {
        "latent_dim": dcgan_loop.LATENT_DIM,
        "channels": list(dcgan_loop.CHANNELS),
        "kernel_px": 4,
    }
    assert (gan.batch_size, gan.r1_gamma, gan.r1_interval) == (
        dcgan_loop.BATCH_SIZE,
        dcgan_loop.R1_GAMMA,
        dcgan_loop.R1_EVERY,
    )
    for adam in (gan.generator_optimizer, gan.discriminator_optimizer):
        assert (adam.learning_rate, adam.betas) == (dcgan_loop.LEARNING_RATE, dcgan_loop.BETAS)
        assert (adam.weight_decay, adam.schedule) == (0, "constant")
    assert cnn.model == {"channels": list(classifier_loop.CHANNELS), "kernel_px": 3}
    assert (cnn.batch_size, cnn.translation_px) == (
        classifier_loop.BATCH_SIZE,
        classifier_loop.SHIFT_PX,
    )
    assert (cnn.optimizer.learning_rate, cnn.optimizer.betas) == (
        classifier_loop.LEARNING_RATE,
        classifier_loop.BETAS,
    )
    assert (cnn.optimizer.schedule, cnn.optimizer.decay_from) == ("cosine", 0)


def test_plain_gan_loop_does_the_trainers_step() -> None:
    torch.manual_seed(SEED)
    recipe, images = get_gan_recipe(), hold_images(make_images())
    own = ("dcgan", recipe.model, SHAPE)
    generator, discriminator = build_generator(*own), build_discriminator(*own)
    plain = dcgan_loop.Training()
    plain.generator.load_state_dict(generator.state_dict())
    plain.discriminator.load_state_dict(discriminator.state_dict())
    stream = Stream(SEED, "gans/test", 0)
    trainer = GanTrainer(
        generator,
        discriminator,
        Fooling([], 0.0, "sum"),
        images,
        recipe,
        stream,
        build_accelerator(0),
    )
    for step in (0, 1):  # R1 is in the first, and its update is seen by the second
        reals = to_float(draw_reals(stream, images, recipe.batch_size, step, 0))
        latents = draw_latents(stream, recipe.batch_size, dcgan_loop.LATENT_DIM, step, 0)
        expected, found = trainer.run_step(step), plain.step(step, reals, latents)
        assert_same(found, expected, relative=SAME if step == 0 else NEARLY)
        assert ("r1_penalty" in found) is (step == 0)


def test_plain_classifier_loop_does_the_trainers_step() -> None:
    torch.manual_seed(SEED)
    recipe, images = get_classifier_recipe(), hold_images(make_images())
    generators = [build_generator("dcgan", get_gan_recipe().model, SHAPE) for _ in range(3)]
    classifier = build_classifier("cnn", recipe.model, SHAPE)
    plain = classifier_loop.Training(recipe.steps)
    plain.classifier.load_state_dict(classifier.network.state_dict())
    others = [copy_generator(generator) for generator in generators]
    stream = Stream(SEED, "classifiers/test", 0)
    trainer = ClassifierTrainer(
        classifier, generators, 1.0, images, recipe, stream, build_accelerator(0)
    )
    num_images = recipe.batch_size
    for step in (0, 3):  # at both, the first of three generators has the image that is left over
        reals = to_float(draw_reals(stream, images, num_images, step, 0))
        parts = [
            draw_latents(stream, count, dcgan_loop.LATENT_DIM, step, 0, index)
            for index, count in enumerate((22, 21, 21))
        ]
        generated = classifier_loop.sample(others, torch.cat(parts))
        drawn = stream.make_generator("shifts", step, 0)
        shifts = torch.randint(7, (2 * num_images, 2), generator=drawn)
        shifted = classifier_loop.shift(torch.cat([reals, generated]), shifts[:, :1], shifts[:, 1:])
        expected = trainer.run_step(step)["loss"]
        found = plain.step(shifted)
        assert_same({"loss": found}, {"loss": expected}, relative=SAME if step == 0 else NEARLY)


def copy_generator(generator: Generator) -> dcgan_loop.Generator:
    plain = dcgan_loop.Generator()
    plain.load_state_dict(generator.state_dict())
    return plain.eval()


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor], relative: float) -> None:
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert float(found[name]) == pytest.approx(float(value), rel=relative), name


def test_plain_schedule_is_the_trainers() -> None:
    plain = classifier_loop.Training(steps=8)
    settings = get_classifier_recipe().optimizer
    for step in range(8):
        rate = plain.optimizer.param_groups[0]["lr"]
        expected = classifier_loop.LEARNING_RATE * compute_decay(settings, step, 8)
        assert rate == pytest.approx(expected, rel=1e-9)
        plain.optimizer.step()
        plain.schedule.step()


def test_naive_evaluation_finds_what_the_stages_find(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KGAPS_WORKERS", "1")
    num_images = 40
    study = write_random(tmp_path, 2, num_images, reals=60)
    detections.run(tmp_path, study)
    quality.run(tmp_path, study)
    table = pd.read_csv(tmp_path / "reports" / "detections.csv")
    reals = naive_evaluation.get_reals(tmp_path, "test")
    samples = naive_evaluation.list_samples(tmp_path, 2)
    classifiers = naive_evaluation.list_classifiers(tmp_path, 2)
    for row in table.to_dict("records"):
        found = naive_evaluation.evaluate_pair(
            samples[row["generator_instance"]], classifiers[row["classifier_instance"]], reals
        )
        assert found == pytest.approx({name: row[name] for name in found}, abs=PRINTED), row
    metrics = pd.read_csv(tmp_path / "reports" / "quality.csv").set_index("generator_cohort")
    for instance, path in enumerate(samples):
        expected = metrics.loc["gans"].iloc[instance]
        found = naive_evaluation.evaluate_images(path, reals, num_images)
        names = {
            "frechet_inception_distance": "fid_lenet",
            "kernel_inception_distance_mean": "kid_lenet",
            "precision": "precision",
            "recall": "recall",
        }
        for key, start in names.items():
            [column] = [
                name
                for name in metrics.columns
                if name.startswith(start) and not name.startswith("kid_std")
            ]
            assert found[key] == pytest.approx(expected[column], abs=PRINTED, rel=1e-6), column
