import dataclasses
import math
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms.v2 import functional as vision

from ssgan.training.augment import (
    AUGMENTATIONS,
    COLOR_OPERATIONS,
    GREY_OPERATIONS,
    MAX_OPERATIONS,
    STRONG_NUMBERS,
    WEAK_NUMBERS,
    Augmentation,
    Geometry,
    strong,
    weak,
)

FLIP, RIGHT, DOWN, ANGLE, SIZE, SLANT = range(WEAK_NUMBERS)
COLUMN, ROW, FIRST_OPERATION, FIRST_MAGNITUDE = range(WEAK_NUMBERS, WEAK_NUMBERS + 4)
BELOW_1 = float(np.nextafter(np.float32(1), np.float32(0)))

VIEWS = {"weak": (weak, WEAK_NUMBERS), "strong": (strong, STRONG_NUMBERS)}
every_view = pytest.mark.parametrize(("view", "numbers"), VIEWS.values(), ids=VIEWS.keys())
every_preset = pytest.mark.parametrize(("name", "channels"), [("digits", 1), ("natural", 3)])
both_paddings = pytest.mark.parametrize("padding", ["zeros", "reflection"])


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def images(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.rand(*shape, dtype=dtype)


def neutral(rows: int, numbers: int = WEAK_NUMBERS, **columns: float) -> Tensor:
    """Numbers of 1/2, which change nothing, and other values in the named columns: ``neutral(1, RIGHT=1.0)``."""
    u = torch.full((rows, numbers), 0.5, dtype=torch.float64)
    for name, value in columns.items():
        u[:, globals()[name]] = value
    return u


def image(rows: list[list[float]]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)[None, None]


def assert_image(actual: Tensor, rows: list[list[float]], divisor: float = 1.0) -> None:
    torch.testing.assert_close(actual * divisor, image(rows), rtol=0, atol=1e-12)


@every_view
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_default_augmentation_returns_the_images_unchanged(view, numbers, dtype, monkeypatch):
    monkeypatch.setattr(F, "grid_sample", None)
    for shape in [(3, 1, 5, 4), (2, 3, 4, 4), (2, 1, 1, 1)]:
        x = images(*shape, dtype=dtype)
        kept = x.clone()
        assert torch.equal(view(x, torch.rand(shape[0], numbers), Augmentation()), kept)


@every_view
def test_flip_is_exact_and_uses_no_interpolation(view, numbers, monkeypatch):
    monkeypatch.setattr(F, "grid_sample", None)
    x, u = images(5, 3, 3, 4), torch.rand(5, numbers)
    u[:, FLIP] = torch.tensor([0.0, 0.7, 0.49, 0.5, BELOW_1])
    y = view(x, u, Augmentation(flip=True))
    assert torch.equal(y[[0, 2]], torch.flip(x[[0, 2]], [3]))
    assert torch.equal(y[[1, 3, 4]], x[[1, 3, 4]])
    assert torch.equal(view(x, u, Augmentation(flip=False)), x)


def test_flip_is_applied_before_the_shift():
    x = image([[1, 2, 3, 4]]) / 4
    spec = Augmentation(flip=True, weak=Geometry(shift=0.5))
    assert_image(weak(x, neutral(1, FLIP=0.0, RIGHT=0.75), spec), [[0, 4, 3, 2]], divisor=4)


ONE_TO_TWELVE = [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11, 12]]
SHIFTED: dict[tuple[str, float], list[list[float]]] = {
    ("zeros", 1.0): [[0, 1, 2, 3], [0, 5, 6, 7], [0, 9, 10, 11]],
    ("zeros", -1.0): [[2, 3, 4, 0], [6, 7, 8, 0], [10, 11, 12, 0]],
    ("zeros", -2.0): [[3, 4, 0, 0], [7, 8, 0, 0], [11, 12, 0, 0]],
    ("zeros", 0.5): [[0.5, 1.5, 2.5, 3.5], [2.5, 5.5, 6.5, 7.5], [4.5, 9.5, 10.5, 11.5]],
    ("reflection", 1.0): [[2, 1, 2, 3], [6, 5, 6, 7], [10, 9, 10, 11]],
    ("reflection", -1.0): [[2, 3, 4, 3], [6, 7, 8, 7], [10, 11, 12, 11]],
    ("reflection", -2.0): [[3, 4, 3, 2], [7, 8, 7, 6], [11, 12, 11, 10]],
    ("reflection", 0.5): [[1.5, 1.5, 2.5, 3.5], [5.5, 5.5, 6.5, 7.5], [9.5, 9.5, 10.5, 11.5]],
}


