"""Augment a batch: weak and strong views as functions of the images and of uniform numbers.

Shapes: N rows (a batch), C channels (1 or 3), H rows and W columns of pixels, P uniform numbers in
[0, 1). The caller draws the numbers: nothing here touches a generator, and each image is changed only by its own
numbers. Without ``by_rows`` nothing looks at a tensor's value in Python, and no shape depends on one, so both views can
be lifted by ``torch.func.vmap`` and captured as a CUDA graph. Gradients flow into the images. Half precision is
computed in float32 and rounded once, at the end.

Source: Sohn et al., *FixMatch*, 2020, section 2.3: weak is flip and shift, strong is RandAugment
followed by Cutout. RandAugment: Cubuk et al., *RandAugment*, 2020. Cutout: DeVries & Taylor,
*Improved Regularization of Convolutional Neural Networks with Cutout*, 2017. What differs: the moves
are one affine map, sampled once; magnitudes are drawn per image and reach down to 0; and
equalise is left out, which needs a histogram per channel and has no useful gradient.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = [
    "AUGMENTATIONS",
    "COLOR_OPERATIONS",
    "GREY_OPERATIONS",
    "MAX_OPERATIONS",
    "STRONG_NUMBERS",
    "WEAK_NUMBERS",
    "Augmentation",
    "Geometry",
    "strong",
    "weak",
]


# Per image: flip, shift across, shift down, rotation, scale, shear; then the position of the cutout, across and down,
# and for each colour operation which one and its magnitude.
WEAK_NUMBERS = 6
MAX_OPERATIONS = 4
STRONG_NUMBERS = WEAK_NUMBERS + 2 + 2 * MAX_OPERATIONS


def _require_number(name: str, value: float, high: float) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= high:
        raise ValueError(f"{name} is {value!r}, but must be a number from 0 to {high:g}")


def _require_one_of(name: str, value: object, allowed: tuple) -> None:
    # 1 == True == 1.0, so types are compared too.
    if not any(type(value) is type(one) and value == one for one in allowed):
        raise ValueError(f"{name} is {value!r}, but must be one of {', '.join(map(repr, allowed))}")


@dataclass(frozen=True)
class Geometry:
    """Set how far an image may be moved. Every value is drawn uniformly from a range around the identity.

    The content is sheared, scaled, rotated and shifted, in this order, about the centre of the image.

    Attributes
    ----------
    shift : float
        Largest shift, as a fraction of the width across and of the height down, 0 to 1.
    rotate_degrees : float
        Largest angle, 0 to 180.
    scale : float
        Largest change of size: factors lie in 1 - scale to 1 + scale; 0 to 0.9.
    shear : float
        Largest slant, in pixels across per pixel of height, 0 to 1.
    whole_pixels : bool
        Shift by whole pixels only, all equally likely; the largest shift is rounded. A shift by half a pixel averages
        neighbours, so a network would train on blurred images and be tested on sharp ones.

    Raises
    ------
    ValueError
        For a value out of its range.
    """

    shift: float = 0.0
    rotate_degrees: float = 0.0
    scale: float = 0.0
    shear: float = 0.0
    whole_pixels: bool = False

    def __post_init__(self) -> None:
        _require_number("shift", self.shift, 1.0)
        _require_number("rotate_degrees", self.rotate_degrees, 180.0)
        _require_number("scale", self.scale, 0.9)
        _require_number("shear", self.shear, 1.0)
        _require_one_of("whole_pixels", self.whole_pixels, (False, True))

    @property
    def moves(self) -> bool:
        """Whether anything moves at all."""
        return max(self.shift, self.rotate_degrees, self.scale, self.shear) > 0


@dataclass(frozen=True)
class Augmentation:
    """Set what the weak and the strong view of a data set do; by default, nothing.

    Attributes
    ----------
    flip : bool
        Mirror left and right with probability 1/2, in both views. Not for digits.
    weak, strong : Geometry
        The moves of either view.
    padding : {"zeros", "reflection"}
        What lies outside the image: black, or the image mirrored at its border pixels.
    operations : int
        Colour operations of the strong view, one after another, each drawn uniformly from ``GREY_OPERATIONS`` (C = 1)
        or ``COLOR_OPERATIONS`` (C = 3), repeats allowed; 0 to ``MAX_OPERATIONS``.
    magnitude : float
        Their largest magnitude, 0 (no change) to 1; drawn uniformly from -magnitude to magnitude.
    cutout : float
        Side of the square that the strong view blanks, as a fraction of the shorter side of the image,
        rounded to whole pixels; 0 to 1. Its centre is any pixel, so a border may clip it.
    cutout_fill : float
        Intensity of the square, 0 to 1.

    Raises
    ------
    ValueError
        For a value out of its range.
    """

    flip: bool = False
    weak: Geometry = field(default_factory=Geometry)
    strong: Geometry = field(default_factory=Geometry)
    padding: str = "zeros"
    operations: int = 0
    magnitude: float = 0.0
    cutout: float = 0.0
    cutout_fill: float = 0.0

    def __post_init__(self) -> None:
        _require_one_of("flip", self.flip, (False, True))
        _require_one_of("padding", self.padding, ("zeros", "reflection"))
        _require_one_of("operations", self.operations, tuple(range(MAX_OPERATIONS + 1)))
        _require_number("magnitude", self.magnitude, 1.0)
        _require_number("cutout", self.cutout, 1.0)
        _require_number("cutout_fill", self.cutout_fill, 1.0)


AUGMENTATIONS: dict[str, Augmentation] = {
    # Grey on black, and a mirrored digit is not a digit. Weak shifts reach 2 pixels of 28. A small network, trained for
    # two epochs on strong views of MNIST with all labels, has an error of 4.8 % on them and of 1.3 % on unchanged
    # images; with a cutout of 0.25 and the other strong settings a quarter to a half larger, it has 7.9 %. An illegible
    # digit teaches a wrong label.
    "digits": Augmentation(
        weak=Geometry(shift=2 / 28, rotate_degrees=10.0, scale=0.1, shear=0.1),
        strong=Geometry(shift=3 / 28, rotate_degrees=20.0, scale=0.2, shear=0.2),
        operations=2,
        magnitude=0.5,
        cutout=0.2,
    ),
    # The same moves for any background, such as paper under ink. The trials are in docs/notes/images.md.
    "drawings": Augmentation(
        weak=Geometry(shift=2 / 28, rotate_degrees=10.0, scale=0.1, shear=0.1),
        strong=Geometry(shift=3 / 28, rotate_degrees=20.0, scale=0.2, shear=0.2),
        padding="reflection",
        operations=2,
        magnitude=0.5,
        cutout=0.2,
        cutout_fill=0.5,
    ),
    # FixMatch's weak view of CIFAR-10: 4 pixels of 32. Its strong one draws two operations from moves and colours
    # alike; here all moves are applied at once, so each is smaller.
    "natural": Augmentation(
        flip=True,
        weak=Geometry(shift=1 / 8, whole_pixels=True),
        strong=Geometry(shift=3 / 16, rotate_degrees=20.0, scale=0.2, shear=0.2),
        padding="reflection",
        operations=2,
        magnitude=0.7,
        cutout=0.5,
        cutout_fill=0.5,
    ),
}


def weak(x_NCHW: Tensor, u_NP: Tensor, spec: Augmentation) -> Tensor:
    """Return weak views: images flipped at random, then moved by one affine map with bilinear sampling.

    Parameters
    ----------
    x_NCHW : Tensor of any float type, shape [N, C, H, W]
        Intensities in [0, 1], C = 1 or 3.
    u_NP : Tensor of any float type, shape [N, WEAK_NUMBERS]
        Uniform numbers in [0, 1), on the device of the images.
    spec : Augmentation

    Returns
    -------
    Tensor, shape [N, C, H, W]
        Intensities in [0, 1], of the images' type, contiguous. If the spec changes nothing, the images themselves.

    Raises
    ------
    ValueError
        For another shape or type.
    """
    x, u = _checked(x_NCHW, u_NP, WEAK_NUMBERS)
    return _affine(x, u, spec, spec.weak).to(x_NCHW.dtype).contiguous()


def strong(x_NCHW: Tensor, u_NP: Tensor, spec: Augmentation, by_rows: bool = False) -> Tensor:
    """Return strong views: images moved as by :func:`weak` but further, then recoloured, then with a square blanked.

    Parameters, result and errors are those of :func:`weak`, with ``STRONG_NUMBERS`` uniform numbers per
    image, however many the spec uses. With ``by_rows`` each colour operation runs only on the rows that drew it:
    equal up to rounding and faster on a CPU, but shapes depend on the numbers.
    """
    x, u = _checked(x_NCHW, u_NP, STRONG_NUMBERS)
    x = _affine(x, u, spec, spec.strong)
    operations = tuple((GREY_OPERATIONS if x.shape[1] == 1 else COLOR_OPERATIONS).values())
    first = WEAK_NUMBERS + 2
    for turn in range(first, first + 2 * spec.operations, 2):
        choice_N111 = _uniform_to_int(u[:, turn, None, None, None], len(operations))
        m_N111 = (2.0 * u[:, turn + 1, None, None, None] - 1.0) * spec.magnitude
        before, x = x, torch.empty_like(x) if by_rows else x
        for i, operation in enumerate(operations):
            if by_rows:
                rows = (choice_N111.flatten() == i).nonzero().flatten()
                x[rows] = operation(before[rows], m_N111[rows])
            else:
                x = torch.where(choice_N111 == i, operation(before, m_N111), x)
        x = _clamp(x)
    return _cutout(x, u[:, WEAK_NUMBERS:first], spec).to(x_NCHW.dtype).contiguous()


def brightness(x: Tensor, m: Tensor) -> Tensor:
    """Blend with black: factors 0.1 to 1.9."""
    return x * (1.0 + 0.9 * m)


def contrast(x: Tensor, m: Tensor) -> Tensor:
    """Blend with the mean luminance: factors 0.1 to 1.9."""
    return _blend(x, _luminance(x).mean(dim=(2, 3), keepdim=True), m)


def saturation(x: Tensor, m: Tensor) -> Tensor:
    """Blend with the luminance: factors 0.1 to 1.9."""
    return _blend(x, _luminance(x), m)


def sharpness(x: Tensor, m: Tensor) -> Tensor:
    """Blend with a blurred image: factors 0.1 to 1.9. The outermost pixels are not blurred, as in Pillow.

    The blur is the mean of the 3 x 3 pixels around, where the middle one counts five times.
    """
    if min(x.shape[2:]) < 3:
        return x
    # Sums of slices take a third of the time of torch's pooling on a CPU.
    three = x[:, :, :-2] + x[:, :, 1:-1] + x[:, :, 2:]
    nine = three[..., :-2] + three[..., 1:-1] + three[..., 2:]
    sharper = (9.0 * x[:, :, 1:-1, 1:-1] - nine) / 13.0
    return x + 0.9 * m * F.pad(sharper, (1, 1, 1, 1))


def tone(x: Tensor, m: Tensor) -> Tensor:
    """Lighten or darken middle tones, keeping black and white: ``k x / (1 + (k - 1) x)``, k from 1/3 to 3.

    It bends tones as gamma does, whose slope at black is infinite: on a black background no gradient would be finite.

    Source: Schlick, *Fast Alternatives to Perlin's Bias and Gain Functions*, 1994, with bias k / (k + 1).
    """
    k = 3.0**m
    return k * x / (1.0 + (k - 1.0) * x)


def solarize(x: Tensor, m: Tensor) -> Tensor:
    """Invert pixels that are lighter than 1 - abs(m)."""
    return torch.where(x > 1.0 - m.abs(), 1.0 - x, x)


def posterize(x: Tensor, m: Tensor) -> Tensor:
    """Keep 8 to 4 bits of every channel, as the integer of these bits / 2^bits: white becomes 255/256 to 15/16.

    Its gradient is 0.
    """
    # A bit shift, because a power of 2 need not be exact on every device.
    dropped_bits = _uniform_to_int(m.abs(), 5).long()
    levels = (torch.full_like(dropped_bits, 256) >> dropped_bits).to(x.dtype)
    return (x * levels).floor().clamp_max(levels - 1.0) / levels


def autocontrast(x: Tensor, m: Tensor) -> Tensor:
    """Blend, by abs(m), with each channel stretched to reach from 0 to 1.

    A constant channel is unchanged.
    """
    low, high = x.amin(dim=(2, 3), keepdim=True), x.amax(dim=(2, 3), keepdim=True)
    # A range below the rounding of 1 counts as 0; dividing by it would make gradients infinite.
    flat = high - low <= torch.finfo(x.dtype).eps
    stretched = (x - low) / torch.where(flat, 1.0, high - low)
    return x + m.abs() * (torch.where(flat, x, stretched) - x)


# Each maps images in [0, 1] and magnitudes in [-1, 1], shaped [N, 1, 1, 1], to images that are clamped to [0, 1] by
# the caller. Magnitude 0 leaves the images unchanged, except for the 8 bits of posterize.
GREY_OPERATIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "brightness": brightness,
    "contrast": contrast,
    "sharpness": sharpness,
    "tone": tone,
}
COLOR_OPERATIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    **GREY_OPERATIONS,
    "saturation": saturation,
    "solarize": solarize,
    "posterize": posterize,
    "autocontrast": autocontrast,
}


def _affine(x: Tensor, u: Tensor, spec: Augmentation, geometry: Geometry) -> Tensor:
    """Flip and affine map, by the first WEAK_NUMBERS columns of ``u``."""
    if spec.flip:
        x = torch.where(u[:, 0, None, None, None] < 0.5, x.flip(3), x)
    if not geometry.moves:
        return x
    height, width = x.shape[2:]
    right = _shift(u[:, 1], width, geometry)
    down = _shift(u[:, 2], height, geometry)
    # Sampling needs the source position of each output pixel: it inverts the map, from the shift to the shear, in
    # pixels from the centre, y down. Positive angles turn anticlockwise; positive shear moves the top to the right.
    signed = 2.0 * u[:, 3:WEAK_NUMBERS] - 1.0
    angle = signed[:, 0] * math.radians(geometry.rotate_degrees)
    size = 1.0 + signed[:, 1] * geometry.scale
    slant = signed[:, 2] * geometry.shear
    cos, sin = angle.cos() / size, angle.sin() / size
    # In the coordinates of grid_sample, -1 and 1 are the centres of the border pixels for reflection, and their outer
    # edges for zeros.
    mirrored = spec.padding == "reflection"
    unit_x, unit_y = (2.0 / (max(side - 1, 1) if mirrored else side) for side in (width, height))
    per_column_N2 = torch.stack([(cos + slant * sin) * unit_x, sin * unit_y], dim=1)
    per_row_N2 = torch.stack([(slant * cos - sin) * unit_x, cos * unit_y], dim=1)
    columns_NW = _from_middle(width, x) - right[:, None]
    rows_NH = _from_middle(height, x) - down[:, None]
    grid_NHW2 = (
        columns_NW[:, None, :, None] * per_column_N2[:, None, None]
        + rows_NH[:, :, None, None] * per_row_N2[:, None, None]
    )
    sampled = F.grid_sample(x, grid_NHW2, mode="bilinear", padding_mode=spec.padding, align_corners=mirrored)
    # Rounded weights may sum to a little more than 1.
    return _clamp(sampled)


def _shift(u_N: Tensor, side: int, geometry: Geometry) -> Tensor:
    """Return the shift along one side, in pixels."""
    if geometry.whole_pixels:
        reach = round(geometry.shift * side)
        return _uniform_to_int(u_N, 2 * reach + 1) - reach
    return (2.0 * u_N - 1.0) * (geometry.shift * side)


def _cutout(x: Tensor, u_N2: Tensor, spec: Augmentation) -> Tensor:
    """Fill a square around any pixel: Cutout."""
    height, width = x.shape[2:]
    side = round(spec.cutout * min(height, width))
    if side == 0:
        return x
    left_N1 = _uniform_to_int(u_N2[:, :1], width) - side // 2
    top_N1 = _uniform_to_int(u_N2[:, 1:], height) - side // 2
    columns_W, rows_H = (torch.arange(length, device=x.device) for length in (width, height))
    across_NW = (columns_W >= left_N1) & (columns_W < left_N1 + side)
    down_NH = (rows_H >= top_N1) & (rows_H < top_N1 + side)
    return x.masked_fill(down_NH[:, None, :, None] & across_NW[:, None, None, :], spec.cutout_fill)


def _clamp(x: Tensor) -> Tensor:
    """Clamp to [0, 1]; gradients pass at 0 and at 1, where those of torch's clamp depend on its version.

    Exact: relu returns 0 or, without rounding, the excess.
    """
    return x + F.relu(-x) - F.relu(x - 1.0)


def _blend(x: Tensor, other: Tensor, m: Tensor) -> Tensor:
    """Blend away from ``other`` for positive ``m``, towards it for negative."""
    return x + 0.9 * m * (x - other)


def _luminance(x: Tensor) -> Tensor:
    """Return the luminance [N, 1, H, W], weighted as in ITU-R 601 and torchvision."""
    if x.shape[1] == 1:
        return x
    red, green, blue = x.split(1, dim=1)
    return 0.2989 * red + 0.587 * green + 0.114 * blue


def _uniform_to_int(u: Tensor, count: int) -> Tensor:
    """Map uniform numbers to integers 0 to ``count - 1``, each equally likely."""
    # The product with the largest number below 1 may round to count.
    return (u * count).floor().clamp_max(count - 1)


def _from_middle(side: int, like: Tensor) -> Tensor:
    """Return the positions [side] of pixels, in pixels from the centre of the image."""
    return torch.arange(side, dtype=like.dtype, device=like.device) - (side - 1) / 2


def _checked(x_NCHW: Tensor, u_NP: Tensor, numbers: int) -> tuple[Tensor, Tensor]:
    """Convert images and numbers to the type to compute in."""
    if not x_NCHW.is_floating_point() or x_NCHW.dim() != 4 or x_NCHW.shape[1] not in (1, 3) or 0 in x_NCHW.shape[2:]:
        raise ValueError(
            f"images are {x_NCHW.dtype} {list(x_NCHW.shape)}, but must be floats [N, C, H, W] with 1 or 3 channels"
        )
    if not u_NP.is_floating_point() or u_NP.shape != (x_NCHW.shape[0], numbers):
        raise ValueError(
            f"uniform numbers are {u_NP.dtype} {list(u_NP.shape)}, but must be floats [{x_NCHW.shape[0]}, {numbers}]"
        )
    dtype = torch.float32 if x_NCHW.dtype in (torch.float16, torch.bfloat16) else x_NCHW.dtype
    return x_NCHW.to(dtype), u_NP.to(dtype)
