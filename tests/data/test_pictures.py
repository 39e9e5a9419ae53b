"""Decoding, resizing, conversion to tensors and back, saving, sheets."""

from __future__ import annotations

import numpy as np
import png
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from ganengine.data import pictures
from ganengine.data.dataset import BadPictureError
from ganengine.data.headers import read_header
from ganengine.data.pictures import (
    fit_picture,
    read_picture,
    resize_picture,
    save_picture,
    sheet,
    to_tensor,
    to_uint8,
)
from ganengine.errors import UserError

RED = (255, 0, 0)

MODES = [  # picture, suffix, expected pixel, dtype, channels of the header, alpha of the header
    (Image.new("1", (5, 4), 1), ".png", [255], "uint8", 1, False),
    (Image.new("L", (5, 4), 51), ".png", [51], "uint8", 1, False),
    (Image.new("LA", (5, 4), (51, 255)), ".png", [51], "uint8", 1, True),
    (Image.new("LA", (5, 4), (0, 51)), ".png", [204], "uint8", 1, True),
    (Image.new("RGB", (5, 4), RED).convert("P"), ".png", [255, 0, 0], "uint8", 3, False),
    (Image.new("RGB", (5, 4), RED).convert("P"), ".gif", [255, 0, 0], "uint8", 3, False),
    (Image.new("RGB", (5, 4), (1, 2, 3)), ".png", [1, 2, 3], "uint8", 3, False),
    (Image.new("RGB", (5, 4), (1, 2, 3)), ".bmp", [1, 2, 3], "uint8", 3, False),
    (Image.new("RGB", (5, 4), (1, 2, 3)), ".ppm", [1, 2, 3], "uint8", 3, False),
    (Image.new("RGBA", (5, 4), (255, 0, 0, 51)), ".png", [255, 204, 204], "uint8", 3, True),
    (Image.new("RGBA", (5, 4), (9, 9, 9, 0)), ".webp", [255, 255, 255], "uint8", 3, True),
    (Image.new("CMYK", (5, 4), (0, 255, 255, 0)), ".tif", [255, 0, 0], "uint8", 3, False),
    (Image.fromarray(np.full((4, 5), 13107, np.uint16)), ".png", [0.2], "float32", 1, False),
    (Image.fromarray(np.full((4, 5), 13107, np.int32)), ".tif", [0.2], "float32", 1, False),
    (Image.fromarray(np.full((4, 5), 0.2, np.float32)), ".tiff", [0.2], "float32", 1, False),
    (Image.fromarray(np.full((4, 5), 51, np.float32)), ".tiff", [0.2], "float32", 1, False),
]


@pytest.mark.parametrize(("picture", "suffix", "pixel", "dtype", "colours", "alpha"), MODES)
def test_modes(tmp_path, picture, suffix, pixel, dtype, colours, alpha):
    path = tmp_path / f"x{suffix}"
    picture.save(path)
    array = read_picture(path)
    assert array.shape == (4, 5, len(pixel))
    assert array.dtype == dtype
    np.testing.assert_allclose(array, np.broadcast_to(np.array(pixel, dtype), array.shape), rtol=1e-6)
    header = read_header(path)
    assert (header.size, header.colours, header.alpha) == ("5x4", colours, alpha)


DEEP = (0, 255, 256, 0x80FF, 0xFF00, 0xFFFF)


@pytest.mark.parametrize(
    ("kind", "expected", "colours"),
    [
        ({"greyscale": True}, np.array(DEEP) / 65535, 1),
        # Pillow's reading: the upper 8 bits.
        ({"greyscale": False}, np.array(DEEP) >> 8, 3),
        ({"greyscale": False, "alpha": True}, np.array(DEEP) >> 8, 4),
    ],
)
def test_png_of_16_bits_have_their_full_range(tmp_path, kind, expected, colours):
    rows = np.repeat(np.array(DEEP, np.uint16), colours)[None]
    with (tmp_path / "x.png").open("wb") as file:
        png.Writer(len(DEEP), 1, bitdepth=16, **kind).write(file, rows.tolist())
    array = read_picture(tmp_path / "x.png", alpha="keep")
    assert array.dtype == (np.float32 if colours == 1 else np.uint8)
    np.testing.assert_allclose(array, np.repeat(expected[None, :, None], colours, 2), rtol=1e-6)


