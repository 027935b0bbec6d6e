"""Several GANs as one batched program: each comes to what it comes to alone."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState, GradientState, PartialState
from torch import Tensor

from batched_tools import (
    FULL,
    IMAGES,
    SETTINGS,
    SHAPE,
    Note,
    TapeRecorder,
    advance,
    collect_state,
    list_values,
    make_fooling,
    make_member,
    make_recipe,
    make_stream,
    make_trainer,
    measure_distance,
    train_alone,
)
from knowledge_gaps.models.architectures.dcgan import DcganDiscriminator, DcganGenerator
from knowledge_gaps.models.registry import gan_architectures, parse_settings
from knowledge_gaps.runtime.accelerator import build_accelerator
from knowledge_gaps.runtime.checkpoint import read_metadata, read_tensors
from knowledge_gaps.runtime.errors import StoppedError
from knowledge_gaps.training.batched import advance as advance_module
from knowledge_gaps.training.batched import draws as draws_module
from knowledge_gaps.training.batched.capture import CapturedStep, StepFunction
from knowledge_gaps.training.batched.draws import Draws
from knowledge_gaps.training.batched.network import StackedNetwork
from knowledge_gaps.training.batched.optimizer import clip_instances
from knowledge_gaps.training.batched.program import pick_group
from knowledge_gaps.training.gan_batch import GanBatch, GanSource
from knowledge_gaps.training.loop import SAVE_VARIABLE, run_training

STEPS = 12
# rounding of the last of 12 steps, in weights and Adam's states; measured: 1.2e-7 and 3e-16
FLOAT32, FLOAT64 = 1e-6, 1e-14
FULL_POOL = 2


@pytest.fixture(autouse=True)
def _rare_saves_and_bits(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv(SAVE_VARIABLE, "1000")
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)
    reset_accelerate()


def reset_accelerate() -> None:
    for state in (AcceleratorState, GradientState, PartialState):
        state._reset_state()


@pytest.fixture
def float64(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let everything that is float32 be float64: what differs then differs by more than sums."""
    monkeypatch.setattr(Tensor, "float", Tensor.double)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def compare(directory: Path, num_classifiers: int, form: str, **recipe: Any) -> tuple[float, float]:
    """Train three instances alone and together; return the distances of states and of curves."""
    settings, fooling = make_recipe(STEPS, **recipe), make_fooling(num_classifiers, form)
    members = [make_member(index, settings, fooling, directory) for index in range(3)]
    assert advance(members, settings, STEPS) == []
    states, curves = [], []
    for index, member in enumerate(members):
        trainer, expected = train_alone(index, settings, fooling, directory)
        states.append(measure_distance(collect_state(member.trainer), collect_state(trainer)))
        assert [row.keys() for row in member.curves.rows] == [row.keys() for row in expected.rows]
        found, values = list_values(member.curves.rows), list_values(expected.rows)
        curves.append(max(abs(a - b) for a, b in zip(found, values, strict=True)))
        assert isinstance(member.session, Note)
        assert (member.session.rows, member.session.step) == (member.curves.rows, STEPS)
    return max(states), max(curves)


# ------------------------------------------------------------------------- together is as alone

EACH_TERM = pytest.mark.parametrize(
    ("num_classifiers", "form", "recipe"),
    [
        (0, "sum", {}),
        (0, "sum", {"r1_gamma": 2.0, "r1_interval": 3}),
        (0, "sum", {"max_gradient_norm": 0.3}),
        (0, "sum", {"ema_decay": 0.9}),
        (1, "weighted", {}),
        (FULL_POOL, "sum", FULL),
    ],
)


@EACH_TERM
@pytest.mark.usefixtures("float64")
def test_together_is_as_alone(
    tmp_path: Path, num_classifiers: int, form: str, recipe: dict[str, Any]
) -> None:
    states, curves = compare(tmp_path, num_classifiers, form, **recipe)
    assert states < FLOAT64
    assert curves < FLOAT64


def test_together_is_as_alone_within_float32(tmp_path: Path) -> None:
    states, curves = compare(tmp_path, FULL_POOL, "sum", **FULL)
    assert 0 < states < FLOAT32
    assert curves < FLOAT32


