"""The way from images to a classifier's input: resizing by a matrix, then normalisation."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from knowledge_gaps.core.errors import UserError
from knowledge_gaps.models.input_spec import GanClassifier, InputSpec


class Recorder(nn.Module):
    """A network that keeps what it is given; it has an auxiliary head, and half precision."""

    seen: Tensor

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, ...]:
        self.seen = images
        main = images.mean(dim=(1, 2, 3)).bfloat16()
        return (main, 2 * main) if self.training else main


def prepare(images: Tensor, spec: InputSpec) -> Tensor:
    recorder = Recorder()
    GanClassifier(recorder, spec)(images)
    return recorder.seen


def make_spec(image_px: tuple[int, int], input_px: tuple[int, int], **changes: Any) -> InputSpec:
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    values = {"channels": 3, "image_px": image_px, "input_px": input_px, "mean": mean, "std": std}
    return InputSpec.model_validate({**values, **changes})


def draw(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.mark.parametrize(
    ("image_px", "input_px"),
    [((28, 28), (64, 64)), ((64, 64), (28, 28)), ((28, 36), (9, 50)), ((8, 8), (8, 12))],
)
def test_prepared_images_equal_torchs_antialiased_resize(
    image_px: tuple[int, int], input_px: tuple[int, int]
) -> None:
    spec, images = make_spec(image_px, input_px), draw(4, 3, *image_px)
    resized = F.interpolate(
        images, size=input_px, mode="bilinear", align_corners=False, antialias=True
    )
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (spec.mean, spec.std))
    expected = ((resized + 1) / 2 - mean) / std
    torch.testing.assert_close(prepare(images, spec), expected, rtol=0, atol=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(prepare(images, spec), expected, rtol=0, atol=1e-5)


def test_grey_images_are_repeated_where_the_network_sees_colours() -> None:
    colours, grey = (make_spec((8, 6), (12, 9), channels=channels) for channels in (3, 1))
    assert grey.input_shape == colours.input_shape == (3, 12, 9)
    images = draw(2, 1, 8, 6)
    assert torch.equal(prepare(images, grey), prepare(images.expand(-1, 3, -1, -1), colours))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"channels": 2}, "do not fit"),
        ({"mean": (0.5,)}, "do not fit"),
        ({"std": (0.5,) * 4}, "do not fit"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_wrong_spec_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_spec((8, 8), (4, 4), **changes)


@pytest.mark.parametrize("found", [(3, 8, 9), (1, 8, 8)])
def test_images_of_another_size_are_refused(found: tuple[int, int, int]) -> None:
    sizes = "x".join(map(str, found))
    with pytest.raises(UserError, match=f"takes images of 3x8x8, .*given images of {sizes} "):
        prepare(torch.zeros(5, *found), make_spec((8, 8), (4, 4)))


@pytest.mark.parametrize("input_px", [(8, 8), (5, 5)])
def test_values_beyond_the_range_are_seen_as_they_would_be_stored(
    input_px: tuple[int, int],
) -> None:
    spec, images = make_spec((8, 8), input_px), 3 * draw(4, 3, 8, 8)
    assert (images.abs() > 1).float().mean() > 0.5
    assert torch.equal(prepare(images, spec), prepare(images.clamp(-1, 1), spec))


def test_no_gradient_rewards_values_beyond_the_range() -> None:
    images = torch.tensor([-2.0, -0.9, 0.5, 0.9, 1.5]).view(1, 1, 1, 5).requires_grad_()
    spec = make_spec((1, 5), (1, 5), channels=1, mean=(0.5,), std=(0.5,))
    (gradient,) = torch.autograd.grad(GanClassifier(Recorder(), spec)(images).sum(), images)
    assert (gradient.flatten() != 0).tolist() == [False, True, True, True, False]


def test_main_head_alone_is_what_a_classifier_returns() -> None:
    classifier = GanClassifier(Recorder(), make_spec((8, 8), (4, 4)))
    assert not classifier.state_dict()  # the spec is stored beside the weights
    images = draw(5, 3, 8, 8)
    main, auxiliary = classifier.compute_heads(images)
    assert (main.dtype, auxiliary.dtype, main.shape) == (torch.float32, torch.float32, (5,))
    assert torch.equal(auxiliary, 2 * main)
    assert torch.equal(classifier(images), main)
    assert len(classifier.eval().compute_heads(images)) == 1
