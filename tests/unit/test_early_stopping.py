"""Early stopping: what is held out, what a check measures, which weights are kept, when it ends."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from knowledge_gaps.core.errors import StoppedError
from knowledge_gaps.data.images import to_float, to_uint8
from knowledge_gaps.data.store import Images
from knowledge_gaps.models.registry import Generator
from knowledge_gaps.training.batches import draw_latents, draw_reals
from knowledge_gaps.training.classifier import ClassifierTrainer
from knowledge_gaps.training.loop import run_training
from training_tools import (
    STREAM,
    Session,
    are_equal,
    clone_state,
    collect,
    make_classifier_trainer,
    make_generator,
    make_images,
)

STOPPING = {"held_out_generators": 2, "num_images": 7, "check_every": 2, "patience": 2}


def make_trainer(generators: Sequence[Generator] = (), **keys: Any) -> ClassifierTrainer:
    pool = generators or [make_generator(seed) for seed in range(3)]
    return make_classifier_trainer(pool, batch_size=4, early_stopping=STOPPING, **keys)


def script_checks(monkeypatch: pytest.MonkeyPatch, *accuracies: float) -> None:
    """Let the checks measure these accuracies, one after the other."""
    left = list(accuracies)
    measure = lambda self: torch.tensor(left.pop(0))  # noqa: E731
    monkeypatch.setattr(ClassifierTrainer, "_measure_accuracy", measure)


def test_last_generators_are_held_out_of_every_batch() -> None:
    generators = [make_generator(seed) for seed in range(4)]
    calls: list[int] = []
    for index, generator in enumerate(generators):
        generator.register_forward_hook(lambda *_, index=index: calls.append(index))
    trainer = make_trainer(generators)
    trainer.run_step(0)
    assert calls == [0, 1]
    calls.clear()
    trainer.run_step(1)  # a check follows: 7 images of each at a batch size of 4
    assert calls == [0, 1, 2, 2, 3, 3]


# --- a check


def measure_by_hand(classifier: nn.Module, images: Images) -> float:
    """Measure on the same draws, of reals from these images, image by image."""
    num_right = 0
    for index, seed in enumerate((1, 2)):
        generator = make_generator(seed).eval()
        for start, num_each in ((0, 4), (4, 3)):
            names = ("early_stopping", index, start)
            latents = draw_latents(STREAM, num_each, 3, *names)
            generated = [to_float(to_uint8(generator(latent[None]))) for latent in latents]
            reals = draw_reals(STREAM, images, num_each, *names)
            num_right += sum(bool(classifier(image) <= 0) for image in generated)
            num_right += sum(bool(classifier(to_float(real[None])) > 0) for real in reals)
    return num_right / (2 * 2 * 7)


@pytest.mark.parametrize("has_dev", [False, True])
def test_a_check_is_balanced_accuracy_in_evaluation_mode(has_dev: bool) -> None:
    dev = 255 - make_images()[:5] if has_dev else None
    trainer = make_trainer(images_dev=dev)
    accuracies = [trainer.run_step(step).get("accuracy_held_out") for step in range(6)]
    assert [accuracy is not None for accuracy in accuracies] == [False, True] * 3
    assert accuracies[5] is not None
    classifier = trainer.modules["classifier"].eval()
    with torch.no_grad():
        expected, other = (
            measure_by_hand(classifier, reals)
            for reals in (make_images() if dev is None else dev, make_images())
        )
    assert accuracies[5].item() == pytest.approx(expected, abs=1e-6)
    assert (accuracies[5].item() == pytest.approx(other, abs=1e-6)) is not has_dev


def test_checks_do_not_disturb_the_training() -> None:
    often, rarely = make_trainer(), make_trainer()
    rarely._is_check_due = lambda steps: False  # type: ignore[method-assign]
    for step in range(5):
        often.run_step(step)
        rarely.run_step(step)
    assert are_equal(*(clone_state(each.modules["classifier"]) for each in (often, rarely)))


# --- what is kept, and the end


def test_weights_of_the_best_check_are_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    script_checks(monkeypatch, 0.6, 0.8, 0.8, 0.7)
    trainer = make_trainer()
    states, finished = [], []
    for step in range(8):
        trainer.run_step(step)
        states.append(clone_state(trainer.modules["classifier"]))
        finished.append(trainer.is_finished())
    assert finished == [False] * 7 + [True]  # the second check without a gain
    assert are_equal(clone_state(trainer.get_result()), states[3])
    assert not are_equal(states[3], states[7])
    assert trainer.scalars["best_accuracy"].item() == pytest.approx(0.8)
    assert trainer.scalars["checks_without_gain"].item() == 2


def test_average_is_checked_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    script_checks(monkeypatch, 0.6)
    trainer = make_trainer(ema_decay=0.5)
    trainer.run_step(0)
    trainer.run_step(1)
    average = trainer.modules["average"].module
    assert isinstance(average, nn.Module)
    assert are_equal(clone_state(trainer.get_result()), clone_state(average))
    assert not are_equal(clone_state(average), clone_state(trainer.modules["classifier"]))


# --- in the loop


def run(trainer: ClassifierTrainer, path: Path, stop_before: int | None = None) -> tuple[str, int]:
    curves, num_steps = run_training(trainer, path, Session(stop_before))
    return curves.to_csv(), num_steps


@pytest.mark.parametrize("stop_before", [1, 5])
def test_resumed_training_ends_in_the_same_bytes(stop_before: int, tmp_path: Path) -> None:
    whole, stopped, resumed = (make_trainer(log_every=3) for _ in range(3))
    expected = run(whole, tmp_path / "whole.safetensors")
    path = tmp_path / "state.safetensors"
    with pytest.raises(StoppedError):
        run(stopped, path, stop_before)
    assert run(resumed, path) == expected
    assert are_equal(collect(whole), collect(resumed))


def test_loop_ends_where_patience_does(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    script_checks(monkeypatch, 0.9, 0.6, 0.6)
    curves, num_steps = run(make_trainer(steps=20, log_every=50), tmp_path / "s.safetensors")
    assert num_steps == 6
    assert re.search(r"accuracy_held_out\n6,.*,0\.7\n$", curves)
