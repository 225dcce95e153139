"""Pictures and masks as they are meant: the one decoder against what was drawn, and what a folder has beside them."""

import os
import warnings

import numpy as np
import pytest
from PIL import Image

from datamodules import DatasetCorruptError
from datamodules.pictures import find_pictures, read_picture, read_pictures
from datamodules.segmentation.paired_files import PairFiles, read_pairs

#: dark left half, bright right half, so that turns and mirrors show
HALVES = np.repeat([[30, 220]], 24, 0).repeat(16, 1).astype(np.uint8)
RGB = np.stack([HALVES, 255 - HALVES, HALVES // 2], -1)


def both_doors(path, channels=3):
    """The picture as classifiers and as segmentation networks get it, at its own size where it is square."""
    return np.asarray(read_picture(path, channels)[0])


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_a_camera_says_how_a_picture_is_turned(tmp_path, orientation, suffix):
    turns = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}  # Pillow's transpositions that undo what is stored
    inverse = {**turns, 6: 2, 8: 4}
    stored = Image.fromarray(HALVES)
    if orientation > 1:
        stored = stored.transpose(Image.Transpose(inverse[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"phone.{suffix}"
    stored.convert("RGB").save(path, exif=exif, quality=95)
    shown, size = read_picture(path, 1, size=8)
    assert size == (32, 24)
    assert np.abs(np.asarray(shown).astype(int) - HALVES).max() < 12
    (small,) = read_pictures([path], 24).numpy()
    assert small[:, :, :8].max() < 60
    assert small[:, :, -8:].min() > 190
    mask = tmp_path / "mask.png"
    Image.fromarray(HALVES).save(mask)  # of the shown size
    assert read_pairs([PairFiles("x", path, (mask,))], 24, 1)[0].mask.mean() == 0.5


def test_both_doors_give_what_a_viewer_shows(tmp_path):
    grey = np.tile(np.arange(0, 256, 8, dtype=np.uint8), (32, 1))
    hidden = np.dstack([RGB, np.where(np.arange(32) < 16, 255, 0).astype(np.uint8) * np.ones((24, 1), np.uint8)])
    visible = RGB * (hidden[..., 3:] > 0)
    palette = Image.fromarray(RGB).quantize(8)
    forms = {
        "deep": (Image.fromarray(grey.astype(np.uint16) * 257), grey[..., None].repeat(3, -1)),
        "one_bit": (Image.fromarray(HALVES > 100), (HALVES > 100)[..., None].repeat(3, -1) * 255),
        "hidden": (Image.fromarray(hidden.astype(np.uint8)), visible),
        "palette": (palette, np.asarray(palette.convert("RGB"))),
    }
    for name, (picture, expected) in forms.items():
        path = tmp_path / f"{name}.png"
        picture.save(path)
        assert np.array_equal(np.asarray(read_picture(path, 3)[0]), expected), name
        side = min(expected.shape[:2])
        left = (expected.shape[1] - side) // 2
        square = expected[:side, left : left + side].transpose(2, 0, 1)
        assert np.array_equal(read_pictures([path], side)[0].numpy(), square), name
    cmyk = tmp_path / "print.jpg"
    Image.fromarray(RGB).convert("CMYK").save(cmyk, quality=95)
    assert np.abs(np.asarray(read_picture(cmyk, 3)[0]).astype(int) - RGB)[:, [4, 28]].max() < 12


def test_an_animation_is_its_first_picture_and_says_so(tmp_path):
    first, second = Image.fromarray(HALVES), Image.fromarray(255 - HALVES)
    first.save(tmp_path / "moving.webp", save_all=True, append_images=[second], lossless=True)
    with pytest.warns(UserWarning, match="moving.webp has 2 pictures, the first is taken"):
        shown, _ = read_picture(tmp_path / "moving.webp", 1)
    assert np.abs(np.asarray(shown).astype(int) - HALVES).max() < 3


def test_threads_leave_the_filters_of_warnings_alone(tmp_path):
    paths = [tmp_path / f"{number}.png" for number in range(40)]
    for path in paths:
        Image.fromarray(HALVES).save(path)
    before = list(warnings.filters)
    for _ in range(20):
        read_pictures(paths)
    assert warnings.filters == before


def test_too_many_pixels_are_one_clear_line(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    path = tmp_path / "large.png"
    Image.fromarray(HALVES).save(path)
    for read in (lambda: read_picture(path, 1), lambda: read_pictures([path])):
        with pytest.raises(DatasetCorruptError, match=r"large.png is no picture .* more than 200 pixels"):
            read()
    with pytest.raises(DatasetCorruptError, match=r"large\.png is no"):
        read_pairs([PairFiles("x", path, (path,))], 8, 1)


def mask_of(path, labels=2):
    picture = path.with_name("picture.png")
    with Image.open(path) as mask:
        Image.new("L", mask.size).save(picture)
    return read_pairs([PairFiles("x", picture, (path,))], 64, 1, labels)[0].mask


def test_masks_are_what_they_show(tmp_path):
    lesion = np.zeros((64, 64), np.uint8)
    lesion[20:40, 20:40] = 1
    opaque = np.dstack([np.full_like(lesion, 255)] * 3 + [lesion * 255])
    grey_alpha = np.dstack([np.zeros_like(lesion), lesion * 200])
    shown = np.where((np.arange(64) < 5) | (lesion > 0), 255, 0).astype(np.uint8)  # white at the border, but hidden
    hidden = np.dstack([shown, np.where(np.arange(64) < 5, 0, 255) + 0 * lesion]).astype(np.uint8)
    forms = {
        "adaptive": Image.fromarray(lesion * 255).convert("P", palette=Image.Palette.ADAPTIVE, colors=2),
        "quantized": Image.fromarray(lesion * 255).quantize(2),
        "alpha": Image.fromarray(opaque),
        "black_alpha": Image.fromarray(grey_alpha),
        "grey": Image.fromarray(np.where(lesion, 230, 20).astype(np.uint8)),
        "jpeg_like": Image.fromarray(np.where(lesion, 250, np.arange(64) % 3).astype(np.uint8)),
        "under_transparency": Image.fromarray(hidden),
    }
    white_first = Image.fromarray(1 - lesion).convert("P")
    white_first.putdata((1 - lesion).reshape(-1).tolist())
    white_first.putpalette([255, 255, 255, 0, 0, 0])
    white_first.putdata((1 - lesion).reshape(-1).tolist())
    forms["white_first"] = white_first
    for name, picture in forms.items():
        path = tmp_path / f"{name}.png"
        picture.save(path)
        expected = lesion if name != "white_first" else 1 - np.asarray(picture)  # index 0 is the white one
        assert np.array_equal(mask_of(path), expected), name


def test_indices_of_coloured_palettes_are_labels(tmp_path):
    labels = np.arange(3, dtype=np.uint8).repeat(64 * 22)[: 64 * 64].reshape(64, 64)
    picture = Image.fromarray(labels).convert("P")
    picture.putdata(labels.reshape(-1).tolist())
    picture.putpalette([0, 0, 0, 255, 255, 255, 128, 128, 128])
    path = tmp_path / "three.png"
    picture.save(path)
    assert np.array_equal(mask_of(path, labels=3), labels)


def test_what_lies_beside_the_pictures_is_counted(tmp_path):
    def put(name):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(HALVES).save(path, format="png")

    for name in ("a/0001.png", "b/0001.JPG", "._x.png", ".hidden/y.png", "__MACOSX/z.png", "out/0001_mask.png"):
        put(name)
    for name in ("scan.dcm", "scan2.dcm", "brain.nii.gz", "README", "Thumbs.db"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "folder.png").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "dangling.png").symlink_to(tmp_path / "nowhere.png")
    pictures, left = find_pictures(tmp_path, tmp_path / "out")
    assert [path.relative_to(tmp_path).as_posix() for path in pictures] == [
        "a/0001.png", "b/0001.JPG", "dangling.png", "pipe.png"
    ]  # fmt: skip
    counts = {"hidden": 4, ".dcm": 2, ".nii.gz": 1, "without an ending": 1, "earlier outputs": 1}
    assert left == counts
    assert len(find_pictures(tmp_path)[0]) == 5


def test_outputs_beside_the_pictures_are_told_from_masks_of_ones_own(tmp_path):
    for name in ("x", "x_mask", "x_uncertainty", "x_overlay", "y", "y_mask"):
        Image.fromarray(HALVES).save(tmp_path / f"{name}.png")
    for written in (tmp_path, tmp_path / "another", None):  # a training writes none
        pictures, left = find_pictures(tmp_path, written)
        assert [path.stem for path in pictures] == ["x", "y", "y_mask"]
        assert left == {"earlier outputs": 3}


def test_nothing_is_said_of_plain_pictures(tmp_path):
    Image.fromarray(RGB).save(tmp_path / "plain.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert both_doors(tmp_path / "plain.png").shape == (24, 32, 3)