@pytest.mark.parametrize("axis", [RIGHT, DOWN])
@pytest.mark.parametrize(("padding", "pixels"), SHIFTED.keys())
def test_shifts_move_pixels(padding, pixels, axis):
    x, expected = image(ONE_TO_TWELVE) / 12, image(SHIFTED[padding, pixels])
    if axis == DOWN:
        x, expected = x.mT, expected.mT
    u = neutral(1)
    # Half of the side of 4 is 2 pixels, reached at 0 and at 1.
    u[:, axis] = 0.5 + pixels / 4
    spec = Augmentation(weak=Geometry(shift=0.5), padding=padding)
    torch.testing.assert_close(weak(x, u, spec) * 12, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(weak(x.float(), u, spec) * 12, expected.float(), rtol=0, atol=2e-5)


@both_paddings
def test_whole_pixel_shifts_are_equally_likely(padding):
    # A fifth of 9 pixels is 1.8, rounded to 2: the shifts -2 to 2 give five positions.
    spec = Augmentation(weak=Geometry(shift=0.2, whole_pixels=True), padding=padding)
    x = images(1, 1, 9, 9)
    u = neutral(1000)
    u[:, RIGHT] = (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000
    smooth = dataclasses.replace(spec, weak=Geometry(shift=2 / 9))
    places = torch.cat([weak(x, neutral(1, RIGHT=number), smooth) for number in (0.0, 0.25, 0.5, 0.75, 1.0)])
    distance = (weak(x.expand(1000, -1, -1, -1), u, spec)[:, None] - places).abs().amax(dim=(2, 3, 4))
    assert distance.amin(dim=1).max().item() < 1e-12
    assert distance.argmin(dim=1).tolist() == sorted([0, 1, 2, 3, 4] * 200)
    torch.testing.assert_close(weak(x, neutral(1, RIGHT=1.0), spec), places[4:], rtol=0, atol=1e-12)


def test_weak_view_of_natural_images_is_a_crop_with_reflection_padding():
    x, u = images(200, 3, 32, 32), torch.rand(200, WEAK_NUMBERS, dtype=torch.float64)
    y = weak(x, u, AUGMENTATIONS["natural"])
    padded = np.pad(x.numpy(), ((0, 0), (0, 0), (4, 4), (4, 4)), mode="reflect")
    seen = set()
    for i in range(200):
        source = padded[i, :, :, ::-1] if u[i, FLIP] < 0.5 else padded[i]
        left, top = 8 - int(u[i, RIGHT] * 9), 8 - int(u[i, DOWN] * 9)
        np.testing.assert_allclose(y[i].numpy(), source[:, top : top + 32, left : left + 32], rtol=0, atol=1e-12)
        seen |= {("x", left), ("y", top)}
    assert seen == {(axis, place) for axis in "xy" for place in range(9)}


def test_rotation_by_90_degrees_is_anticlockwise():
    spec = Augmentation(weak=Geometry(rotate_degrees=180.0))
    quarter = neutral(1, ANGLE=0.75)
    x = image([[1, 2, 3], [4, 5, 6], [7, 8, 9]]) / 9
    assert_image(weak(x, quarter, spec), [[3, 6, 9], [2, 5, 8], [1, 4, 7]], divisor=9)
    assert_image(weak(x, neutral(1, ANGLE=0.25), spec), [[7, 4, 1], [8, 5, 2], [9, 6, 3]], divisor=9)
    assert_image(weak(image([[1, 2], [3, 4]]) / 4, quarter, spec), [[2, 4], [1, 3]], divisor=4)


def test_rotation_of_a_rectangular_image_does_not_distort():
    spec = Augmentation(weak=Geometry(rotate_degrees=180.0))
    x = image([[9, 1, 2, 3, 9], [9, 4, 5, 6, 9], [9, 7, 8, 9, 9]]) / 9
    expected = [[0, 3, 6, 9, 0], [0, 2, 5, 8, 0], [0, 1, 4, 7, 0]]
    assert_image(weak(x, neutral(1, ANGLE=0.75), spec), expected, divisor=9)


def test_a_scale_above_1_enlarges():
    spec = Augmentation(weak=Geometry(scale=0.5))
    half = [[0, 0, 0, 0], [0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0]]
    assert_image(weak(image([[1.0] * 4] * 4), neutral(1, SIZE=0.0), spec), half)
    # The pixels at 1.5 from the middle are taken from 1.5 / 1.5 = 1, between those at 0.5 and 1.5.
    larger = [[0.25, 0.5, 0.5, 0.25], [0.5, 1, 1, 0.5], [0.5, 1, 1, 0.5], [0.25, 0.5, 0.5, 0.25]]
    assert_image(weak(image(half), neutral(1, SIZE=1.0), spec), larger)


def test_a_positive_shear_leans_to_the_right():
    spec = Augmentation(weak=Geometry(shear=1.0))
    line = image([[0, 1, 0], [0, 1, 0], [0, 1, 0]])
    assert_image(weak(line, neutral(1, SLANT=1.0), spec), [[0, 0, 1], [0, 1, 0], [1, 0, 0]])
    assert_image(weak(line, neutral(1, SLANT=0.0), spec), [[1, 0, 0], [0, 1, 0], [0, 0, 1]])
    level = image([[0, 0, 0], [1, 1, 1], [0, 0, 0]])
    assert_image(weak(level, neutral(1, SLANT=1.0), spec), [[0, 0, 0], [1, 1, 1], [0, 0, 0]])


@both_paddings
@pytest.mark.parametrize("shape", [(8, 8), (7, 12)])
def test_shift_rotation_scale_and_shear_compose_as_documented(padding, shape):
    geometry = Geometry(shift=0.3, rotate_degrees=60.0, scale=0.4, shear=0.5)
    height, width = shape
    x, u = images(6, 1, height, width), torch.rand(6, WEAK_NUMBERS, dtype=torch.float64)
    y = weak(x, u, Augmentation(weak=geometry, padding=padding))
    for i in range(6):
        right, down, angle, size, slant = (2 * u[i, 1:] - 1).tolist()
        cos, sin = math.cos(math.radians(60 * angle)), math.sin(math.radians(60 * angle))
        shear = np.array([[1, -0.5 * slant], [0, 1]])
        turn = np.array([[cos, sin], [-sin, cos]])
        # scipy takes the backward map, in (row, column).
        backward = np.linalg.inv(turn @ ((1 + 0.4 * size) * np.eye(2)) @ shear)[::-1, ::-1]
        center, shift = np.array([height - 1, width - 1]) / 2, np.array([0.3 * down * height, 0.3 * right * width])
        expected = ndimage.affine_transform(
            x[i, 0].numpy(),
            backward,
            center - backward @ (center + shift),
            order=1,
            mode={"zeros": "grid-constant", "reflection": "mirror"}[padding],
        )
        np.testing.assert_allclose(y[i, 0].numpy(), expected, rtol=0, atol=1e-12)


def moves(u: Tensor, geometry: Geometry) -> dict[str, Tensor]:
    """Shift (pixels), angle (degrees), scale and shear of each image, measured on two transformed ramps."""
    steps = (torch.arange(41, dtype=torch.float64) - 20) / 100
    across, down = 0.5 + steps.expand(41, 41), 0.5 + steps[:, None].expand(41, 41)
    ramps = torch.stack([across, down, torch.zeros_like(across)])
    y = (weak(ramps.expand(len(u), -1, -1, -1), u, Augmentation(weak=geometry))[:, :2] - 0.5) * 100
    here = y[:, :, 20, 20]
    backward = torch.stack([y[:, :, 20, 21] - here, y[:, :, 21, 20] - here], dim=2)
    forward = torch.linalg.inv(backward)
    right, down = (-forward @ here[:, :, None])[:, :, 0].unbind(1)
    size = forward[:, :, 0].norm(dim=1)
    angle = torch.atan2(-forward[:, 1, 0], forward[:, 0, 0])
    cos, sin = angle.cos(), angle.sin()
    slant = -(cos * forward[:, 0, 1] - sin * forward[:, 1, 1]) / size
    return {"right": right, "down": down, "angle": angle.rad2deg(), "size": size - 1, "slant": slant}


def test_geometry_parameters_are_uniform_and_uncorrelated():
    geometry = Geometry(shift=3 / 41, rotate_degrees=25.0, scale=0.2, shear=0.3)
    bounds = {"right": 3.0, "down": 3.0, "angle": 25.0, "size": 0.2, "slant": 0.3}
    count = 3000
    drawn = moves(torch.rand(count, WEAK_NUMBERS, dtype=torch.float64), geometry)
    assert drawn.keys() == bounds.keys()
    for name, bound in bounds.items():
        values = drawn[name] / bound
        assert 0.99 < values.max().item() <= 1 + 1e-9
        assert -1 - 1e-9 <= values.min().item() < -0.99
        # Five standard errors of the mean, and of the mean square: 1/3 with variance 1/5 - 1/9.
        assert abs(values.mean().item()) < 5 / (3 * count) ** 0.5
        assert abs(values.square().mean().item() - 1 / 3) < 5 * (4 / 45 / count) ** 0.5
    correlations = torch.corrcoef(torch.stack(list(drawn.values()))) - torch.eye(5, dtype=torch.float64)
    assert correlations.abs().max().item() < 5 / count**0.5


@every_view
@every_preset
def test_view_of_an_image_depends_only_on_its_own_numbers(view, numbers, name, channels):
    spec = AUGMENTATIONS[name]
    x, u = images(6, channels, 9, 8, dtype=torch.float32), torch.rand(6, numbers)
    y = view(x, u, spec)
    assert (y != x).flatten(1).any(dim=1).all()
    for others in [(torch.cat([x[:1], 1 - x[1:]]), u), (x, torch.cat([u[:1], 1 - u[1:]]))]:
        changed = view(*others, spec)
        assert torch.equal(changed[0], y[0])
        assert (changed[1:] != y[1:]).flatten(1).any(dim=1).all()
    order = torch.tensor([3, 0, 5, 4, 1, 2])
    assert torch.equal(view(x[order], u[order], spec), y[order])
    for i in range(6):
        torch.testing.assert_close(view(x[i : i + 1], u[i : i + 1], spec), y[i : i + 1], rtol=0, atol=1e-5)


@every_view
@every_preset
def test_views_use_no_global_random_state_and_keep_their_arguments(view, numbers, name, channels):
    x, u = images(4, channels, 8, 8, dtype=torch.float32), torch.rand(4, numbers)
    kept_x, kept_u, state = x.clone(), u.clone(), torch.get_rng_state()
    first = view(x, u, AUGMENTATIONS[name])
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(1)
    assert torch.equal(view(x, u, AUGMENTATIONS[name]), first)
    assert torch.equal(x, kept_x)
    assert torch.equal(u, kept_u)


def shares(high: float) -> st.SearchStrategy[float]:
    return st.floats(0, high)


GEOMETRIES = st.builds(
    Geometry,
    shift=shares(1),
    rotate_degrees=shares(180),
    scale=shares(0.9),
    shear=shares(1),
    whole_pixels=st.booleans(),
)
SPECS = st.builds(
    Augmentation,
    flip=st.booleans(),
    weak=GEOMETRIES,
    strong=GEOMETRIES,
    padding=st.sampled_from(["zeros", "reflection"]),
    operations=st.integers(0, MAX_OPERATIONS),
    magnitude=shares(1),
    cutout=shares(1),
    cutout_fill=shares(1),
)


@settings(max_examples=150, deadline=None)
@given(
    spec=SPECS,
    view=st.sampled_from(list(VIEWS.values())),
    shape=st.tuples(st.integers(0, 3), st.sampled_from([1, 3]), st.integers(1, 5), st.integers(1, 5)),
    dtype=st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64]),
    content=st.sampled_from(["any", "black", "white", "black and white"]),
    channels_last=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_views_keep_shape_dtype_and_value_range(spec, view, shape, dtype, content, channels_last, seed):
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(shape, generator=generator).to(dtype)
    if content != "any":
        x = {"black": torch.zeros_like, "white": torch.ones_like, "black and white": torch.round}[content](x)
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    u = torch.rand(shape[0], view[1], generator=generator)
    y = view[0](x, u, spec)
    assert (y.shape, y.dtype, y.device) == (x.shape, x.dtype, x.device)
    assert y.is_contiguous()
    assert ((y >= 0) & (y <= 1)).all()


@every_view
@pytest.mark.parametrize(
    "spec", [Augmentation(), Augmentation(flip=True, operations=2, magnitude=0.5), AUGMENTATIONS["natural"]]
)
def test_views_of_images_stored_with_channels_last_are_contiguous(view, numbers, spec):
    x, u = images(4, 3, 6, 5), torch.rand(4, numbers)
    y = view(x.contiguous(memory_format=torch.channels_last), u, spec)
    assert y.is_contiguous()
    torch.testing.assert_close(y, view(x, u, spec), rtol=0, atol=1e-14)


@both_paddings
def test_rounding_in_interpolation_does_not_exceed_1(padding):
    x = torch.ones(400, 1, 28, 28)
    spec = Augmentation(weak=Geometry(rotate_degrees=180.0, shift=0.1), padding=padding)
    assert weak(x, torch.rand(400, WEAK_NUMBERS), spec).max().item() == 1.0


def rows_of(values: list[float], dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.tensor(values, dtype=dtype)[:, None, None, None]


def each(function: Callable[..., Tensor], x: Tensor, values: list) -> Tensor:
    return torch.stack([function(row, value) for row, value in zip(x, values, strict=True)])


MAGNITUDES = [-1.0, -0.5, 0.0, 0.1, 0.5, 1.0]
FACTORS = [1 + 0.9 * m for m in MAGNITUDES]
AS_IN_TORCHVISION: dict[str, tuple[Callable[..., Tensor], list]] = {
    "brightness": (vision.adjust_brightness, FACTORS),
    "contrast": (vision.adjust_contrast, FACTORS),
    "saturation": (vision.adjust_saturation, FACTORS),
    "sharpness": (vision.adjust_sharpness, FACTORS),
    "solarize": (vision.solarize, [0.0, 0.5, 1.0, 0.9, 0.5, 0.0]),
    "posterize": (vision.posterize, [4, 6, 8, 8, 6, 4]),
}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", AS_IN_TORCHVISION.keys())
def test_color_operations_equal_torchvision(name, channels):
    function, values = AS_IN_TORCHVISION[name]
    for side in (2, 7):
        x = images(6, channels, side, 5)
        actual = COLOR_OPERATIONS[name](x, rows_of(MAGNITUDES)).clamp(0, 1)
        torch.testing.assert_close(actual, each(function, x, values), rtol=0, atol=1e-14)


def test_posterize_keeps_four_to_eight_bits_equally_often():
    m = (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000
    for sign in (-1, 1):
        black_to_white = torch.linspace(0, 1, 1024, dtype=torch.float64).expand(1000, 1, 1, 1024)
        y = COLOR_OPERATIONS["posterize"](black_to_white, rows_of((sign * m).tolist()))
        levels = (y[..., 1:] != y[..., :-1]).sum(dim=(1, 2, 3)) + 1
        assert levels.tolist() == sorted([16, 32, 64, 128, 256] * 200, reverse=True)


def test_autocontrast_is_blended_by_its_magnitude():
    x = 0.2 + 0.5 * images(6, 3, 4, 5)
    x[1, 0] = 0.3
    full = vision.autocontrast(x)
    assert torch.equal(full[1, 0], x[1, 0])
    expected = torch.stack([torch.lerp(a, b, abs(m)) for a, b, m in zip(x, full, MAGNITUDES, strict=True)])
    actual = COLOR_OPERATIONS["autocontrast"](x, rows_of(MAGNITUDES))
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-14)


def test_tone_changes_mid_grey_and_keeps_black_and_white():
    tone = COLOR_OPERATIONS["tone"]
    x = torch.linspace(0, 1, 101, dtype=torch.float64).expand(3, 1, 1, 101)
    m = rows_of([-1.0, 0.3, 1.0])
    y = tone(x, m)
    torch.testing.assert_close(y[..., [0, 100]], x[..., [0, 100]], rtol=0, atol=1e-15)
    assert (y.diff(dim=3) > 0).all()
    # A half becomes 3/2 / (1 + 2/2) = 3/4 at k = 3 and 1/6 / (2/3) = 1/4 at k = 1/3.
    assert y[2, 0, 0, 50].item() == pytest.approx(3 / 4, abs=1e-15)
    assert y[0, 0, 0, 50].item() == pytest.approx(1 / 4, abs=1e-15)
    torch.testing.assert_close(tone(y, -m), x, rtol=0, atol=1e-14)


@pytest.mark.parametrize("name", COLOR_OPERATIONS.keys())
def test_magnitude_0_leaves_images_as_they_are(name):
    x = images(4, 3, 5, 5)
    x[0], x[1] = 0.0, 1.0
    y = COLOR_OPERATIONS[name](x, rows_of([0.0] * 4))
    if name == "posterize":
        assert ((x - y) >= 0).all()
        assert ((x - y) <= 1 / 256).all()
    else:
        assert torch.equal(y, x)


@pytest.mark.parametrize(("channels", "operations"), [(1, GREY_OPERATIONS), (3, COLOR_OPERATIONS)])
def test_every_operation_is_drawn_equally_often(channels, operations):
    rows = 40 * len(operations)
    x = images(1, channels, 4, 4).expand(rows, -1, -1, -1)
    u = torch.rand(rows, STRONG_NUMBERS, dtype=torch.float64)
    u[:, FIRST_OPERATION] = (torch.arange(rows, dtype=torch.float64) + 0.5) / rows
    u[:, FIRST_MAGNITUDE] = 0.875
    y = strong(x, u, Augmentation(operations=1, magnitude=0.8))
    possible = torch.cat([operation(x[:1], rows_of([0.75 * 0.8])).clamp(0, 1) for operation in operations.values()])
    distance = (y[:, None] - possible).abs().amax(dim=(2, 3, 4))
    assert distance.amin(dim=1).max().item() < 1e-14
    assert distance.argmin(dim=1).tolist() == [i for i in range(len(operations)) for _ in range(40)]


@pytest.mark.parametrize(("channels", "operations"), [(1, GREY_OPERATIONS), (3, COLOR_OPERATIONS)])
@pytest.mark.parametrize("turns", range(MAX_OPERATIONS + 1))
def test_operations_are_applied_in_the_drawn_order(channels, operations, turns):
    x, u = images(60, channels, 4, 4), torch.rand(60, STRONG_NUMBERS, dtype=torch.float64)
    expected = []
    for i in range(60):
        row = x[i : i + 1]
        for turn in range(turns):
            choice = int(u[i, FIRST_OPERATION + 2 * turn] * len(operations))
            m = (2 * u[i, FIRST_MAGNITUDE + 2 * turn].item() - 1) * 0.8
            row = list(operations.values())[choice](row, rows_of([m])).clamp(0, 1)
        expected.append(row)
    y = strong(x, u, Augmentation(operations=turns, magnitude=0.8))
    torch.testing.assert_close(y, torch.cat(expected), rtol=0, atol=1e-13)


@every_preset
@pytest.mark.parametrize("rows", [1, 7, 50])
@pytest.mark.parametrize("channels_last", [False, True])
def test_operations_by_rows_equal_operations_on_the_whole_batch(name, channels, rows, channels_last):
    x, u = images(rows, channels, 9, 11, dtype=torch.float32), torch.rand(rows, STRONG_NUMBERS)
    x = x.to(memory_format=torch.channels_last) if channels_last else x
    some, every = (strong(x, u, AUGMENTATIONS[name], by_rows=by_rows) for by_rows in (True, False))
    torch.testing.assert_close(some, every, rtol=0, atol=1e-6)


def test_largest_number_below_1_selects_the_last_operation_and_pixel():
    u = torch.full((1, STRONG_NUMBERS), BELOW_1)
    x = 0.2 + 0.5 * images(1, 3, 5, 28, dtype=torch.float32)
    y = strong(x, u, Augmentation(operations=1, magnitude=1.0))
    torch.testing.assert_close(y, vision.autocontrast(x), rtol=0, atol=1e-6)
    assert strong(x, u, Augmentation(cutout=0.2))[0, 0].eq(0).nonzero().tolist() == [[4, 27]]


@pytest.mark.parametrize(("share", "side"), [(3 / 7, 3), (4 / 7, 4), (0.5, 4), (0.1, 1), (1.0, 7)])
@pytest.mark.parametrize("fill", [0.0, 0.5])
def test_cutout_fills_a_square_around_any_pixel(share, side, fill):
    height, width = 7, 9
    x = 0.1 + 0.3 * images(1, 3, height, width)
    for row in range(height):
        for column in range(width):
            u = neutral(1, STRONG_NUMBERS, ROW=(row + 0.5) / height, COLUMN=(column + 0.5) / width)
            expected = x.clone()
            top, left = row - side // 2, column - side // 2
            expected[:, :, max(top, 0) : max(top + side, 0), max(left, 0) : max(left + side, 0)] = fill
            assert torch.equal(strong(x, u, Augmentation(cutout=share, cutout_fill=fill)), expected)


def test_cutout_below_half_a_pixel_changes_nothing():
    x = images(2, 1, 4, 4)
    assert torch.equal(strong(x, torch.rand(2, STRONG_NUMBERS), Augmentation(cutout=0.12)), x)


def test_cutout_is_applied_last():
    x = images(1, 1, 6, 6)
    spec = Augmentation(strong=Geometry(shift=0.5), operations=1, magnitude=1.0, cutout=1 / 3, cutout_fill=0.5)
    u = neutral(1, STRONG_NUMBERS, FIRST_OPERATION=0.0, FIRST_MAGNITUDE=0.0, RIGHT=1.0)
    y = strong(x, u, spec)
    assert (y[..., 2:4, 2:4] == 0.5).all()
    moved = F.pad(x, (3, 0))[..., :6] * 0.1
    moved[..., 2:4, 2:4] = 0.5
    torch.testing.assert_close(y, moved, rtol=0, atol=1e-12)


def test_strong_view_uses_the_strong_geometry():
    x, u = images(4, 3, 8, 8), torch.rand(4, STRONG_NUMBERS, dtype=torch.float64)
    far, near = Geometry(shift=0.4, rotate_degrees=90.0), Geometry(shift=0.1)
    for padding in ("zeros", "reflection"):
        spec = Augmentation(flip=True, weak=near, strong=far, padding=padding)
        swapped = dataclasses.replace(spec, weak=far, strong=near)
        assert torch.equal(strong(x, u, spec), weak(x, u[:, :WEAK_NUMBERS], swapped))
        assert not torch.equal(strong(x, u, swapped), strong(x, u, spec))


@every_view
@every_preset
def test_float32_and_float64_agree(view, numbers, name, channels):
    # Pixels at a threshold of posterize or solarize may be rounded to either side.
    x, u = images(50, channels, 28, 28, dtype=torch.float32), torch.rand(50, numbers)
    expected = view(x.double(), u.double(), AUGMENTATIONS[name]).float()
    apart = (view(x, u, AUGMENTATIONS[name]) - expected).abs() > 1e-4
    assert apart.float().mean().item() < 1e-4


@every_view
@every_preset
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_views_equal_rounded_float32_views(view, numbers, name, channels, dtype):
    x, u = images(5, channels, 8, 8, dtype=dtype), torch.rand(5, numbers)
    assert torch.equal(view(x, u, AUGMENTATIONS[name]), view(x.float(), u, AUGMENTATIONS[name]).to(dtype))


@every_view
@every_preset
def test_vmap_over_seeds_equals_the_loop(view, numbers, name, channels):
    x, u = images(3, 4, channels, 8, 8), torch.rand(3, 4, numbers, dtype=torch.float64)
    spec = AUGMENTATIONS[name]

    def energy(x: Tensor, u: Tensor) -> Tensor:
        return view(x, u, spec).square().sum()

    stacked = torch.func.vmap(lambda x, u: view(x, u, spec))(x, u)
    gradients = torch.func.vmap(torch.func.grad(energy))(x, u)
    for i in range(3):
        torch.testing.assert_close(stacked[i], view(x[i], u[i], spec), rtol=0, atol=1e-14)
        torch.testing.assert_close(gradients[i], torch.func.grad(energy)(x[i], u[i]), rtol=0, atol=1e-13)


@every_view
@every_preset
def test_views_work_on_the_meta_device(view, numbers, name, channels):
    # Tensors on the meta device have no values, so that reading one in Python fails.
    x, u = torch.empty(4, channels, 8, 8, device="meta"), torch.empty(4, numbers, device="meta")
    y = view(x, u, AUGMENTATIONS[name])
    assert (y.shape, y.device) == (x.shape, x.device)


@every_view
@both_paddings
def test_gradients_of_the_geometry_agree_with_finite_differences(view, numbers, padding):
    far = Geometry(shift=0.4, rotate_degrees=90.0, scale=0.3, shear=0.4)
    spec = Augmentation(flip=True, weak=far, strong=far, padding=padding, cutout=0.3, cutout_fill=0.5)
    u = torch.rand(3, numbers, dtype=torch.float64)
    x = (0.1 + 0.8 * images(3, 1, 4, 5)).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: view(x, u, spec), (x,))


@pytest.mark.parametrize("name", sorted(COLOR_OPERATIONS.keys() - {"posterize"}))
def test_gradients_of_the_operations_agree_with_finite_differences(name):
    u = neutral(3, STRONG_NUMBERS, FIRST_OPERATION=(list(COLOR_OPERATIONS).index(name) + 0.5) / len(COLOR_OPERATIONS))
    u[:, FIRST_MAGNITUDE] = torch.tensor([0.1, 0.4, 0.8])
    x = (0.35 + 0.3 * images(3, 3, 4, 4)).requires_grad_()
    spec = Augmentation(operations=1, magnitude=0.5)
    assert torch.autograd.gradcheck(lambda x: strong(x, u, spec), (x,))
    (gradient,) = torch.autograd.grad(strong(x, u, spec).square().sum(), x)
    assert gradient.flatten(1).norm(dim=1).min().item() > 1e-3


@pytest.mark.parametrize("content", [0.0, 1.0])
def test_gradients_reach_black_and_white_pixels(content):
    x = torch.full((2, 1, 4, 4), content, dtype=torch.float64, requires_grad=True)
    halved = neutral(2, STRONG_NUMBERS, FIRST_OPERATION=0.0, FIRST_MAGNITUDE=0.5 - 0.5 / 1.8)
    spec = Augmentation(flip=True, strong=Geometry(rotate_degrees=10.0), operations=1, magnitude=1.0)
    (gradient,) = torch.autograd.grad(strong(x, halved, spec).sum(), x)
    torch.testing.assert_close(gradient, torch.full_like(x, 0.5), rtol=0, atol=1e-12)


@every_preset
@pytest.mark.parametrize("content", [0.0, 1e-40, 0.5, 1.0])
def test_gradients_are_finite_on_nearly_constant_images(name, channels, content):
    x = torch.full((64, channels, 8, 8), content)
    x[0, :, 0, 0] = content / 2
    x.requires_grad_()
    y = strong(x, torch.rand(64, STRONG_NUMBERS), AUGMENTATIONS[name])
    (gradient,) = torch.autograd.grad(y.sum(), x)
    assert gradient.isfinite().all()


@every_view
@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(2, 4, 4), r"images are torch.float32 \[2, 4, 4\], but must be floats \[N, C, H, W\]"),
        (torch.zeros(2, 2, 4, 4), r"\[2, 2, 4, 4\], but must be floats \[N, C, H, W\] with 1 or 3 channels"),
        (torch.zeros(2, 1, 0, 4), r"\[2, 1, 0, 4\], but must be"),
        (torch.zeros(2, 1, 4, 4, dtype=torch.uint8), r"images are torch.uint8 \[2, 1, 4, 4\], but must be floats"),
    ],
)
def test_views_refuse_invalid_image_batches(view, numbers, x, message):
    with pytest.raises(ValueError, match=message):
        view(x, torch.rand(2, numbers), Augmentation())