@pytest.mark.parametrize(("alpha", "pixels"), [("white", [[0.2], [1.0]]), ("keep", [[0.2, 1.0], [0.4, 0.0]])])
def test_the_transparent_grey_of_16_bits_is_transparency(tmp_path, alpha, pixels):
    with (tmp_path / "x.png").open("wb") as file:
        png.Writer(2, 1, greyscale=True, bitdepth=16, transparent=26214).write(file, [[13107, 26214]])
    assert read_header(tmp_path / "x.png").alpha
    np.testing.assert_allclose(read_picture(tmp_path / "x.png", alpha=alpha)[0], pixels, rtol=1e-6)


def test_jpeg_of_cmyk_and_grey(tmp_path):
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "c.jpg")
    Image.new("L", (8, 8), 100).save(tmp_path / "g.jpeg")
    assert np.abs(read_picture(tmp_path / "c.jpg").astype(int) - RED).max() <= 3
    assert np.abs(read_picture(tmp_path / "g.jpeg").astype(int) - 100).max() <= 2


@pytest.mark.parametrize(
    ("alpha", "channels", "pixel"),
    [
        ("white", None, [255, 204, 204]),
        ("black", None, [51, 0, 0]),
        ("keep", None, [255, 0, 0, 51]),
        ("keep", 4, [255, 0, 0, 51]),
        ("keep", 2, [76, 51]),  # 0.299 * 255 = 76.2
        ("keep", 3, [255, 204, 204]),
        ("black", 1, [15]),  # 0.299 * 51 = 15.2
    ],
)
def test_alpha_and_channels(tmp_path, alpha, channels, pixel):
    Image.new("RGBA", (3, 2), (255, 0, 0, 51)).save(tmp_path / "x.png")
    assert read_picture(tmp_path / "x.png", alpha=alpha, channels=channels)[0, 0].tolist() == pixel


@pytest.mark.parametrize(
    ("alpha", "channels", "pixel"), [("white", 3, [7, 7, 7]), ("keep", 2, [7, 255]), ("keep", 4, [7, 7, 7, 255])]
)
def test_grey_becomes_what_is_asked(tmp_path, alpha, channels, pixel):
    Image.new("L", (3, 2), 7).save(tmp_path / "x.png")
    assert read_picture(tmp_path / "x.png", alpha=alpha, channels=channels)[0, 0].tolist() == pixel


