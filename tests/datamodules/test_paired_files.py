"""Decoding of pictures and masks: resizing by area, conversions, and files that are refused by name."""

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules import DatasetCorruptError
from datamodules.segmentation.paired_files import IGNORE, PairFiles, read_pairs, resize_mask

LEVELS = np.random.default_rng(0).integers(0, 256, (30, 40), dtype=np.uint8)


def save(path, pixels, mode=None, **options):
    picture = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    (picture.convert(mode) if mode else picture).save(path, **options)
    return path


@pytest.fixture
def read(tmp_path):
    def read(image=LEVELS, *masks, size=8, channels=1, labels=2):
        files = PairFiles(
            "one",
            image if not isinstance(image, np.ndarray) else save(tmp_path / "image.png", image),
            tuple(save(tmp_path / f"mask{i}.png", m) if isinstance(m, np.ndarray) else m for i, m in enumerate(masks)),
        )
        return read_pairs([files], size, channels, labels)[0]

    return read


def refused(message, read, *what, **options):
    with pytest.raises(DatasetCorruptError, match=message):
        read(*what, **options)


def by_area(mask, size):
    """Majority label by brute force: every pixel is repeated so often that old and new borders coincide."""
    fine = mask.repeat(size, 0).repeat(size, 1)  # size * height rows: height of them to a new pixel
    height, width = mask.shape
    blocks = fine.reshape(size, height, size, width).transpose(0, 2, 1, 3).reshape(size, size, -1)
    counts = np.stack([(blocks == value).sum(-1) for value in np.unique(mask)])
    return np.unique(mask)[counts.argmax(0)]


@pytest.mark.parametrize("values", [(0, 1), (0, 1, 2), (0, 1, 2, IGNORE), (0, IGNORE)])
@pytest.mark.parametrize("shape", [(16, 16), (13, 21), (5, 7), (8, 3), (1, 1)])
def test_masks_are_resized_by_the_majority_of_the_area(shape, values):
    mask = np.random.default_rng(1).choice(np.array(values, np.uint8), shape)
    for size in (1, 4, 8, 11):
        result = resize_mask(mask, size)
        assert result.dtype == np.uint8
        assert np.array_equal(result, by_area(mask, size))


def test_binary_masks_are_the_mean_with_a_threshold():
    mask = (np.random.default_rng(2).random((64, 64)) < 0.5).astype(np.uint8)
    means = torch.nn.functional.avg_pool2d(torch.from_numpy(mask)[None].float(), 4)[0].numpy()
    assert (means == 0.5).any()
    assert np.array_equal(resize_mask(mask, 16), means > 0.5)
    assert resize_mask(mask, 64) is mask


def test_images_are_antialiased_and_squeezed(read):
    stripes = np.tile(np.array([0, 255], np.uint8), (30, 20))
    pair = read(stripes, np.zeros((30, 40), np.uint8), size=10)
    assert pair.image.shape == (1, 10, 10)
    assert abs(pair.image.astype(int) - 127.5).max() < 20  # not a picked stripe
    assert pair.stored == (40, 30)
    assert pair.thumbnail.shape == (64 * 64,)


def test_the_union_of_masks_and_its_share(read):
    first, second = np.zeros((2, 30, 40), np.uint8)
    first[:, :10], second[:15, 5:20] = 255, 255
    pair = read(LEVELS, first, second, size=40)
    united = np.maximum(first, second) > 0
    assert pair.foreground == pytest.approx(united.mean())
    assert np.array_equal(pair.mask, resize_mask(united.astype(np.uint8), 40))


