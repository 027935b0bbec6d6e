"""What both loops share: schedules, curves, averages, saving, resuming and stopping."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from knowledge_gaps.core.checkpoint import read_metadata, read_tensors
from knowledge_gaps.core.errors import StoppedError, UserError
from knowledge_gaps.core.seeding import make_generator
from knowledge_gaps.study import OptimizerSettings, TrainingSettings
from knowledge_gaps.training.loop import SAVE_VARIABLE, run_training
from knowledge_gaps.training.state import Curves, load_state
from knowledge_gaps.training.trainer import Losses, Trainer, WeightAverage, compute_decay
from training_tools import STREAM, Session, are_equal, collect, make_images

ADAM = OptimizerSettings(learning_rate=0.1, schedule="cosine")
STEPS = 10
IMAGES = make_images()


class TinyTrainer(Trainer):
    """A linear fit with momentum and an average, in a few numbers.

    Args:
        bad_step: where a weight becomes nan.
        is_hidden: whether that step's loss, taken before the update, is still finite.
        last_step: the training is finished after so many steps.
    """

    def __init__(
        self,
        bad_step: int | None = None,
        is_hidden: bool = False,
        last_step: int | None = None,
        **recipe: int,
    ) -> None:
        torch.manual_seed(0)
        network = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2), nn.Linear(2, 1))
        keys: dict[str, Any] = {"steps": STEPS, "log_every": 3, "ema_decay": 0.9, **recipe}
        settings = TrainingSettings(architecture="tiny", batch_size=8, **keys)
        super().__init__({"network": (network, ADAM, 1)}, IMAGES, settings, STREAM, 0)
        self.bad_step, self.is_hidden, self.last_step = bad_step, is_hidden, last_step
        self.scalars = {"loss_mean": torch.tensor(0.0), "steps": torch.tensor(0.0)}
        self.rates: list[float] = []

    def is_finished(self) -> bool:
        return bool(self.scalars["steps"].item() == self.last_step)

    def _update(self, step: int) -> dict[str, Tensor]:
        def compute(micro_step: int) -> Losses:
            inputs = torch.randn(8, 3, generator=make_generator(0, "inputs", step))
            outputs = self.modules["network"](inputs)
            loss = (outputs - inputs.sum(dim=1, keepdim=True)).square().mean()
            return loss, {"loss": loss, "a_scalar": -loss}  # not in alphabetical order

        self.rates.append(self.optimizers["network"].param_groups[0]["lr"])
        return self._accumulate("network", compute)

    def _finish_step(self, step: int, logged: dict[str, Tensor]) -> dict[str, Tensor]:
        self.scalars["steps"] = self.scalars["steps"] + 1
        self.scalars["loss_mean"] = self.scalars["loss_mean"].lerp(logged["loss"], 0.1)
        if step != self.bad_step:
            return {}
        with torch.no_grad():
            next(self.modules["network"].parameters()).fill_(math.nan)
        return {} if self.is_hidden else {"loss": torch.tensor(math.nan)}


def read_step(state_file: Path) -> int:
    """Read at which step a state was saved; it is finite."""
    assert all(bool(value.isfinite().all()) for value in read_tensors(state_file).values())
    return int(json.loads(read_metadata(state_file)["counters"])["step"])


@pytest.fixture(autouse=True)
def _save_rarely(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SAVE_VARIABLE, "1000")


@pytest.fixture
def save_always(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SAVE_VARIABLE, "0")


@pytest.fixture
def state_file(tmp_path: Path) -> Path:
    return tmp_path / "state.safetensors"


# --- schedules and optimisers


@pytest.mark.parametrize(
    ("schedule", "factors"),
    [
        ("constant", [1, 1, 1, 1]),
        ("linear", [1, 0.75, 0.5, 0.25, 0]),
        ("cosine", [1, (2 + math.sqrt(2)) / 4, 0.5, (2 - math.sqrt(2)) / 4, 0]),
        ("step", [1, 1, 0.1, 0.1, 0.01, 0.01]),  # of 6 steps; thirds of the fall
    ],
)
def test_schedule_has_its_hand_values(schedule: str, factors: list[float]) -> None:
    num_steps = 6 if schedule == "step" else 4
    found = [compute_decay(schedule, step, num_steps) for step in range(len(factors))]
    assert found == pytest.approx(factors)


@pytest.mark.parametrize("ramp_up", [None, 0.5])
def test_average_has_its_hand_values(ramp_up: float | None) -> None:
    network: Any = nn.BatchNorm1d(1)
    average = WeightAverage(network, 0.9, ramp_up)
    module: Any = average.module
    expected = 0.0
    for step in range(5):
        with torch.no_grad():
            network.weight.fill_(step)
            network.running_mean.fill_(step)
        average.update(network, step)
        decay = 0.9 if ramp_up is None else min(0.9, 0.5 ** (1 / (ramp_up * max(step, 1))))
        expected = decay * expected + (1 - decay) * step
        assert module.weight.item() == pytest.approx(expected)
        assert module.running_mean.item() == step
    assert (module.weight.requires_grad, network.weight.requires_grad) == (False, True)


# --- curves


def test_row_is_the_mean_over_the_steps_that_have_a_scalar_since_the_last_one() -> None:
    curves = Curves()
    for loss in (1.0, 2.0, 6.0):
        penalty = {"r1_penalty": torch.tensor(8.0)} if loss == 1 else {}  # a lazy one
        curves.add({"loss": torch.tensor(loss), **penalty})
    assert curves.close_row(3) == {"step": 3, "loss": 3.0, "r1_penalty": 8.0}
    curves.add({"loss": torch.tensor(1 / 3)})
    assert curves.close_row(1000000)["loss"] == pytest.approx(1 / 3)
    assert curves.to_csv() == "step,loss,r1_penalty\n3,3,8\n1000000,0.333333,\n"


# --- training


def test_every_step_follows_the_schedule_and_is_reported(state_file: Path) -> None:
    trainer, session = TinyTrainer(), Session()
    curves, steps = run_training(trainer, state_file, session)
    assert steps == STEPS
    expected = [0.1 * compute_decay(ADAM.schedule, step, STEPS) for step in range(STEPS)]
    assert trainer.rates == pytest.approx(expected)
    assert [step for step, _ in session.reports] == list(range(STEPS + 1))
    assert [row["step"] for row in curves.rows] == [3, 6, 9, 10]
    assert [row for _, row in session.reports if row is not None] == curves.rows
    assert not state_file.exists()


@pytest.mark.parametrize("stop_before", [0, 1, 6, 9])
def test_resumed_training_ends_in_the_same_bits(state_file: Path, stop_before: int) -> None:
    whole = TinyTrainer()
    expected, _ = run_training(whole, state_file, Session())
    with pytest.raises(StoppedError, match=f"saved at step {stop_before}"):
        run_training(TinyTrainer(), state_file, Session(stop_before))
    assert read_step(state_file) == stop_before
    resumed, session = TinyTrainer(), Session()
    resumed.run_step(99)  # whatever a fresh trainer holds is overwritten
    resumed.rates.clear()
    curves, _ = run_training(resumed, state_file, session)
    assert session.reports[0] == (stop_before, None)
    assert resumed.rates == whole.rates[stop_before:]
    assert curves == expected
    assert are_equal(collect(resumed), collect(whole))


def test_no_flipped_bit_of_a_saved_state_goes_unnoticed(state_file: Path) -> None:
    with pytest.raises(StoppedError):
        run_training(TinyTrainer(), state_file, Session(4))
    whole = state_file.read_bytes()
    trainer = TinyTrainer()
    for position in range(len(whole)):
        altered = bytearray(whole)
        altered[position] ^= 1 << position % 8
        state_file.write_bytes(altered)
        with pytest.raises(UserError, match=rf"without {re.escape(str(state_file))} the training"):
            load_state(trainer, state_file)
    state_file.write_bytes(whole)
    assert load_state(trainer, state_file)[0] == 4


@pytest.mark.usefixtures("save_always")
@pytest.mark.parametrize(
    ("last_step", "rows"), [(5, [3, 5]), (6, [3, 6]), (0, []), (10, [3, 6, 9, 10])]
)
def test_finished_training_is_not_continued(
    state_file: Path, last_step: int, rows: list[int]
) -> None:
    trainer, session = TinyTrainer(last_step=last_step), Session()
    curves, steps = run_training(trainer, state_file, session)
    assert steps == len(trainer.rates) == last_step
    assert [row["step"] for row in curves.rows] == rows
    assert [row for _, row in session.reports if row is not None] == curves.rows
    again = TinyTrainer(last_step=last_step)
    assert run_training(again, state_file, Session()) == (curves, steps)
    assert again.rates == []


@pytest.mark.usefixtures("save_always")
def test_loss_that_is_not_finite_ends_the_training_with_the_last_good_state(
    state_file: Path,
) -> None:
    message = r"loss is nan before step 6: .* \(the last good state is kept\)"
    with pytest.raises(UserError, match=message):
        run_training(TinyTrainer(bad_step=4), state_file, Session())
    assert read_step(state_file) == 4
    resumed, _ = run_training(TinyTrainer(), state_file, Session())
    assert len(resumed.rows) == 4


@pytest.mark.usefixtures("save_always")
@pytest.mark.parametrize(
    ("is_hidden", "log_every", "stop_before"), [(True, 3, None), (False, 20, 5)]
)
def test_state_that_is_not_finite_is_never_saved(
    state_file: Path, is_hidden: bool, log_every: int, stop_before: int | None
) -> None:
    trainer = TinyTrainer(bad_step=3, is_hidden=is_hidden, log_every=log_every)
    with pytest.raises(UserError if is_hidden else StoppedError):
        run_training(trainer, state_file, Session(stop_before))
    assert read_step(state_file) == 3