def test_a_transparent_colour_of_a_palette_is_transparency(tmp_path):
    picture = Image.new("P", (3, 2), 0)
    picture.putpalette([255, 0, 0])
    picture.save(tmp_path / "x.png", transparency=0)
    assert read_header(tmp_path / "x.png").alpha
    assert read_picture(tmp_path / "x.png")[0, 0].tolist() == [255, 255, 255]


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation(tmp_path, suffix, orientation):
    # Four blocks of grey, so that each of the eight turns is another picture; blocks survive lossy formats.
    blocks = np.array([[10, 80, 130], [180, 220, 250]], np.uint8).repeat(16, 0).repeat(16, 1)
    stored = {  # what the eight values mean: Exif 2.3, tag 274: position of row 0 and column 0 of what is stored
        1: blocks,
        2: blocks[:, ::-1],
        3: blocks[::-1, ::-1],
        4: blocks[::-1],
        5: blocks.T,
        6: blocks.T[::-1],  # shown turned clockwise
        7: blocks.T[::-1, ::-1],
        8: blocks.T[:, ::-1],
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"x{suffix}"
    Image.fromarray(np.ascontiguousarray(stored)).convert("RGB").save(path, exif=exif.tobytes())
    header = read_header(path)
    assert (header.width, header.height) == (48, 32)
    array = read_picture(path, channels=1)[:, :, 0]
    assert np.abs(array[8::16, 8::16].astype(int) - blocks[8::16, 8::16]).max() <= 3


def test_the_first_frame_of_an_animation(tmp_path):
    frames = [Image.new("RGB", (4, 4), colour) for colour in (RED, (0, 0, 255))]
    frames[0].save(tmp_path / "x.gif", save_all=True, append_images=frames[1:])
    assert read_picture(tmp_path / "x.gif")[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize(
    ("array", "shape", "first"),
    [
        (np.full((4, 5), 51, np.uint8), (4, 5, 1), 51),
        (np.full((4, 5, 7), 51, np.uint8), (4, 5, 7), 51),
        (np.full((4, 5, 2), 13107, np.uint16), (4, 5, 2), 0.2),
        (np.full((4, 5, 3), 0.2, np.float64), (4, 5, 3), 0.2),
    ],
)
def test_arrays_of_any_number_of_channels(tmp_path, array, shape, first):
    np.save(tmp_path / "x.npy", array)
    read = read_picture(tmp_path / "x.npy")
    assert read.shape == shape
    assert read[0, 0, 0] == pytest.approx(first, rel=1e-6)
    assert read_header(tmp_path / "x.npy").colours == shape[2]


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((3, 64, 64), np.uint8), "transpose it"),
        (np.zeros(4, np.uint8), r"expected an array \[H, W\].*; reshape it"),
        (np.zeros((0, 20, 3), np.uint8), r"got \[0, 20, 3\]; it is empty"),
        (np.zeros((0, 20), np.uint8), r"got \[0, 20, 1\]; it is empty"),
        (np.zeros((4, 4), np.int64), "got int64"),
        (np.full((4, 4), -1.0, np.float32), "got -1 to -1"),
        (np.full((4, 4), np.nan, np.float32), "got nan"),
        (np.full((4, 4), np.inf, np.float32), "got inf"),
    ],
)
def test_arrays_that_are_no_pictures(tmp_path, array, message):
    np.save(tmp_path / "x.npy", array)
    with pytest.raises(BadPictureError, match=message):
        read_picture(tmp_path / "x.npy")


@pytest.mark.parametrize("suffix", [".tif", ".png"])
def test_deep_grey_keeps_its_depth_when_turned(tmp_path, suffix):
    levels = np.arange(6, dtype=np.uint16).reshape(2, 3) * 13107
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.fromarray(np.ascontiguousarray(levels[::-1, ::-1])).save(tmp_path / f"x{suffix}", exif=exif.tobytes())
    read = read_picture(tmp_path / f"x{suffix}")[:, :, 0]
    np.testing.assert_allclose(read, levels / 65535, rtol=1e-6)


def test_an_array_with_too_many_pixels_is_a_bomb(tmp_path, monkeypatch):
    np.save(tmp_path / "x.npy", np.zeros((10, 10), np.uint8))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 99)
    with pytest.raises(BadPictureError, match="more than 99 pixels"):
        read_header(tmp_path / "x.npy")


def test_contents_that_were_read_before_are_not_read_again(paint):
    path = paint("x.png")
    pixels, contents = read_picture(path), path.read_bytes()
    path.unlink()
    assert np.array_equal(read_picture(path, data=contents), pixels)


def test_damaged_files_are_named(tmp_path, paint, truncate):
    cut = paint("cut.png", 64, 64)
    truncate(cut)
    text = tmp_path / "text.png"
    text.write_text("no picture")
    empty = tmp_path / "empty.jpg"
    empty.touch()
    array = tmp_path / "x.npy"
    array.write_bytes(b"\x93NUMPY")
    read_header(cut)  # the header is whole
    for path, reason in [
        (cut, "damaged or cut off"),
        (text, "this is no picture"),
        (empty, "the file is empty"),
        (array, "no .npy array"),
        (tmp_path / "none.png", "no such file"),
    ]:
        with pytest.raises(BadPictureError, match=reason) as caught:
            read_picture(path)
        assert caught.value.path == str(path)
        assert str(path) in str(caught.value)