def test_curves_stay_together(tmp_path: Path) -> None:
    """After many steps too: compared with how instances scatter, rounding is nothing."""
    recipe, fooling = make_recipe(120, r1_gamma=1.0, ema_decay=0.9), make_fooling(1)
    members = [make_member(index, recipe, fooling, tmp_path) for index in range(4)]
    advance(members, recipe, 120)
    alone = [train_alone(index, recipe, fooling, tmp_path)[1].rows for index in range(4)]
    for name in ("loss_generator", "loss_discriminator", "loss_fooling"):
        found, expected = (
            torch.tensor([[row[name] for row in rows] for rows in curves])
            for curves in ([member.curves.rows for member in members], alone)
        )
        assert float((found - expected).abs().max()) < 1e-4 * float(expected.std(dim=0).min())


@pytest.mark.usefixtures("float64")
def test_every_batchable_architecture_is_as_alone() -> None:
    models = {"dcgan": {"latent_dim": 3, "channels": [6, 4]}}
    names = [n for n in gan_architectures.list_names() if gan_architectures.get(n).is_batchable]
    assert names == sorted(models)  # a new one needs its smallest settings here
    for name in names:
        architecture = gan_architectures.get(name)
        settings = parse_settings(architecture, models[name])
        for build, shape in (
            (architecture.build_generator, (3,)),
            (architecture.build_discriminator, SHAPE),
        ):
            networks = [build(settings, SHAPE) for _ in range(3)]
            lone = [build(settings, SHAPE) for _ in range(3)]
            for network, other in zip(networks, lone, strict=True):
                other.load_state_dict(network.state_dict())
            inputs = torch.randn(3, 5, *shape)
            outputs = StackedNetwork(networks)(inputs)
            for index, other in enumerate(lone):
                expected = other(inputs[index])
                assert float((outputs[index] - expected).detach().abs().max()) < FLOAT64
                state = networks[index].state_dict()  # running statistics moved with it
                assert measure_distance(state, other.state_dict()) < FLOAT64


def differentiate(
    outputs: Tensor, weighed_by: Tensor, parameters: Iterable[Tensor]
) -> list[Tensor]:
    return list(torch.autograd.grad((outputs.float() * weighed_by).sum(), list(parameters)))


@pytest.mark.parametrize(("build", "shape"), [(DcganGenerator, (3,)), (DcganDiscriminator, SHAPE)])
def test_half_precision_is_that_of_autocast(build: Any, shape: tuple[int, ...]) -> None:
    lone = [build(SETTINGS, SHAPE) for _ in range(2)]
    stacked, inputs = StackedNetwork(copy.deepcopy(lone)), torch.randn(2, 6, *shape)
    with torch.autocast("cpu", torch.bfloat16):
        outputs = stacked(inputs)
        expected = [network(images) for network, images in zip(lone, inputs, strict=True)]
    exact = stacked(inputs)
    assert outputs.dtype == expected[0].dtype
    assert torch.equal(outputs, torch.stack(expected))
    weighed_by, parameters = torch.randn(outputs.shape), list(stacked.parameters.values())
    halved = differentiate(outputs, weighed_by, parameters)
    unhalved = differentiate(exact, weighed_by, parameters)
    for index, network in enumerate(lone):
        own = differentiate(expected[index], weighed_by[index], network.parameters())
        for gradient, other, value in zip(halved, unhalved, own, strict=True):
            assert float((gradient[index] - value).norm() / value.norm()) < 1e-5
            assert float((other[index] - value).norm() / value.norm()) > 1e-4


def test_training_in_half_precision_is_that_of_the_recipe(tmp_path: Path) -> None:
    fooling, states = make_fooling(1), {}
    for precision in ("bf16", "no"):
        recipe = make_recipe(4, mixed_precision=precision)
        members = [make_member(index, recipe, fooling, tmp_path) for index in range(2)]
        advance(members, recipe, 4)
        states[precision] = collect_state(members[0].trainer)["generator/project.weight"]
        if precision == "bf16":
            alone = collect_state(train_alone(0, recipe, fooling, tmp_path)[0])
        reset_accelerate()
    expected = alone["generator/project.weight"]
    near, far = ((states[name] - expected).abs().mean() for name in ("bf16", "no"))
    # Accelerate's autocast adds up a step's gradients in half precision, this in float32
    assert near < 0.5 * far


# ------------------------------------------------------------------------ an instance's own draws


def test_results_follow_the_seed_and_not_the_place(tmp_path: Path) -> None:
    recipe, fooling = make_recipe(STEPS, **FULL), make_fooling(1)
    found = {}
    for order in ((0, 1), (1, 0)):
        members = [make_member(index, recipe, fooling, tmp_path) for index in order]
        advance(members, recipe, STEPS)
        for index, member in zip(order, members, strict=True):
            found[order, index] = collect_state(member.trainer)
    for index in (0, 1):
        assert measure_distance(found[(0, 1), index], found[(1, 0), index]) < FLOAT32
    assert measure_distance(found[(0, 1), 0], found[(0, 1), 1]) > 1e-2


