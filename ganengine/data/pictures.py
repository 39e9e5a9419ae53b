"""Decode, resize, convert and save pictures, and lay them out on a sheet."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from PIL import Image

from ganengine.data.archives import File, Member
from ganengine.data.dataset import BadPictureError
from ganengine.data.headers import has_alpha, open_array, open_picture, orientation
from ganengine.data.options import Alpha
from ganengine.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What undoes each EXIF orientation (Exif 2.3, tag 274)."""
LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in grey (Rec. ITU-R BT.601)."""


# ----------------------------------------------------------------------------------------------------------------
# Reading


def read_picture(
    path: str | os.PathLike[str] | Member,
    *,
    alpha: Alpha = "white",
    channels: int | None = None,
    data: bytes | None = None,
) -> np.ndarray:
    """Decode a picture, turned upright as its EXIF says; of an animation the first frame.

    Args:
        path: a picture, or an array `.npy` [H, W] or [H, W, C] of uint8, uint16 or float.
        alpha: what to put transparency on; "keep" makes it the last channel.
        channels: give so many channels: grey is repeated, colour becomes grey (Rec. 601), a missing alpha channel is
            opaque. None: as the picture has them.
        data: the file's contents, where they have been read already; `path` then only names it.

    Returns:
        [H, W, C], uint8; where 8 bits do not hold the picture float32 in [0, 1]: 16 bits are divided by 65535, floats
        by 1, 255 or 65535, the least of these that is not below their maximum.

    Raises:
        BadPictureError: it is damaged, its numbers are out of range, it cannot be given `channels` channels, or it is
            larger than pillow's bound against decompression bombs.
    """
    path = path if isinstance(path, Member) else Path(path)
    if data is None and isinstance(path, Member):
        data = path.read_bytes()  # at once: a decoder that jumps back would unpack it again each time
    if path.suffix.lower() == ".npy":
        pixels, cover = _scaled(path, np.array(open_array(path, data))), None
    else:
        pixels, cover = decode_picture(path, data)
    return joined(path, pixels, cover, alpha, channels)


def joined(
    path: File, pixels: np.ndarray, cover: np.ndarray | None, alpha: Alpha, channels: int | None = None
) -> np.ndarray:
    """Return colour and its alpha as one picture, as `read_picture` does; both uint8 or both float32 in [0, 1]."""
    if cover is not None and (alpha != "keep" or channels in (1, 3)):  # no room to keep it: on white
        pixels, cover = _on_ground(pixels, cover, 0 if alpha == "black" else 255), None
    return _with_channels(path, pixels, cover, channels, alpha)


def decode_picture(path: File, data: bytes | None = None) -> tuple[np.ndarray, np.ndarray | None]:
    """Return colour [H, W, 1 or 3] and alpha [H, W, 1] or None; arguments, numbers and errors as of `read_picture`."""
    with open_picture(path, data) as picture:
        turn = TURNS.get(orientation(picture))
        try:
            picture.load()
            upright = picture if turn is None else picture.transpose(turn)
            if upright.mode.startswith(("I", "F")):
                numbers = np.asarray(upright)[:, :, None]
                clear = picture.info.get("transparency")  # the one grey of a PNG that is transparent
                return _scaled(path, numbers), None if clear is None else (numbers != clear).astype(np.float32)
            grey = upright.mode in ("1", "L", "LA", "La")
            if has_alpha(picture):
                array = np.asarray(upright.convert("LA" if grey else "RGBA"))
                return array[:, :, :-1], array[:, :, -1:]
            array = np.asarray(upright.convert("L" if grey else "RGB"))
        except BadPictureError:
            raise
        except Exception as error:  # a decoder may raise anything on damaged bytes, and not every mode converts
            raise BadPictureError(str(path), f"damaged or cut off ({error})") from error
        return array.reshape(*array.shape[:2], -1), None


def _scaled(path: File, array: np.ndarray) -> np.ndarray:
    """Return uint8 as it is, and all else as float32 in [0, 1]."""
    if array.dtype == np.uint8:
        return array
    low, high = float(array.min()), float(array.max())
    if not (low >= 0 and high <= 65535):  # also where one is NaN
        raise BadPictureError(
            str(path), f"expected numbers from 0 to 1, 255 or 65535, got {low:g} to {high:g}; scale them"
        )
    scale = 65535.0
    if array.dtype.kind == "f":
        scale = 1.0 if high <= 1 else 255.0 if high <= 255 else 65535.0
    scaled: np.ndarray = (array / np.float32(scale)).astype(np.float32)
    return scaled


def _on_ground(pixels: np.ndarray, cover: np.ndarray, ground: int) -> np.ndarray:
    """Composite pixels on a uniform ground: (pixel a + ground (255 - a)) / 255 of uint8, rounded; a of 1 for floats."""
    if pixels.dtype != np.uint8:
        mixed: np.ndarray = pixels * cover + np.float32(ground / 255) * (1 - cover)
        return mixed
    a = cover.astype(np.uint16)  # 255 * 255 + 127 fits into 16 bits
    return ((pixels * a + ground * (255 - a) + 127) // 255).astype(np.uint8)


def _with_channels(
    path: File, pixels: np.ndarray, cover: np.ndarray | None, channels: int | None, alpha: Alpha
) -> np.ndarray:
    have = pixels.shape[2]
    wanted = have + (cover is not None) if channels is None else channels
    colours = wanted
    if cover is not None or (alpha == "keep" and wanted in (2, 4) and have in (1, 3)):
        colours = wanted - 1
        cover = np.full_like(pixels[:, :, :1], 1 if pixels.dtype.kind == "f" else 255) if cover is None else cover
    if have == 1 and colours == 3:
        pixels = np.repeat(pixels, 3, axis=2)
    elif have == 3 and colours == 1:
        grey = (pixels @ np.array(LUMA, np.float32))[:, :, None]
        pixels = np.floor(grey + 0.5).astype(np.uint8) if pixels.dtype == np.uint8 else grey.astype(np.float32)
    elif have != colours:
        raise BadPictureError(str(path), f"expected {wanted} channels, got {have + (cover is not None)}")
    return pixels if cover is None else np.concatenate([pixels, cover], axis=2)


def resize_picture(array: np.ndarray, width: int, height: int, *, alpha: bool = False) -> np.ndarray:
    """Resize by pillow's bicubic filter, which averages where it makes smaller.

    Args:
        array: [H, W, C], uint8, or float32 in [0, 1].
        width, height: pixels.
        alpha: the last channel is transparency: what is transparent does not bleed into the colours.
    """
    if array.shape[:2] == (height, width):
        return array
    scaled = _by_pillow(
        array, lambda picture: picture.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=3.0), alpha
    )  # fmt: skip
    return scaled if scaled.dtype == np.uint8 else scaled.clip(0, 1)  # bicubic overshoots; uint8 clips by itself


def reduce_picture(array: np.ndarray, factor: int, *, alpha: bool = False) -> np.ndarray:
    """Make a picture smaller by a whole factor: the mean of factor x factor pixels each.

    Made smaller twice it is what the product of the factors gives, but for rounding.

    Args:
        array: [H, W, C], uint8, or float32 in [0, 1]; rows and columns beyond the last whole block are averaged alone.
        factor: 1 or more.
        alpha: the last channel is transparency, as in `resize_picture`.
    """
    return array if factor == 1 else _by_pillow(array, lambda picture: picture.reduce(factor), alpha)


def _by_pillow(array: np.ndarray, change: Callable[[Image.Image], Image.Image], alpha: bool) -> np.ndarray:
    """Change all channels of a picture alike; with `alpha` what is transparent does not bleed into the colours."""
    channels = array.shape[2]
    if array.dtype == np.uint8 and (channels == 3 or (alpha and channels in (2, 4))):
        # Pillow changes the modes LA and RGBA with colours multiplied by alpha.
        return np.asarray(change(Image.fromarray(np.ascontiguousarray(array))))
    planes = [change(Image.fromarray(np.ascontiguousarray(array[:, :, c]))) for c in range(channels)]
    return np.stack([np.asarray(plane) for plane in planes], axis=2)


def mirrored(array: np.ndarray) -> np.ndarray:
    """Return a picture [H, W, C] with left and right exchanged, in memory of its own."""
    out = np.empty_like(array, order="C")
    for channel in range(array.shape[2]):  # numpy copies single numbers backwards five times as fast as groups of them
        out[:, :, channel] = array[:, ::-1, channel]
    return out


def fit_picture(array: np.ndarray, size: int, resize: str, *, alpha: bool = False) -> np.ndarray:
    """Resize to `size` x `size` ("stretch"), or so that the shorter side is `size` ("crop")."""
    height, width = array.shape[:2]
    if resize == "stretch":
        return resize_picture(array, size, size, alpha=alpha)
    short = min(height, width)
    return resize_picture(array, round(width * size / short), round(height * size / short), alpha=alpha)


# ----------------------------------------------------------------------------------------------------------------
# Between arrays and tensors


def to_tensor(array: np.ndarray) -> Tensor:
    """Return a picture as [C, H, W], float32, in [-1, 1]: x / 127.5 - 1 of uint8, 2 x - 1 of floats in [0, 1].

    Args:
        array: [H, W, C], uint8, or float32 in [0, 1].
    """
    import torch  # here, so that looking at data needs no torch

    return torch.from_numpy(to_signed(array, np.empty((array.shape[2], *array.shape[:2]), np.float32)))


def to_signed(array: np.ndarray, out: np.ndarray) -> np.ndarray:
    """Write pixels [..., H, W, C] into `out` [..., C, H, W], float32, scaled to [-1, 1], and return it."""
    out[...] = np.moveaxis(array, -1, -3)
    if array.dtype == np.uint8:
        out /= 127.5
    else:
        out *= 2
    out -= 1
    return out


def to_uint8(tensor: Tensor) -> np.ndarray:
    """Return pictures in [-1, 1] as uint8: `to_levels` with 8 bits. `to_uint8(to_tensor(a))` is `a`."""
    return to_levels(tensor, 8)


def to_levels(tensor: Tensor, bits: Literal[8, 16]) -> np.ndarray:
    """Return pictures in [-1, 1] as integers: floor(m (x + 1) / 2 + 0.5) of x clamped, m = 2^bits - 1.

    Halves are rounded up. Gradients: none; the tensor is detached and brought to the host.

    Args:
        tensor: [C, H, W] or [N, C, H, W], any float type; NaN becomes 0.
        bits: 8 gives uint8, 16 uint16.

    Returns:
        [H, W, C] or [N, H, W, C].
    """
    x = tensor.detach().float().nan_to_num(-1.0, 1.0, -1.0).clamp(-1, 1)  # sync: pixels are wanted on the host
    scaled: np.ndarray = ((x + 1) * ((2**bits - 1) / 2) + 0.5).floor().movedim(-3, -1).cpu().numpy()
    return np.ascontiguousarray(scaled.astype(np.uint8 if bits == 8 else np.uint16))


# ----------------------------------------------------------------------------------------------------------------
# Writing


def save_picture(path: str | os.PathLike[str], array: np.ndarray) -> None:
    """Write a picture whole or not at all: under a temporary name first, then renamed. Folders are made.

    Args:
        path: its suffix is the format; `.npy` takes any number of channels.
        array: [H, W, C], uint8, C of 1 (grey), 2 (grey, alpha), 3 (colour) or 4 (colour, alpha).

    Raises:
        UserError: no picture format holds so many channels, or pillow does not know the suffix.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix == ".npy":
        picture = None
    elif suffix not in Image.registered_extensions():
        raise UserError(f"{path}: expected a suffix such as .png, .jpg or .npy.")
    elif array.shape[2] not in (1, 2, 3, 4):
        raise UserError(f"{path}: pictures have 1 to 4 channels, got {array.shape[2]}. Save it as .npy.")
    else:
        picture = Image.fromarray(np.ascontiguousarray(array[:, :, 0] if array.shape[2] == 1 else array))
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        if picture is None:
            np.save(temporary, array)
        else:
            picture.save(temporary)
        os.replace(temporary, path)
    except OSError as error:
        # A full disk is told of without a name.
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)