@every_view
@pytest.mark.parametrize(("rows", "more"), [(3, 0), (1, 0), (2, 1), (2, -1)])
def test_views_refuse_uniform_numbers_of_wrong_shape(view, numbers, rows, more):
    message = rf"uniform numbers are torch.float32 \[{rows}, {numbers + more}\], but must be floats \[2, {numbers}\]"
    with pytest.raises(ValueError, match=message):
        view(torch.zeros(2, 1, 4, 4), torch.rand(rows, numbers + more), Augmentation())


@every_view
def test_views_refuse_integer_uniform_numbers(view, numbers):
    with pytest.raises(ValueError, match="uniform numbers are"):
        view(torch.zeros(2, 1, 4, 4), torch.zeros(2, numbers, dtype=torch.int64), Augmentation())


@pytest.mark.parametrize(
    ("make", "setting", "value", "message"),
    [
        (Geometry, "shift", 1.1, "shift is 1.1, but must be a number from 0 to 1"),
        (Geometry, "shift", -0.1, "shift is -0.1, but must be a number from 0 to 1"),
        (Geometry, "shift", "2", "shift is '2', but must be a number from 0 to 1"),
        (Geometry, "rotate_degrees", 181, "rotate_degrees is 181, but must be a number from 0 to 180"),
        (Geometry, "scale", 0.95, "scale is 0.95, but must be a number from 0 to 0.9"),
        (Geometry, "shear", math.nan, "shear is nan, but must be a number from 0 to 1"),
        (Geometry, "whole_pixels", 1, "whole_pixels is 1, but must be one of False, True"),
        (Augmentation, "flip", 0.5, "flip is 0.5, but must be one of False, True"),
        (Augmentation, "padding", "border", "padding is 'border', but must be one of 'zeros', 'reflection'"),
        (Augmentation, "operations", 5, "operations is 5, but must be one of 0, 1, 2, 3, 4"),
        (Augmentation, "operations", 1.0, "operations is 1.0, but must be one of 0, 1, 2, 3, 4"),
        (Augmentation, "operations", True, "operations is True, but must be one of 0, 1, 2, 3, 4"),
        (Augmentation, "magnitude", math.inf, "magnitude is inf, but must be a number from 0 to 1"),
        (Augmentation, "cutout", 2, "cutout is 2, but must be a number from 0 to 1"),
        (Augmentation, "cutout", True, "cutout is True, but must be a number from 0 to 1"),
        (Augmentation, "cutout_fill", -1, "cutout_fill is -1, but must be a number from 0 to 1"),
    ],
)
def test_settings_out_of_their_range_are_refused(make, setting, value, message):
    with pytest.raises(ValueError) as mistake:  # noqa: PT011
        make(**{setting: value})
    assert str(mistake.value) == message


@pytest.mark.parametrize("name", AUGMENTATIONS.keys())
def test_presets_are_frozen_and_can_be_replaced(name):
    with pytest.raises(dataclasses.FrozenInstanceError):
        AUGMENTATIONS[name].flip = True
    assert dataclasses.replace(AUGMENTATIONS[name], cutout=0.0).cutout == 0.0
