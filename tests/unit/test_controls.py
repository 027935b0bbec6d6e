"""Controls against known answers: an attack on linear classifiers, levels counted by hand."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from classifier_tools import build_classifier, draw_images, prepare
from torch import nn

from fabrication import FOOLING, make_study, write
from knowledge_gaps.core.errors import UserError
from knowledge_gaps.evaluation import controls
from knowledge_gaps.evaluation.controlling import (
    Given,
    choose_controls,
    get_control,
    list_controls,
    measure_change,
)
from knowledge_gaps.evaluation.detection import score_images
from knowledge_gaps.models.frozen import freeze
from knowledge_gaps.models.input_spec import GanClassifier, InputSpec
from knowledge_gaps.readings.cohorts import list_controlled, plan_controls
from knowledge_gaps.study import EvaluationSettings

Images = npt.NDArray[np.uint8]

REALS = draw_images(40, seed=1)
SHAPES = ((1, 12, 12), (3, 5, 7))


def change(
    name: str,
    images: Images,
    classifiers: Sequence[GanClassifier] = (),
    distortion: int = 0,
    reals: Images = REALS,
) -> Images:
    return get_control(name).change(images, Given(reals, classifiers), distortion)


class Flat(nn.Module):
    """A linear layer on all values of an image."""

    def __init__(self, weights: npt.NDArray[np.float32], bias: float) -> None:
        super().__init__()
        self.linear = nn.Linear(weights.size, 1)
        self.linear.weight.data = torch.from_numpy(weights.reshape(1, -1))
        self.linear.bias.data.fill_(bias)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.linear(images.flatten(1))
        return logits.squeeze(1)


def make_linear(weights: npt.NDArray[np.float32], bias: float = 0.0) -> GanClassifier:
    """Make a frozen classifier that is linear in images of the shape of its weights [C, H, W]."""
    channels, *sides = weights.shape
    numbers = {"mean": (0.5,) * channels, "std": (0.5,) * channels}
    spec = InputSpec(channels=channels, image_px=sides, input_px=sides, **numbers)
    return freeze(GanClassifier(Flat(weights, bias), spec))


def draw_weights(shape: tuple[int, ...], seed: int = 0) -> npt.NDArray[np.float32]:
    """Draw weights of either sign, none near 0."""
    rng = np.random.default_rng(seed)
    signs = rng.choice([-1, 1], shape)
    return (signs * rng.uniform(0.01, 0.1, shape)).astype(np.float32)


def draw(num: int, shape: tuple[int, ...]) -> Images:
    """Draw images with values at both ends."""
    images = np.random.default_rng(2).integers(0, 256, (num, *shape), dtype=np.uint8)
    images[:, :, 0], images[:, :, 1] = 0, 255
    return images


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("epsilon", [2, 8, 32])
def test_attack_on_a_linear_classifier_moves_every_value_by_epsilon(
    shape: tuple[int, ...], epsilon: int
) -> None:
    images, weights = draw(5, shape), draw_weights(shape)
    before = images.copy()
    found = change("pgd", images, [make_linear(weights)], epsilon)
    # towards a larger logit, which is "real", and no further than an image can
    expected = np.clip(images.astype(int) + epsilon * np.sign(weights), 0, 255)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(images, before)


def test_attack_leaves_a_classifier_that_is_fooled_already_to_the_others() -> None:
    images = draw(4, SHAPES[0])
    weights, others = (draw_weights(SHAPES[0], seed) for seed in range(2))
    # with a logit of 60 its loss has no slope beside that of a logit near 0
    found = change("pgd", images, [make_linear(weights, 60.0), make_linear(others)], 4)
    expected = np.clip(images.astype(int) + 4 * np.sign(others), 0, 255)
    np.testing.assert_array_equal(found, expected)


def test_attack_stays_in_its_ball_and_raises_every_score() -> None:
    images, classifiers = draw_images(30), [build_classifier("cnn", seed) for seed in range(2)]
    scores = [[score_images(each, images) for each in classifiers]]
    for epsilon in get_control("pgd").distortions:
        attacked = change("pgd", images, classifiers[:1], epsilon)
        assert np.abs(attacked.astype(int) - images).max() == epsilon
        scores.append([score_images(each, attacked) for each in classifiers])
    in_loss, held_out = np.array(scores).swapaxes(0, 1)  # [epsilons, images] of each
    assert (np.diff(in_loss, axis=0) > 0).all()
    assert (in_loss[-1] - in_loss[0]).mean() > 2 * (held_out[-1] - held_out[0]).mean()


def test_attack_is_one_of_each_image_by_itself() -> None:
    images, classifier = draw_images(130), build_classifier("cnn")  # more than a batch
    whole = change("pgd", images, [classifier], 8)
    np.testing.assert_array_equal(change("pgd", images, [classifier], 8), whole)
    parts = [change("pgd", part, [classifier], 8) for part in (images[:50], images[50:])]
    # a gradient near 0 may have another sign in another batch
    assert (np.concatenate(parts) != whole).mean() < 1e-3


def test_frozen_classifier_keeps_its_weights() -> None:
    classifier = build_classifier("cnn")
    before = {name: tensor.clone() for name, tensor in classifier.state_dict().items()}
    change("pgd", draw_images(4), [classifier], 4)
    assert all(
        torch.equal(before[name], tensor) for name, tensor in classifier.state_dict().items()
    )
    assert all(weight.grad is None for weight in classifier.parameters())
    assert prepare(draw_images(1)).grad is None


def count(images: Images) -> npt.NDArray[np.float64]:
    """Count what share of each channel's values has which level, one level at a time."""
    return np.stack([(images == level).mean(axis=(0, 2, 3)) for level in range(256)], axis=1)


