"""What the page says of a study: recipes, deviations and limits, derived and not assumed."""

from __future__ import annotations

import html
import re
from typing import Any

import pytest

from fabrication import ADAM, STUDY, make_study
from knowledge_gaps.readings.formats import NOTHING, format_detected, format_pool
from knowledge_gaps.report.render import list_settings, make_context, make_environment
from knowledge_gaps.study import ClassifierRecipe, GanRecipe, Study

DATASET = {"num_train": 600, "num_dev": 0, "num_test": 64, "image_shape": [1, 28, 28]}
DEV = {"num_dev": 32}
GAN_RECIPE, CLASSIFIER_RECIPE = STUDY["gan_recipes"]["dcgan"], STUDY["classifier_recipes"]["cnn"]


def render(study: Study, template: str, **others: object) -> str:
    """Render one template with what is known of a study before anything is measured."""
    page = make_environment().get_template(template).render(**make_context(study), **others)
    return " ".join(html.unescape(page).split())


def list_choices(study: Study) -> dict[str, str]:
    page = render(study, "sections/deviations.html.j2")
    rows = re.findall(r'<th scope="row">(.*?)</th><td>.*?</td><td>(.*?)</td>', page)
    return {topic: here.strip() for topic, here in rows}


CNN, COSINE = "classifier_recipes.cnn.optimizer", ADAM | {"schedule": "cosine"}
DCGAN, LINEAR = "gan_recipes.dcgan.generator_optimizer", ADAM | {"schedule": "linear"}
OWN = "networks of this study's own, with the sizes of their recipes"


@pytest.mark.parametrize(
    ("gan", "classifier", "rows"),
    [
        ("mine", "judge", {" of this study's own": f"mine, judge; {OWN}"}),
        ("mine", "cnn", {"": "networks of this repository's", " of this study's own": "mine;"}),
        ("stylegan2", "judge", {"": "StyleGAN2; networks", " of this study's own": "judge;"}),
        ("dcgan", "resnet50", {"": "networks", " of the large networks": "ResNet-50; networks of"}),
        ("dcgan", "cnn", {"": "networks of this repository's own, with the widths of their"}),
    ],
)
def test_architectures_have_a_row_for_each_source(
    gan: str, classifier: str, rows: dict[str, str]
) -> None:
    # no network of these names is registered
    gans = {"g": GanRecipe.model_validate(GAN_RECIPE | {"architecture": gan})}
    recipe = ClassifierRecipe.model_validate(CLASSIFIER_RECIPE | {"architecture": classifier})
    update = {"gan_recipes": gans, "classifier_recipes": {"cnn": recipe}}
    choices = list_choices(make_study().model_copy(update=update))
    found = {topic: here for topic, here in choices.items() if topic.startswith("Architectures")}
    assert list(found) == [f"Architectures{topic}" for topic in rows]
    for here, start in zip(found.values(), rows.values(), strict=True):
        assert here.startswith(start)


def test_every_setting_of_a_recipe_is_shown() -> None:
    changes = {"betas": [0.5, 0.999], "learning_rate": 2e-3}
    study = make_study({"gan_recipes.dcgan.generator_optimizer": changes})
    table = list_settings(study.gan_recipes)
    assert {key.partition(".")[0] for key in table} == set(GanRecipe.model_fields)
    expected = {
        "steps": "2,000",
        "model": "the architecture's defaults",
        "generator_optimizer.weight_decay": "0",
        "generator_optimizer.betas": "0.5, 0.999",
        "discriminator_optimizer.learning_rate": "0.001",
        "discriminator_optimizer.schedule": "constant",
        "r1_interval": "16",
        "ema_decay": "none",
    }
    assert {key: table[key] for key in expected} == {k: [text] for k, text in expected.items()}
    page = render(study, "sections/run.html.j2", dataset=DATASET, num_images="64")
    assert "600 training and 64 test images" in page
    with_dev = render(study, "sections/run.html.j2", dataset=DATASET | DEV, num_images="64")
    assert "600 training, 32 dev and 64 test images" in with_dev
    for key in [*table, *list_settings(study.classifier_recipes)]:
        assert f'<th scope="row" class="text name">{key}</th>' in page


def test_setting_that_another_recipe_has_alone_is_a_dash() -> None:
    wide = {**CLASSIFIER_RECIPE, "model": {"width": 4, "channels": [8, 4]}}
    table = list_settings(make_study({"classifier_recipes.wide": wide}).classifier_recipes)
    assert table["model.width"] == [NOTHING, "4"]
    assert table["model.channels"] == [NOTHING, "8, 4"]
    assert table["model"] == ["the architecture's defaults", NOTHING]


def test_members_of_pools_are_named_and_those_that_stopped_a_training_apart() -> None:
    study = make_study()
    assert format_pool(study, "baseline_2") == "baseline/0, baseline/1"  # with what it extends
    assert format_pool(study, "none") == ""
    assert format_detected(study, "iteration_0") == "baseline/0, baseline/1"
    stopping = {"held_out_generators": 1, "num_images": 8, "check_every": 4, "patience": 1}
    study = make_study({"classifier_recipes.cnn.early_stopping": stopping})
    assert format_detected(study, "iteration_0") == "baseline/0; stopped by baseline/1"


@pytest.mark.parametrize(
    ("topic", "changes", "words"),
    [
        ("R1", {}, "none"),
        ("R1", {"gan_recipes.dcgan.r1_gamma": 3.0}, "gamma 3, as an update of its own every 16"),
        ("Augmentation", {}, "none"),
        ("Augmentation", {"classifier_recipes.cnn.translation_px": 3}, "cnn: up to 3 px"),
        ("Augmentation", {"classifier_recipes.cnn.translation_px": 2}, "bears on the findings"),
        ("Learning-rate", {}, "dcgan: constant; cnn: constant"),
        ("Learning-rate", {CNN: COSINE}, "cnn: cosine fall to 0 from the start on"),
        ("Learning-rate", {DCGAN: LINEAR}, "dcgan: linear fall to 0 from the start on and const"),
        ("Which weights", {}, "those of the last step; no instance"),
        ("Which weights", {"gan_recipes.dcgan.ema_decay": 0.9}, "average for recipe dcgan"),
        ("Mirrored", {"gan_recipes.dcgan.mirror": True}, "for recipe dcgan"),
        ("Iterations", {"gans.fool_all_1.phi": 0.1}, "2 iterations with phi = 10⁻¹"),
        ("FID", {"evaluation.extractor": "lenet_on_reals"}, "labelled training reals of this"),
        ("FID", {"evaluation.extractor": "random_vgg"}, "a Fréchet distance, which is not FID"),
        ("FID", {"evaluation.extractor": "mine"}, "features of the extractor mine"),
    ],
)
def test_choices_are_those_of_the_study(topic: str, changes: dict[str, Any], words: str) -> None:
    choices = list_choices(make_study(changes))
    (choice,) = [here for name, here in choices.items() if name.startswith(topic)]
    assert choice == words if words == "none" else words in choice


@pytest.mark.parametrize(("instances", "words"), [(3, "1 to 3 GANs or 2"), (10, "1 to 10 GANs")])
def test_limits_state_the_sizes_of_the_cohorts(instances: int, words: str) -> None:
    limits = render(make_study({"gans.baseline.instances": instances}), "sections/limits.html.j2")
    assert words in limits
    assert "no more than 1." in limits
    assert "2,000 steps for a GAN and 300 for a classifier" in limits
