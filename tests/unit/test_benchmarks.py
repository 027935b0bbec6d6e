"""The benchmarks: their arithmetic, their page, and that what they compare is the same task."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import Tensor

from baselines import classifier_loop, dcgan_loop, naive_evaluation
from knowledge_gaps.core.instance import Instance
from knowledge_gaps.core.layout import TEST_IMAGES
from knowledge_gaps.data.images import to_float
from knowledge_gaps.planning.timing import build_trainer
from knowledge_gaps.study import load_study
from knowledge_gaps.training.batches import Stream, draw_latents, draw_reals
from knowledge_gaps.training.classifier import ClassifierTrainer
from knowledge_gaps.training.gan import GanTrainer
from knowledge_gaps.training.trainer import compute_decay
from measuring import JSON_FILE, PAGE_FILE
from short_study import COMMANDS, GANS, ShortStudy
from study_tools import REPOSITORY
from stylegan2 import build_textbook, make_recipe

SHAPE = (1, 28, 28)
STUDY = load_study(REPOSITORY / "settings" / "mnist_reduced.yaml")
GAN, CNN = STUDY.gan_recipes["dcgan"], STUDY.classifier_recipes["cnn"]
PRINTED = 6e-7  # tables have six decimals
SAME, NEARLY = 3e-6, 1e-4  # float32 rounding of a loss, and after an update by Adam


def test_plain_gan_loop_does_the_trainers_step() -> None:
    torch.manual_seed(3)
    trainer, stream = build_trainer(GAN, [], SHAPE), get_stream()
    assert isinstance(trainer, GanTrainer)
    plain = dcgan_loop.Training(GAN.steps)
    plain.generator.load_state_dict(trainer.modules["generator"].state_dict())
    plain.discriminator.load_state_dict(trainer.modules["discriminator"].state_dict())
    for step in (0, 1):  # the first update decides the second
        reals = to_float(draw_reals(stream, trainer.images, GAN.batch_size, step, 0))
        latents = draw_latents(stream, GAN.batch_size, dcgan_loop.LATENT_DIM, step, 0)
        expected, found = trainer.run_step(step), plain.step(reals, latents)
        assert_same(found, expected, relative=SAME if step == 0 else NEARLY)


def test_plain_gan_loops_rate_falls_as_the_recipes() -> None:
    steps = 8
    for settings in (GAN.generator_optimizer, GAN.discriminator_optimizer):
        plain = dcgan_loop.Training(steps)
        for step in range(steps):
            decay = compute_decay(settings.schedule, step, steps)
            for optimizer in (plain.optimizer_g, plain.optimizer_d):
                rate = optimizer.param_groups[0]["lr"]
                assert rate == pytest.approx(settings.learning_rate * decay, rel=1e-9)
                optimizer.step()
            for schedule in plain.schedules:
                schedule.step()


def test_plain_classifier_loop_does_the_trainers_step() -> None:
    torch.manual_seed(3)
    trainer, stream = build_trainer(CNN, [GAN] * 3, SHAPE), get_stream()
    assert isinstance(trainer, ClassifierTrainer)
    plain = classifier_loop.Training(CNN.steps)
    plain.classifier.load_state_dict(trainer.classifier.network.state_dict())
    others = [dcgan_loop.Generator() for _ in range(3)]
    for other, generator in zip(others, trainer.generators, strict=True):
        other.load_state_dict(generator.state_dict())
        other.eval()
    for step in (0, 3):  # at both, the first of three generators has the image that is left over
        reals = to_float(draw_reals(stream, trainer.images, CNN.batch_size, step, 0))
        parts = [
            draw_latents(stream, count, dcgan_loop.LATENT_DIM, step, 0, index)
            for index, count in enumerate((22, 21, 21))
        ]
        images = torch.cat([reals, classifier_loop.sample(others, torch.cat(parts))])
        rate = plain.optimizer.param_groups[0]["lr"]
        decay = compute_decay(CNN.optimizer.schedule, 0 if step == 0 else 1, CNN.steps)
        assert rate == pytest.approx(CNN.optimizer.learning_rate * decay, rel=1e-9)
        expected, found = {"loss": trainer.run_step(step)["loss"]}, {"loss": plain.step(images)}
        assert_same(found, expected, relative=SAME if step == 0 else NEARLY)


def get_stream() -> Stream:
    return Stream(0, "plan", Instance(0, 0))  # of planning's trainers


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor], relative: float) -> None:
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert float(found[name]) == pytest.approx(float(value), rel=relative), name


def test_textbook_stylegan2_computes_the_same_function() -> None:
    torch.manual_seed(0)
    textbook = build_textbook(make_recipe())  # which checks it
    before = [value.clone() for value in textbook.generator.parameters()]
    textbook.run_step(0)
    after = list(textbook.generator.parameters())
    assert not all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


@pytest.mark.slow
def test_naive_evaluation_finds_what_the_stages_find(tmp_path: Path) -> None:
    study = ShortStudy(tmp_path, 3, num_images=40)
    for command in (*COMMANDS, ("detections",), ("quality",)):
        study.run(*command)
    reals, samples = study.get_reals_file(TEST_IMAGES), study.list_files("data/samples/*/*/*.npy")
    classifiers = study.list_files("models/classifiers/*/*/*/*.safetensors")
    tables = tmp_path / "reports" / "benchmark"
    for row in pd.read_csv(tables / "detections.csv").to_dict("records"):
        pair = samples[row["generator_instance"]], classifiers[row["classifier_instance"]]
        found = naive_evaluation.evaluate_pair(*pair, reals)
        assert found == pytest.approx({name: row[name] for name in found}, abs=PRINTED), row
    table = pd.read_csv(tables / "quality.csv")
    rows = table[table["generator_cohort"] == GANS]
    starts = {"frechet_inception_distance": "fid_lenet", "precision": "precision"}
    starts |= {"kernel_inception_distance_mean": "kid_lenet", "recall": "recall"}
    for path, (_, expected) in zip(samples, rows.iterrows(), strict=True):
        found = naive_evaluation.evaluate_images(path, reals, 40)
        for key, start in starts.items():
            [column] = [name for name in table.columns if name.startswith(start)]
            assert found[key] == pytest.approx(expected[column], abs=PRINTED, rel=1e-6), column


@pytest.mark.slow
def test_every_figure_is_measured(tmp_path: Path) -> None:
    command = [sys.executable, str(REPOSITORY / "benchmarks"), "--quick", "--folder", str(tmp_path)]
    subprocess.run(command, check=True, capture_output=True)
    figures = json.loads((tmp_path / JSON_FILE).read_text())["figures"]
    names = ["gans", "classifiers", "fooling", "evaluation", "stylegan2", "idle"]
    assert [figure["name"] for figure in figures] == names
    assert all(row["median"] > 0 for figure in figures for row in figure["rows"])
    assert "numbers mean nothing" in (tmp_path / PAGE_FILE).read_text()
