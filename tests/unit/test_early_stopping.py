"""Early stopping: what is held out, what a check measures, which weights are kept, when it ends."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from knowledge_gaps.core.errors import StoppedError, UserError
from knowledge_gaps.data.images import to_float, to_uint8
from knowledge_gaps.data.store import hold_images
from knowledge_gaps.models.architectures.cnn import Cnn, CnnSettings, make_input_spec
from knowledge_gaps.models.architectures.dcgan import DcganGenerator, DcganSettings
from knowledge_gaps.models.input_spec import GanClassifier
from knowledge_gaps.study import ClassifierRecipe, OptimizerSettings
from knowledge_gaps.study.recipes import EarlyStopping
from knowledge_gaps.training.accelerator import build_accelerator
from knowledge_gaps.training.batches import Stream, draw_latents, draw_reals
from knowledge_gaps.training.classifier import ClassifierTrainer
from knowledge_gaps.training.curves import Row
from knowledge_gaps.training.early_stopping import EarlyStopper, split_pool
from knowledge_gaps.training.loop import run_training

SHAPE = (1, 8, 8)
STREAM = Stream(0, "classifiers/test", 0)
IMAGES = hold_images(
    torch.randint(
        128, 256, (40, *SHAPE), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    ).numpy()
)


def make_generator(seed: int) -> DcganGenerator:
    torch.manual_seed(seed)
    return DcganGenerator(DcganSettings(latent_dim=3, channels=[6]), SHAPE)


def make_trainer(generators: Sequence[DcganGenerator] = (), **keys: Any) -> ClassifierTrainer:
    stopping = {"held_out_generators": 2, "num_images": 7, "check_every": 2, "patience": 2}
    recipe = {"steps": 9, "batch_size": 4, **keys}
    settings = CnnSettings(channels=[4])
    torch.manual_seed(9)
    classifier = GanClassifier(Cnn(settings, SHAPE), make_input_spec(settings, SHAPE))
    return ClassifierTrainer(
        classifier,
        generators or [make_generator(seed) for seed in range(3)],
        1.0,
        IMAGES,
        ClassifierRecipe(
            architecture="cnn",
            optimizer=OptimizerSettings(learning_rate=1e-2),
            early_stopping=EarlyStopping(**stopping),
            **recipe,
        ),
        STREAM,
        build_accelerator(0),
    )


def script_looks(monkeypatch: pytest.MonkeyPatch, *accuracies: float) -> None:
    """Let the looks measure these accuracies, one after the other."""
    left = list(accuracies)
    monkeypatch.setattr(EarlyStopper, "_measure_accuracy", lambda self: torch.tensor(left.pop(0)))


def clone_state(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def is_same(state: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(state[name], other[name]) for name in state)


# --- what is held out


def test_last_generators_are_held_out() -> None:
    generators = [make_generator(seed) for seed in range(4)]
    settings = EarlyStopping(held_out_generators=3, num_images=1, check_every=1, patience=1)
    trained, held_out = split_pool(generators, settings)
    assert (list(trained), list(held_out)) == (generators[:1], generators[1:])
    assert split_pool(generators, None) == (generators, ())


def test_a_generator_must_be_left() -> None:
    with pytest.raises(UserError, match=r"held_out_generators: 2 of a pool of 2 found, at least"):
        make_trainer([make_generator(seed) for seed in range(2)])


def test_held_out_generators_are_in_no_batch() -> None:
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


def measure_by_hand(classifier: nn.Module) -> float:
    """Measure on the same draws, image by image."""
    num_right = 0
    for index, seed in enumerate((1, 2)):
        generator = make_generator(seed).eval()
        for start, num_each in ((0, 4), (4, 3)):
            names = ("early_stopping", index, start)
            latents = draw_latents(STREAM, num_each, 3, *names)
            generated = [to_float(to_uint8(generator(latent[None]))) for latent in latents]
            reals = [to_float(real[None]) for real in draw_reals(STREAM, IMAGES, num_each, *names)]
            num_right += sum(bool(classifier(image) <= 0) for image in generated)
            num_right += sum(bool(classifier(image) > 0) for image in reals)
    return num_right / (2 * 2 * 7)


def test_a_look_is_balanced_accuracy_in_evaluation_mode() -> None:
    trainer = make_trainer()
    accuracies = [trainer.run_step(step).get("accuracy_held_out") for step in range(6)]
    assert [accuracy is not None for accuracy in accuracies] == [False, True] * 3
    assert accuracies[5] is not None
    classifier = trainer.modules["classifier"].eval()
    with torch.no_grad():
        assert accuracies[5].item() == pytest.approx(measure_by_hand(classifier), abs=1e-6)
    assert 0.5 <= accuracies[5] <= 1


def test_a_look_moves_nothing_and_sees_the_same_images_again() -> None:
    trainer = make_trainer()
    trainer.run_step(0)
    stopper = trainer._stopper
    assert stopper is not None
    seen: list[Tensor] = []
    classifier = trainer.modules["classifier"]
    classifier.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].clone()))
    before = clone_state(classifier)
    first, again = stopper.check(), stopper.check()
    assert first == again
    assert is_same(before, clone_state(classifier))
    half = len(seen) // 2
    assert [len(images) for images in seen] == [8, 6] * 4
    assert all(torch.equal(*pair) for pair in zip(seen[:half], seen[half:], strict=True))
    assert not torch.equal(seen[0], seen[2])  # of the next generator


def test_looks_do_not_disturb_the_training() -> None:
    often, rarely = make_trainer(), make_trainer()
    assert rarely._stopper is not None
    rarely._stopper.is_due = lambda step: False  # type: ignore[method-assign]
    for step in range(5):
        often.run_step(step)
        rarely.run_step(step)
    pair = (often.modules["classifier"], rarely.modules["classifier"])
    assert is_same(clone_state(pair[0]), clone_state(pair[1]))


# --- what is kept, and the end


def test_weights_of_the_best_look_are_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    script_looks(monkeypatch, 0.6, 0.8, 0.8, 0.7)
    trainer = make_trainer()
    states, finished = [], []
    for step in range(8):
        trainer.run_step(step)
        states.append(clone_state(trainer.modules["classifier"]))
        finished.append(trainer.is_finished(step + 1))
    assert finished == [False] * 7 + [True]  # the second check without a gain
    assert is_same(clone_state(trainer.get_result()), states[3])
    assert not is_same(states[3], states[7])
    assert trainer.scalars["best_accuracy"].item() == pytest.approx(0.8)
    assert trainer.scalars["checks_without_gain"].item() == 2


def test_average_is_looked_at_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    script_looks(monkeypatch, 0.6)
    trainer = make_trainer(ema_decay=0.5)
    trainer.run_step(0)
    trainer.run_step(1)
    average = trainer.modules["average"].module
    assert isinstance(average, nn.Module)
    assert is_same(clone_state(trainer.get_result()), clone_state(average))
    assert not is_same(clone_state(average), clone_state(trainer.modules["classifier"]))


# --- in the loop


class Session:
    """Asks for a stop before a step."""

    def __init__(self, stop_before: int | None = None) -> None:
        self._stop_before, self._step = stop_before, 0

    def is_stopping(self) -> bool:
        return self._step == self._stop_before

    def report(self, step: int, row: Row | None) -> None:
        self._step = step


def run(trainer: ClassifierTrainer, path: Path, stop_before: int | None = None) -> tuple[str, int]:
    recipe = trainer._recipe
    curves, num_steps = run_training(trainer, recipe, path, Session(stop_before))
    return curves.to_csv(), num_steps


@pytest.mark.parametrize("stop_before", [1, 5, 6])
def test_resumed_training_ends_in_the_same_bytes(stop_before: int, tmp_path: Path) -> None:
    whole, stopped, resumed = (make_trainer(log_every=3) for _ in range(3))
    expected = run(whole, tmp_path / "whole.safetensors")
    path = tmp_path / "state.safetensors"
    with pytest.raises(StoppedError):
        run(stopped, path, stop_before)
    assert run(resumed, path) == expected
    assert is_same(clone_state(whole.get_result()), clone_state(resumed.get_result()))
    assert whole.scalars == resumed.scalars


def test_loop_ends_where_patience_does(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    script_looks(monkeypatch, 0.9, 0.6, 0.6)
    curves, num_steps = run(make_trainer(steps=20, log_every=50), tmp_path / "s.safetensors")
    assert num_steps == 6
    names, values = (line.split(",") for line in curves.splitlines())
    row = dict(zip(names, values, strict=True))
    assert (row["step"], row["accuracy_held_out"]) == ("6", "0.7")