@pytest.mark.parametrize("is_resident", [True, False])
@pytest.mark.parametrize("mirror", [True, False])
def test_draws_are_those_of_each_instance(
    monkeypatch: pytest.MonkeyPatch, is_resident: bool, mirror: bool
) -> None:
    monkeypatch.setattr(draws_module, "_MOST_STEPS", 3)  # several blocks
    if not is_resident:
        monkeypatch.setattr(draws_module, "RESIDENT_BYTES", 0)
    recipe, streams = make_recipe(9, mirror=mirror), [make_stream(index) for index in (4, 2)]
    draws = Draws(streams, IMAGES, recipe, 3, torch.device("cpu"))
    batches = list(draws.iterate(1, 9))
    assert len(batches) == 8
    accelerator, seen = build_accelerator(0), []
    generator = make_trainer(0, recipe, make_fooling(0)).get_result()
    generator.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    for step, batch in enumerate(batches, 1):
        for index, stream in enumerate(streams):
            lone = GanBatch(GanSource(generator, IMAGES, recipe, stream, accelerator), step, 0)
            assert torch.equal(batch.reals[index] / 127.5 - 1, lone.images_real)
            assert lone.images_generated.shape == lone.images_real.shape
            assert torch.equal(batch.latents[index], seen.pop())


# ------------------------------------------------------------------------------------- divergence


def poison(trainer: Any) -> None:
    with torch.no_grad():
        next(trainer.modules["generator"].parameters()).view(-1)[0] = math.nan


def test_one_that_diverges_leaves_the_bits_of_the_others(tmp_path: Path) -> None:
    recipe, fooling = make_recipe(STEPS, **FULL), make_fooling(FULL_POOL)
    states = {}
    for is_poisoned in (False, True):
        members = [make_member(index, recipe, fooling, tmp_path) for index in range(3)]
        if is_poisoned:
            poison(members[1].trainer)
        diverged = advance(members, recipe, recipe.log_every if not is_poisoned else STEPS)
        states[is_poisoned] = [collect_state(members[index].trainer) for index in (0, 2)]
    [(member, error)] = diverged  # found at the first row
    assert member is members[1]
    assert "is nan before step 4: the training diverged" in str(error)
    assert [member.step for member in members] == [4, 4, 4]
    for found, expected in zip(states[True], states[False], strict=True):
        assert measure_distance(found, expected) == 0
    members.remove(member)
    assert advance(members, recipe, STEPS) == []
    for index, survivor in zip((0, 2), members, strict=True):
        trainer, curves = train_alone(index, recipe, fooling, tmp_path)
        state = collect_state(survivor.trainer)
        assert measure_distance(state, collect_state(trainer)) < FLOAT32
        assert list_values(survivor.curves.rows) == pytest.approx(list_values(curves.rows))


def test_gradients_are_clipped_for_each_instance() -> None:
    gradients = [
        torch.randn(3, 4, 2) * torch.tensor([[[0.01]], [[1.0]], [[50.0]]]),
        torch.randn(3, 5),
    ]
    expected = []
    for index in range(3):
        parameters = [torch.nn.Parameter(torch.zeros_like(g[index])) for g in gradients]
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient[index].clone()
        torch.nn.utils.clip_grad_norm_(parameters, 3.5)
        expected.append([parameter.grad for parameter in parameters])
    clip_instances(gradients, 3.5)
    for index, clipped in enumerate(expected):
        for gradient, own in zip(gradients, clipped, strict=True):
            torch.testing.assert_close(gradient[index], own)


# ------------------------------------------------------------------------------- saved and resumed


def stop_together(directory: Path, stop_before: int, recipe: Any, fooling: Any) -> None:
    sessions = [Note(), Note(stop_before)]  # one of them is told, all stop
    members = [
        make_member(index, recipe, fooling, directory, session)
        for index, session in enumerate(sessions)
    ]
    with pytest.raises(StoppedError, match=f"saved at step {stop_before}"):
        advance(members, recipe, STEPS)


def stop_alone(directory: Path, stop_before: int, recipe: Any, fooling: Any) -> None:
    for index in range(2):
        state_file = directory / str(index) / "state.safetensors"
        trainer = make_trainer(index, recipe, fooling)
        with pytest.raises(StoppedError):
            run_training(trainer, recipe, state_file, Note(stop_before))