def test_histogram_becomes_that_of_the_reals_in_every_channel() -> None:
    rng = np.random.default_rng(3)
    reals = rng.integers(0, [[[80]], [[200]], [[256]]], (30, 3, 20, 20)).astype(np.uint8)
    reals[rng.random(reals.shape) < 0.6] = 0
    images = rng.normal(120, 30, (40, 3, 20, 20)).clip(1, 255).astype(np.uint8)
    images[rng.random(images.shape) < 0.5] = 7  # one level where the reals have several
    before = np.abs(count(images) - count(reals)).sum(axis=1)
    found = change("histogram", images, reals=reals)
    after = np.abs(count(found) - count(reals)).sum(axis=1)
    assert before.min() > 1
    assert after.max() < 0.06  # 16,000 values in up to 256 levels
    # a value that was larger than another one of its channel is not smaller now
    for levels, matched in zip(images.swapaxes(0, 1), found.swapaxes(0, 1), strict=True):
        ends = [matched[levels == level] for level in np.unique(levels)]
        assert all(low.max() <= high.min() for low, high in itertools.pairwise(ends))


def test_histogram_by_hand() -> None:
    images = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16)
    reals = np.array([10, 10, 20, 200], np.uint8).reshape(4, 1, 1, 1)
    expected = np.repeat([10, 20, 200], [128, 64, 64])
    np.testing.assert_array_equal(change("histogram", images, reals=reals).ravel(), expected)
    # of the same histogram as the reals: nothing to do
    other = draw_images(40)
    shuffled = np.random.default_rng(0).permutation(other.ravel()).reshape(other.shape)
    np.testing.assert_array_equal(change("histogram", other, reals=shuffled), other)


def test_histogram_is_the_same_every_time_and_new_at_every_position() -> None:
    grey = np.full((6, 1, 12, 12), 128, np.uint8)
    found = change("histogram", grey)
    np.testing.assert_array_equal(change("histogram", grey), found)
    assert len(np.unique(found, axis=0)) == 6


def test_mean_change_counts_both_directions() -> None:
    images = np.array([0, 255, 10, 10], np.uint8).reshape(1, 1, 2, 2)
    changed = np.array([255, 0, 10, 12], np.uint8).reshape(1, 1, 2, 2)
    assert measure_change(changed, images) == 512 / 4
    np.testing.assert_array_equal(change("none", images), images)


def choose(names: list[str] | None) -> list[str]:
    return list(choose_controls(EvaluationSettings(num_images=16, controls=names)))


def test_chosen_are_those_asked_for_and_no_change() -> None:
    assert list_controls() == choose(None) == ["none", "histogram", "pgd"]
    assert choose([]) == []
    assert choose(["pgd"]) == ["none", "pgd"]
    message = r"^params\.yaml: evaluation\.controls: 'cw' found, one of none, histogram, pgd is "
    with pytest.raises(UserError, match=message):
        choose(["pgd", "cw"])


def test_new_control_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = """
from knowledge_gaps.evaluation.controlling import Control
CONTROL = Control(lambda images, given, distortion: images[..., ::-1] + distortion, (1, 2))
"""
    write(tmp_path / "mirror.py", code)
    monkeypatch.setattr(controls, "__path__", [*controls.__path__, str(tmp_path)])
    try:
        assert list_controls() == ["none", "histogram", "mirror", "pgd"]
        assert choose_controls(EvaluationSettings(num_images=16))["mirror"].distortions == (1, 2)
        images = draw_images(2) // 2
        np.testing.assert_array_equal(change("mirror", images, distortion=2)[..., ::-1], images + 2)
    finally:
        sys.modules.pop("knowledge_gaps.evaluation.controls.mirror", None)


def test_plan_is_of_the_first_cohort_that_fools() -> None:
    plan = plan_controls(make_study({"study.chains": 2}))
    assert plan is not None
    assert plan.gans == "fool_all_1"
    assert plan.sources == [("baseline", (chain, 2)) for chain in range(2)]
    assert plan.in_loss == [("iteration_0", (chain, 0)) for chain in range(2)]
    assert plan.classifiers == [("iteration_0", (c, i)) for c in range(2) for i in range(3)]
    rows = list_controlled(make_study({"study.chains": 2}), {"none": (0,), "x": (1, 2)})
    assert len(rows) == 2 * (3 + 1) * 3 + 2 * 2 * 3
    assert all(generator[1].chain == classifier[1].chain for *_, generator, classifier in rows)
    assert {generator[0] for name, _, generator, _ in rows if name == "x"} == {"baseline"}


@pytest.mark.parametrize(
    "changes",
    [
        FOOLING,  # its report still names the cohorts of the other study
        {"report.iterations": []},
        {"gans.fool_all_1.phi": 0.0},
        {"gans.baseline.instances": 2},
        {"classifiers.iteration_0.instances": 1},
    ],
    ids=["no reading", "no iterations", "nobody fooled", "no reference", "nobody held out"],
)
def test_no_plan_where_there_is_nothing_to_compare(changes: dict[str, object]) -> None:
    if "evaluation" in changes:
        changes = {**changes, "report": {}}
    assert plan_controls(make_study(changes)) is None
    assert list_controlled(make_study(changes), {"none": (0,)}) == []