def sheet(
    pictures: Tensor | Mapping[str, Tensor] | Sequence[Tensor],
    *,
    columns: int | None = None,
    margin: int = 2,
) -> np.ndarray:
    """Lay pictures out on white: one tensor as a grid, several as columns with a row for each sample.

    Args:
        pictures: [N, C, H, W] in [-1, 1], or several of these (by name or in order) with equal N. Sizes and channels
            may differ: smaller pictures are put in the middle of their cell, grey ones become colour where others are,
            transparency is put on white, and of more than four channels the first three are shown.
        columns: of a grid; None: as near to a square as N allows.
        margin: white pixels around and between pictures.

    Returns:
        [H, W, 1 or 3], uint8.
    """
    if isinstance(pictures, Mapping):
        pictures = list(pictures.values())
    stacks = [_visible(to_uint8(tensor)) for tensor in (pictures if isinstance(pictures, Sequence) else [pictures])]
    if len(stacks) == 1:
        cells = list(stacks[0])
        columns = columns or max(1, math.ceil(math.sqrt(len(cells))))
    else:
        cells = [picture for row in zip(*stacks, strict=True) for picture in row]
        columns = len(stacks)
    height = max(stack.shape[1] for stack in stacks)
    width = max(stack.shape[2] for stack in stacks)
    colours = max(stack.shape[3] for stack in stacks)
    rows = math.ceil(len(cells) / columns)
    page = np.full((margin + rows * (height + margin), margin + columns * (width + margin), colours), 255, np.uint8)
    for place, cell in enumerate(cells):
        row, column = divmod(place, columns)
        top = margin + row * (height + margin) + (height - cell.shape[0]) // 2
        left = margin + column * (width + margin) + (width - cell.shape[1]) // 2
        page[top : top + cell.shape[0], left : left + cell.shape[1]] = cell
    return page


def _visible(stack: np.ndarray) -> np.ndarray:
    """Return [N, H, W, C] as grey or colour."""
    channels = stack.shape[3]
    if channels in (2, 4):
        return _on_ground(stack[..., :-1], stack[..., -1:], 255)
    return stack[..., :3] if channels > 3 else stack