def test_what_masks_may_look_like(read, tmp_path):
    truth = (LEVELS > 100).astype(np.uint8)
    forms = {
        "255": truth * 255,
        "1": truth,
        "jpeg noise": np.where(truth, 250, 3).astype(np.uint8),
        "one bit": save(tmp_path / "bit.png", truth * 255, "1"),
        "colours": save(tmp_path / "rgb.png", truth * 255, "RGB"),
        "alpha": save(tmp_path / "alpha.png", truth * 255, "LA"),
    }
    dark_red = Image.fromarray(truth).convert("P")
    dark_red.putpalette([0, 0, 0, 120, 0, 0])
    dark_red.putdata(truth.reshape(-1).tolist())
    forms["palette"] = save(tmp_path / "palette.png", dark_red)
    expected = resize_mask(truth, 8)
    for form, mask in forms.items():
        assert np.array_equal(read(LEVELS, mask).mask, expected), form
    assert not read(LEVELS, np.zeros((30, 40), np.uint8)).mask.any()
    assert (read(LEVELS, np.full((30, 40), 255, np.uint8)).mask == 1).all()


def test_ignored_pixels_are_kept(read):
    mask = np.zeros((30, 40), np.uint8)
    mask[:, 20:], mask[15:] = 1, IGNORE
    pair = read(LEVELS, mask, size=4)
    assert pair.mask.tolist() == [[0, 0, 1, 1]] * 2 + [[IGNORE] * 4] * 2
    assert pair.foreground == 0.25
    mask[:15, 20:] = 2
    assert np.unique(read(LEVELS, mask, size=4, labels=3).mask).tolist() == [0, 2, IGNORE]


def test_alpha_is_laid_over_black_and_colour_becomes_grey(read, tmp_path):
    colours = np.stack([LEVELS, LEVELS // 2, 255 - LEVELS], -1)
    alpha = np.where(np.arange(40) < 20, 255, 0).astype(np.uint8) * np.ones((30, 1), np.uint8)
    empty = np.zeros((30, 40), np.uint8)
    half = read(save(tmp_path / "rgba.png", np.dstack([colours, alpha])), empty, size=8, channels=3)
    whole = read(save(tmp_path / "rgb.png", colours), empty, size=8, channels=3)
    assert np.array_equal(half.image[:, :, :3], whole.image[:, :, :3])
    assert not half.image[:, :, 5:].any()
    luma = colours @ np.array([0.299, 0.587, 0.114])
    grey = read(save(tmp_path / "rgb.png", colours), empty, size=1).image
    assert abs(grey.item() - luma.mean()) < 3
    assert (read(LEVELS, empty, channels=3).image == read(LEVELS, empty).image).all()


def test_16_bit_pictures_are_divided_by_257_or_refused(read, tmp_path):
    empty = np.zeros((30, 40), np.uint8)
    deep = save(tmp_path / "deep.png", LEVELS.astype(np.uint16) * 257)
    assert np.array_equal(read(deep, empty).image, read(LEVELS, empty).image)
    twelve = save(tmp_path / "twelve.png", LEVELS.astype(np.uint16) * 16)
    refused(r"twelve.png is a 16-bit picture whose largest level is \d+ of 65,5", read, twelve, empty)
    floats = save(tmp_path / "floats.tiff", LEVELS.astype(np.float32))
    refused(r"floats.tiff holds float32 numbers instead of 8 or 16 bits", read, floats, empty)


def test_what_is_refused_names_the_file(read, tmp_path):
    empty = np.zeros((30, 40), np.uint8)
    refused(r"mask0.png is 30x30, but its image .*image.png is 40x30", read, LEVELS, empty[:, :30])
    refused(r"mask0.png has values up to 76; a mask holds 0 and 1, or 0 and 255", read, LEVELS, empty + 76)
    refused(r"mask0.png has the label 3; labels are 0 to 2, and 255 to ignore", read, LEVELS, empty + 3, labels=3)
    cut = tmp_path / "cut.png"
    cut.write_bytes(save(tmp_path / "whole.png", LEVELS).read_bytes()[:300])
    (tmp_path / "text.png").write_text("no picture")
    for bad in ("cut.png", "text.png"):
        refused(f"{bad} is no readable picture", read, tmp_path / bad, empty)
        refused(f"{bad} is no readable mask", read, LEVELS, tmp_path / bad)