def read_state(directory: Path, index: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
    path = directory / str(index) / "state.safetensors"
    return read_tensors(path), json.loads(read_metadata(path)["counters"])


# before the first row, at a row, and before the first update
@pytest.mark.parametrize("stop_before", [3, 4, 7, 0])
@pytest.mark.usefixtures("float64")
def test_state_is_that_of_one_that_trains_alone(tmp_path: Path, stop_before: int) -> None:
    recipe, fooling = make_recipe(STEPS, **FULL), make_fooling(1)
    stop_together(tmp_path / "together", stop_before, recipe, fooling)
    stop_alone(tmp_path / "alone", stop_before, recipe, fooling)
    for index in range(2):
        (found, counters), (expected, expected_counters) = (
            read_state(tmp_path / name, index) for name in ("together", "alone")
        )
        assert measure_distance(found, expected) < FLOAT64
        assert {k: (v.dtype, v.shape) for k, v in found.items()} == {
            k: (v.dtype, v.shape) for k, v in expected.items()
        }
        rows, expected_rows = counters.pop("rows"), expected_counters.pop("rows")
        assert list_values(rows) == pytest.approx(list_values(expected_rows), rel=1e-12)
        assert counters == expected_counters
        assert list(counters["counts"]) == list(expected_counters["counts"])


@pytest.mark.parametrize("stop_before", [3, 7])
@pytest.mark.usefixtures("float64")
def test_either_takes_up_the_other(tmp_path: Path, stop_before: int) -> None:
    recipe, fooling = make_recipe(STEPS, **FULL), make_fooling(1)
    for first in (stop_together, stop_alone):
        directory = tmp_path / first.__name__
        first(directory, stop_before, recipe, fooling)
        if first is stop_together:
            ended = [train_alone(index, recipe, fooling, directory) for index in range(2)]
        else:
            members = [make_member(index, recipe, fooling, directory) for index in range(2)]
            assert [member.step for member in members] == [stop_before] * 2
            advance(members, recipe, STEPS)
            ended = [(member.trainer, member.curves) for member in members]
        for index, (trainer, curves) in enumerate(ended):
            whole, expected = train_alone(index, recipe, fooling, tmp_path / "whole")
            assert measure_distance(collect_state(trainer), collect_state(whole)) < FLOAT64
            assert list_values(curves.rows) == pytest.approx(list_values(expected.rows), rel=1e-12)


def test_states_are_saved_while_training_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SAVE_VARIABLE, "0")
    recipe, fooling = make_recipe(STEPS, **FULL), make_fooling(1)
    members = [make_member(index, recipe, fooling, tmp_path) for index in range(2)]
    poison(members[1].trainer)
    advance(members, recipe, STEPS)
    _, counters = read_state(tmp_path, 0)
    assert counters["step"] == recipe.log_every - 1  # the step in which the other left
    assert not (tmp_path / "1" / "state.safetensors").exists()  # nothing of it was ever good


def test_those_behind_come_first(tmp_path: Path) -> None:
    recipe, fooling = make_recipe(STEPS), make_fooling(0)
    members = [make_member(index, recipe, fooling, tmp_path) for index in range(4)]
    for member, step in zip(members, (5, 2, 5, 8), strict=True):
        member.step = step
    assert pick_group(members, STEPS) == ([members[1]], 5)
    members[1].step = 5
    assert pick_group(members, STEPS) == (members[:3], 8)
    for member in members[:3]:
        member.step = 8
    assert pick_group(members, STEPS) == (members, STEPS)


# ---------------------------------------------------------------------------------------- capture


def test_recorded_step_does_the_same_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step holds nothing that Python works out anew, and waits for no value."""
    recipe, fooling = make_recipe(32, **FULL), make_fooling(FULL_POOL)
    recorders: list[TapeRecorder] = []

    def capture(function: StepFunction, device: torch.device) -> StepFunction:
        recorders.append(TapeRecorder())
        return CapturedStep(function, recorders[-1])

    states = []
    for is_recorded in (False, True):
        if is_recorded:
            monkeypatch.setattr(advance_module, "capture_where_possible", capture)
        members = [make_member(index, recipe, fooling, tmp_path) for index in range(2)]
        advance(members, recipe, 32)
        states.append([collect_state(member.trainer) for member in members])
    for found, expected in zip(*states, strict=True):
        assert measure_distance(found, expected) == 0
    plain, regularised = recorders
    assert (plain.num_replays, regularised.num_replays) == (21 - 3 - 1, 11 - 3 - 1)
    names = {str(call[0]) for recorder in recorders for call in recorder.tape.calls}
    assert any("fused_adam" in name for name in names)
    assert not {name for name in names if "_local_scalar_dense" in name or "nonzero" in name}
