"""What a cohort, its recipe and its pool say reaches the training; each could be dropped unseen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from knowledge_gaps.core.seeding import derive_seed
from knowledge_gaps.execution.cohort import make_tasks
from knowledge_gaps.models.pool import read_pool
from knowledge_gaps.study import ClassifierRecipe, Kind, load_study
from knowledge_gaps.training import classifier
from knowledge_gaps.training.batches import augment
from knowledge_gaps.training.instance import build_trainer
from knowledge_gaps.training.ranks import Ranks
from study_tools import change_params, run_stage
from training_tools import ADAM, STREAM, make_classifier_trainer, make_gan_trainer, make_images


def list_tasks(root: Path, kind: Kind, cohort: str) -> list[Any]:
    return make_tasks(root, load_study(root / "params.yaml"), kind, cohort)


def test_settings_of_a_cohort(trained_copy: Path) -> None:
    changes = {"gans.fool_all_1.phi": 2.5, "gans.fool_all_1.fooling": "weighted"}
    change_params(trained_copy, {**changes, "classifiers.iteration_0.truncation": 0.5})
    trainer = build_trainer(list_tasks(trained_copy, Kind.GANS, "fool_all_1")[0])
    assert (trainer._fooling.phi, trainer._fooling.form) == (2.5, "weighted")
    trainer.run_step(0)
    layers = [layer for one in trainer._fooling.classifiers for layer in one.modules()]
    assert layers
    assert not any(each.training for each in layers)
    other = build_trainer(list_tasks(trained_copy, Kind.CLASSIFIERS, "iteration_0")[0])
    assert other.truncation == 0.5


def test_seed_of_layers_is_the_steps() -> None:
    trainer = make_gan_trainer()
    for step in (3, 4):
        trainer.run_step(step)
        assert torch.initial_seed() == derive_seed(0, "layers", "gans/test", "0/0", step)


@pytest.mark.parametrize("keys", [{"translation_px": 2}, {"mirror": True}, {"cutout_px": 3}])
def test_reals_and_generated_images_are_augmented(keys: dict[str, Any]) -> None:
    usual = {"architecture": "cnn", "steps": 9, "batch_size": 20, "optimizer": ADAM}
    recipe = ClassifierRecipe.model_validate({**usual, **keys})
    images = torch.from_numpy(make_images())
    halves = zip(
        images.chunk(2), augment(images, recipe, STREAM, Ranks(1, 0), 0).chunk(2), strict=True
    )
    assert not any(torch.equal(before, after) for before, after in halves)


def test_batches_of_classifiers(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer, asked, sample = make_classifier_trainer(truncation=0.5), [], classifier.sample_images

    def note(*given: Any) -> torch.Tensor:
        return asked.append(given[2:]) or sample(*given)

    monkeypatch.setattr(classifier, "sample_images", note)
    assert not torch.equal(trainer._draw_batch(0, 0), trainer._draw_batch(1, 0))
    assert set(asked) == {(0.5,)}


def test_gradients_are_means_over_micro_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer, found = make_gan_trainer(gradient_accumulation_steps=2), []
    weights, adam = list(trainer.generator.parameters()), trainer.optimizers["generator"]
    monkeypatch.setattr(adam, "step", lambda: found.append(weights[0].grad.clone()))
    trainer._accumulate("generator", lambda _: (sum(each.sum() for each in weights), {}))
    assert torch.equal(found[0], torch.ones_like(weights[0]))


def test_pool_has_what_it_extends(trained_copy: Path) -> None:
    pool = {"extends": "c0", "cohort": "classifiers/iteration_0", "instances": [1]}
    change_params(trained_copy, {"pools.both": pool})
    run_stage(trained_copy, "pools", "both")
    assert [each.instance for each in read_pool(trained_copy, "both") if each.chain == 0] == [0, 1]