@pytest.mark.parametrize("pixels", [40, 60])  # pillow warns of the first and refuses the second
def test_decompression_bombs_are_named(paint, monkeypatch, pixels):
    path = paint("bomb.png", pixels, 1)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 25)
    with pytest.raises(BadPictureError, match=r"bomb\.png: more than 25 pixels"):
        read_picture(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", pixels)
    assert read_picture(path).shape == (1, pixels, 3)


def test_channels_that_cannot_be_given(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((4, 4, 5), np.uint8))
    with pytest.raises(BadPictureError, match="expected 3 channels, got 5"):
        read_picture(tmp_path / "x.npy", channels=3)


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_resize_keeps_uniform_pictures(channels, dtype):
    level = np.array([10 * (c + 1) for c in range(channels)])
    array = np.broadcast_to(level if dtype == "uint8" else level / 255, (9, 12, channels)).astype(dtype)
    small = resize_picture(array, 5, 4)
    assert small.dtype == dtype
    np.testing.assert_allclose(small, np.broadcast_to(array[0, 0], (4, 5, channels)), rtol=1e-5)


def test_resize_averages_and_stays_in_range():
    checker = (np.indices((64, 64)).sum(0) % 2).astype(np.float32)[:, :, None]
    assert resize_picture(checker, 8, 8)[1:-1, 1:-1] == pytest.approx(0.5, abs=0.05)
    step = np.zeros((8, 8, 2), np.float32)
    step[:, 4:] = 1
    large = resize_picture(step, 64, 64)
    assert large.min() == 0
    assert large.max() == 1


def test_what_is_transparent_does_not_bleed_into_colours():
    array = np.zeros((8, 8, 4), np.uint8)  # left: transparent black; right: opaque red
    array[:, 4:] = (255, 0, 0, 255)
    small = resize_picture(array, 3, 3, alpha=True)
    shown = small[small[..., 3] > 32]
    assert 0 < small[1, 1, 3] < 255
    assert shown[:, 0].min() >= 250


@pytest.mark.parametrize(
    ("width", "height", "resize", "shape"),
    [(20, 10, "stretch", (8, 8)), (20, 10, "crop", (8, 16)), (10, 25, "crop", (20, 8)), (8, 8, "crop", (8, 8))],
)
def test_fit(width, height, resize, shape):
    assert fit_picture(np.zeros((height, width, 3), np.uint8), 8, resize).shape[:2] == shape


def test_to_tensor_of_known_pixels():
    array = np.array([[[0, 51, 255]]], np.uint8)
    assert to_tensor(array)[:, 0, 0].tolist() == pytest.approx([-1, -0.6, 1])
    assert to_tensor(np.array([[[0, 0.25, 1]]], np.float32))[:, 0, 0].tolist() == [-1, -0.5, 1]


def test_every_level_comes_back():
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
    assert np.array_equal(to_uint8(to_tensor(levels)), levels)


@pytest.mark.parametrize(
    ("value", "level"),
    [(-1, 0), (1, 255), (0, 128), (-5, 0), (5, 255), (float("nan"), 0), (float("inf"), 255), (-0.996, 1), (-0.997, 0)],
)
def test_to_uint8_rounds_half_up_after_clamping(value, level):
    # 0 is exactly half way between 127 and 128; -0.996 is 0.51 of a level, -0.997 is 0.38.
    assert to_uint8(torch.full((1, 1, 1), value)).item() == level


@given(arrays.arrays(np.uint8, arrays.array_shapes(min_dims=3, max_dims=3, max_side=6)))
def test_uint8_round_trip(array):
    assert np.array_equal(to_uint8(to_tensor(array)), array)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_save_and_read_again(tmp_path, channels):
    array = np.random.default_rng(0).integers(0, 256, (6, 5, channels), dtype=np.uint8)
    path = tmp_path / "new" / "x.png"
    save_picture(path, array)
    assert np.array_equal(read_picture(path, alpha="keep"), array)
    assert [p.name for p in path.parent.iterdir()] == ["x.png"]


def test_save_of_many_channels(tmp_path):
    array = np.zeros((4, 4, 6), np.uint8)
    with pytest.raises(UserError, match=r"1 to 4 channels, got 6. Save it as .npy"):
        save_picture(tmp_path / "x.png", array)
    with pytest.raises(UserError, match="suffix"):
        save_picture(tmp_path / "x.jqg", array)
    assert not list(tmp_path.iterdir())
    save_picture(tmp_path / "x.npy", array)
    assert read_picture(tmp_path / "x.npy").shape == (4, 4, 6)


def test_a_save_that_fails_leaves_the_old_picture_and_nothing_else(tmp_path, monkeypatch):
    save_picture(tmp_path / "x.png", np.zeros((2, 2, 1), np.uint8))

    def fail(self, path, **options):
        path.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(Image.Image, "save", fail)
    with pytest.raises(OSError, match="disk full"):
        save_picture(tmp_path / "x.png", np.ones((2, 2, 1), np.uint8))
    assert [p.name for p in tmp_path.iterdir()] == ["x.png"]
    assert read_picture(tmp_path / "x.png").max() == 0


def level(value: float, channels: int = 1, n: int = 1, side: int = 2) -> torch.Tensor:
    return torch.full((n, channels, side, side), value)


def test_a_sheet_is_a_grid_with_a_white_border():
    page = sheet(torch.cat([level(-1.0), level(0.0), level(-0.6)]), columns=2, margin=1)
    w, a, b, c = 255, 0, 128, 51
    assert page[:, :, 0].tolist() == [
        [w, w, w, w, w, w, w],
        [w, a, a, w, b, b, w],
        [w, a, a, w, b, b, w],
        [w, w, w, w, w, w, w],
        [w, c, c, w, w, w, w],
        [w, c, c, w, w, w, w],
        [w, w, w, w, w, w, w],
    ]


@pytest.mark.parametrize(("n", "shape"), [(1, (4, 4)), (4, (7, 7)), (5, (7, 10)), (9, (10, 10))])
def test_a_grid_is_nearly_square(n, shape):
    assert sheet(level(0.0, n=n), margin=1).shape[:2] == shape


def test_a_sheet_of_columns_has_a_row_for_each_sample():
    columns = {"input": torch.cat([level(-1.0), level(-0.6)]), "output": torch.cat([level(0.0), level(0.2)])}
    page = sheet(columns, margin=1)
    assert page[1::3, 1::3, 0].tolist() == [[0, 128], [51, 153]]
    assert np.array_equal(page, sheet(list(columns.values()), margin=1))
    assert np.array_equal(sheet({"only": level(0.0, n=4)}), sheet(level(0.0, n=4)))


def test_a_sheet_of_unequal_columns():
    clear = torch.cat([level(-1.0, 3), level(-1.0)], dim=1)  # black, fully transparent
    page = sheet([level(0.0), level(-1.0, 3, side=4), clear, level(-0.6, 6)], margin=0)
    assert page.shape == (4, 16, 3)
    assert page[:, 0].tolist() == [[255] * 3] * 4  # the small picture is in the middle of its cell
    assert page[1, 1].tolist() == [128] * 3
    assert page[0, 4].tolist() == [0] * 3
    assert page[1, 9].tolist() == [255] * 3
    assert page[1, 13].tolist() == [51] * 3


@given(st.integers(0, 4), st.integers(1, 7), st.integers(1, 3))
def test_a_sheet_holds_every_picture(margin, n, columns):
    page = sheet(torch.full((n, 1, 3, 5), -1.0), columns=columns, margin=margin)
    assert (page == 0).sum() == n * 15


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 7])
def test_mirrored(channels, dtype):
    array = np.arange(4 * 5 * channels).reshape(4, 5, channels).astype(dtype)
    kept = array.copy()
    for view in (array, array[1:3, 1:4]):  # a crop is a view
        mirrored = pictures.mirrored(view)
        assert np.array_equal(mirrored, view[:, ::-1])
        assert mirrored.flags.c_contiguous
        assert mirrored.dtype == dtype
    assert np.array_equal(array, kept)
