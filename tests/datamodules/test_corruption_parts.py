"""What the corruptions are made of, against SciPy, Pillow, colorsys and plain loops."""

import colorsys
import io

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage, stats

from datamodules.corruptions import filters, weather
from datamodules.corruptions.blur import glass_blur
from datamodules.corruptions.corruptions import CORRUPTIONS, corrupt
from datamodules.corruptions.digital import elastic_transform
from datamodules.corruptions.frost import frost_textures
from datamodules.corruptions.noise import gaussian_noise, impulse_noise, shot_noise
from datamodules.files.streams import Streams

RANDOM = np.random.default_rng(0)
SMOOTH = ndimage.gaussian_filter(RANDOM.normal(size=(6, 3, 32, 32)), (0, 0, 2, 2)) * 4 + 0.5
PIXELS = torch.from_numpy((SMOOTH.clip(0, 1) * 255).astype(np.uint8))
FLOATS = PIXELS.double() / 255


def each(function, images):
    """Apply a function of one channel to every channel of every image."""
    return np.stack([[function(channel) for channel in image] for image in np.asarray(images)])


@pytest.mark.parametrize(("border", "theirs"), [("nearest", "nearest"), ("symmetric", "reflect"), ("mirror", "mirror")])
@pytest.mark.parametrize("sigma", [0.05, 0.25, 0.96, 6.4])
def test_gaussian_matrix_is_scipys_filter(border, theirs, sigma):
    matrix = filters.gaussian_matrix(32, sigma, 3.0, border)
    expected = each(lambda x: ndimage.gaussian_filter(x, sigma, truncate=3.0, mode=theirs), FLOATS)
    np.testing.assert_allclose((matrix @ FLOATS @ matrix.T).numpy(), expected, atol=1e-12)


def enlarged(images, factor):
    """SciPy's zoom of the middle of every channel, trimmed, as in the public code."""
    inner = int(np.ceil(32 / factor))
    top = (32 - inner) // 2

    def zoom(channel):
        large = ndimage.zoom(channel[top : top + inner, top : top + inner], factor, order=1)
        trim = (len(large) - 32) // 2
        return large[trim : trim + 32, trim : trim + 32]

    return each(zoom, images)


@pytest.mark.parametrize("factor", [1.0, 1.01, 1.07, 1.25, np.arange(1, 1.26, 0.01)[25], 1.75, 2.25])
def test_zoom_matrix_is_scipys_zoom_of_the_middle(factor):
    matrix = filters.zoom_matrix(32, float(factor))
    np.testing.assert_allclose((matrix @ FLOATS @ matrix.T).numpy(), enlarged(FLOATS, factor), atol=1e-12)


@pytest.mark.parametrize(("severity", "last"), [(1, 1.06), (2, 1.11), (3, 1.16), (4, 1.21), (5, 1.26)])
def test_zoom_blur_is_the_mean_of_all_zooms_by_numpys_factors(severity, last):
    zooms = [enlarged(FLOATS, factor) for factor in np.arange(1, last, 0.01)]
    mean = (FLOATS.numpy() + sum(zooms)) / (len(zooms) + 1)
    assert np.abs(corrupt(PIXELS, "zoom_blur", severity).numpy() + 0.5 - mean * 255).max() <= 0.5 + 1e-3


@pytest.mark.parametrize("severity", [1, 2, 3, 4, 5])
def test_pixelate_is_pillows(severity):
    (factor,) = CORRUPTIONS["pixelate"].constants[severity - 1]
    expected = []
    for image in PIXELS.permute(0, 2, 3, 1).numpy():
        small = Image.fromarray(image).resize((int(32 * factor),) * 2, Image.Resampling.BOX)
        expected.append(np.asarray(small.resize((32, 32), Image.Resampling.BOX)))
    difference = corrupt(PIXELS, "pixelate", severity).permute(0, 2, 3, 1).numpy().astype(int) - np.stack(expected)
    assert np.abs(difference).max() <= 1  # Pillow's weights are integers
    assert (difference == 0).mean() > 0.99


@pytest.mark.parametrize(("border", "theirs"), [("symmetric", "reflect"), ("mirror", "mirror")])
def test_sample_is_scipys_map_coordinates(border, theirs):
    x, y = (torch.from_numpy(RANDOM.uniform(-9, 40, (6, 32, 32))) for _ in range(2))
    result = filters.sample(FLOATS, x, y, border)
    for i, image in enumerate(FLOATS.numpy()):
        for c, channel in enumerate(image):
            expected = ndimage.map_coordinates(channel, [y[i].numpy(), x[i].numpy()], order=1, mode=theirs)
            np.testing.assert_allclose(result[i, c].numpy(), expected, atol=1e-10)


@pytest.mark.parametrize("angle", [-90.0, -45.0, -7.0, 0.0, 30.0])
def test_motion_blur_is_a_correlation_with_half_a_gaussian_line(angle):
    kernel = np.zeros((41, 41))
    for k in range(13):
        right, down = k * np.cos(np.deg2rad(angle)), k * np.sin(np.deg2rad(angle))
        kernel[20 + int(np.ceil(down - 0.5)), 20 + int(np.ceil(right - 0.5))] += np.exp(-(k**2) / 8)
    expected = each(lambda x: ndimage.correlate(x, kernel / kernel.sum(), mode="nearest"), FLOATS)
    result = filters.motion_blur(FLOATS, 6, 2.0, torch.full((6,), angle))
    np.testing.assert_allclose(result.numpy(), expected, atol=1e-5)


def test_every_image_is_smeared_along_its_own_direction():
    point = torch.zeros(2, 1, 9, 9, dtype=torch.float64)
    point[:, :, 4, 4] = 1
    right, down = filters.motion_blur(point, 6, 2.0, torch.tensor([0.0, 90.0]))
    assert right[0, 4, :5].min() > 0
    assert right[0].sum(1).count_nonzero() == 1
    assert torch.equal(down[0], right[0].T)


def test_glass_blur_is_the_public_walk_over_pixels():
    """The walk assigns through views, as the public code does, so that its swap is a copy."""
    sigma, iterations = 0.4, 2
    result = glass_blur(FLOATS, Streams(torch.arange(6), 5), sigma, 1, iterations).numpy()
    draws = Streams(torch.arange(6), 5)
    moves = [draws.integers(2, 2, 32, 32) for _ in range(iterations)]
    for i, image in enumerate(FLOATS.permute(0, 2, 3, 1).numpy()):
        x = (ndimage.gaussian_filter(image, (sigma, sigma, 0), mode="nearest") * 255 + 1e-6).astype(np.uint8)
        for move in moves:
            for h in range(31, 1, -1):
                for w in range(31, 1, -1):
                    there = h - int(move[i, 0, h, w]), w - int(move[i, 1, h, w])
                    x[h, w], x[there] = x[there], x[h, w]
        expected = ndimage.gaussian_filter(x / 255, (sigma, sigma, 0), mode="nearest")
        np.testing.assert_allclose(result[i].transpose(1, 2, 0), expected, atol=1e-10)
    with pytest.raises(ValueError, match="delta 1 only, not 2"):
        glass_blur(FLOATS, draws, 0.4, 2, 1)


@pytest.mark.parametrize("rate", [500, 50])
def test_shot_noise_is_poissons_quantile(rate):
    levels = (torch.arange(3 * 16 * 16) % 256).view(1, 3, 16, 16).double() / 255
    draws = Streams(torch.arange(40), 2).uniform(3, 16, 16).numpy()
    result = shot_noise(levels.expand(40, -1, -1, -1), Streams(torch.arange(40), 2), rate).numpy()
    expected = stats.poisson.ppf(draws, levels.numpy() * rate).clip(0, rate) / rate
    np.testing.assert_allclose(result, expected, atol=1e-12)


def test_gaussian_and_impulse_noise_have_the_stated_amounts():
    grey = torch.full((50, 3, 32, 32), 0.5, dtype=torch.float64)
    noise = gaussian_noise(grey, Streams(torch.arange(50), 0), 0.08) - 0.5
    assert abs(noise.std() - 0.08) < 1e-3
    assert abs(noise.mean()) < 1e-3
    speckled = impulse_noise(grey, Streams(torch.arange(50), 0), 0.07)
    for value in (0.0, 1.0):
        assert abs((speckled == value).double().mean() - 0.035) < 0.002
    assert ((speckled == 0.5) | (speckled == 0) | (speckled == 1)).all()
    assert not torch.equal(speckled[:, 0], speckled[:, 1])  # channels are hit independently


def test_brightness_is_colorsys():
    result = weather.brightness(FLOATS, Streams(torch.arange(6), 0), 0.2).numpy()
    for pixel, bright in zip(FLOATS[0].flatten(1).T.numpy(), result[0].reshape(3, -1).T, strict=True):
        hue, saturation, value = colorsys.rgb_to_hsv(*pixel)
        np.testing.assert_allclose(bright, colorsys.hsv_to_rgb(hue, saturation, min(value + 0.2, 1)), atol=1e-12)
    black = torch.zeros(1, 3, 1, 1, dtype=torch.float64)
    assert weather.brightness(black, Streams(torch.arange(1), 0), 0.2).flatten().tolist() == pytest.approx([0.2] * 3)


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 32, 32), (3, 27, 21)])
def test_jpeg_is_pillows_file(shape):
    channels, height, width = shape
    pixels = PIXELS[:, :channels, :height, :width]
    for severity, quality in enumerate((80, 65, 58, 50, 40), start=1):
        for image, ours in zip(pixels, corrupt(pixels, "jpeg_compression", severity), strict=True):
            stream = io.BytesIO()
            Image.fromarray(image.permute(1, 2, 0).numpy().squeeze()).save(stream, "JPEG", quality=quality)
            theirs = np.asarray(Image.open(stream)).reshape(height, width, channels).transpose(2, 0, 1)
            assert np.array_equal(ours.numpy(), theirs)


def test_elastic_affine_part_is_scipys_affine_transform():
    result = elastic_transform(FLOATS, Streams(torch.arange(6), 1), 0.0, 0.0, 0.08)
    moved = Streams(torch.arange(6), 1).uniform(3, 2, low=-2.56, high=2.56).numpy()
    before = np.array([[26.0, 26.0], [26.0, 6.0], [6.0, 6.0]])  # 16 +- 10, x before y
    for i, image in enumerate(FLOATS.numpy()):
        matrix = np.linalg.solve(np.c_[before + moved[i], np.ones(3)], before)  # (x, y, 1) to (x, y)
        swapped, offset = matrix[:2].T[::-1, ::-1], matrix[2, ::-1]
        expected = ndimage.affine_transform(image[0], swapped, offset, order=1, mode="mirror")
        np.testing.assert_allclose(result[i, 0].numpy(), expected, atol=1e-9)


def test_elastic_shift_is_smoothed_uniform_noise():
    """A ramp shows the horizontal shift itself."""
    ramp = (torch.arange(32).double() / 31).expand(1, 1, 32, 32).contiguous()
    result = elastic_transform(ramp, Streams(torch.arange(1), 4), 0.1, 0.04, 0.0)
    streams = Streams(torch.arange(1), 4)
    streams.uniform(3, 2)
    noise = streams.uniform(2, 32, 32, low=-1.0, high=1.0)[0, 0].numpy()
    shift = 3.2 * ndimage.gaussian_filter(noise, 1.28, truncate=3.0, mode="reflect")
    np.testing.assert_allclose(result[0, 0, :, 8:24].numpy(), ((np.arange(32) + shift) / 31)[:, 8:24], atol=1e-9)


def test_plasma_is_the_diamond_square_method_point_by_point():
    size, decay = 16, 1.75
    result = weather.plasma(Streams(torch.arange(2), 9), size, decay).numpy()
    noise = Streams(torch.arange(2), 9).uniform(size, size, low=-1.0, high=1.0).numpy()
    for image, draws in zip(result, noise, strict=True):
        grid, step, wibble = np.zeros((size, size)), size, 100.0
        while step > 1:
            half = step // 2
            for y in range(half, size, step):
                for x in range(half, size, step):
                    corners = [grid[(y + a) % size, (x + b) % size] for a in (-half, half) for b in (-half, half)]
                    grid[y, x] = np.mean(corners) + wibble**2 * draws[y, x]
            for y in range(0, size, half):
                for x in range((y + half) % step, size, step):
                    sides = [(half, 0), (-half, 0), (0, half), (0, -half)]
                    mean = np.mean([grid[(y + a) % size, (x + b) % size] for a, b in sides])
                    grid[y, x] = mean + wibble**2 * draws[y, x]
            step, wibble = half, wibble / decay
        grid -= grid.min()
        np.testing.assert_allclose(image, grid / grid.max(), atol=1e-9)


def test_fog_keeps_the_brightest_value_in_reach():
    haze = weather.fog(FLOATS, Streams(torch.arange(6), 0), 1.0, 2.0)
    top = FLOATS.amax((1, 2, 3))
    assert (haze.amax((1, 2, 3)) <= top + 1e-12).all()
    assert (haze.amin((1, 2, 3)) >= 0).all()


def test_snow_by_hand():
    streams = Streams(torch.arange(6), 0)
    flakes = 0.1 + 0.2 * streams.normal(1, 32, 32).numpy()  # severity 1: no zoom
    flakes = np.floor(np.where(flakes < 0.6, 0, flakes).clip(0, 1) * 255 + 1e-6) / 255
    angle = streams.uniform(low=-135.0, high=-45.0)
    assert ((angle > -135) & (angle < -45)).all()
    smeared = filters.motion_blur(torch.from_numpy(flakes), 8, 3.0, angle).mul(255).add(1e-6).floor().div(255).numpy()
    grey = FLOATS.numpy().transpose(0, 2, 3, 1) @ [0.299, 0.587, 0.114]
    white = np.maximum(FLOATS.numpy(), grey[:, None] * 1.5 + 0.5)
    expected = 0.95 * FLOATS.numpy() + 0.05 * white + smeared + np.rot90(smeared, 2, (2, 3))
    result = weather.snow(FLOATS, Streams(torch.arange(6), 0), 0.1, 0.2, 1.0, 0.6, 8, 3.0, 0.95)
    np.testing.assert_allclose(result.numpy(), expected, atol=1e-12)


def test_frost_is_cut_from_five_textures():
    textures = frost_textures(192)
    assert textures.shape == (5, 3, 192, 192)
    photographs = [(0.304, 0.584, 0.650), *[(0.787, 0.805, 0.841)] * 2, (0.541, 0.601, 0.649), (0.440, 0.483, 0.528)]
    np.testing.assert_allclose(textures.mean((2, 3)), photographs, atol=0.01)
    windows = textures.mean(1).unfold(1, 32, 32).unfold(2, 32, 32).std((3, 4)).mean((1, 2))
    np.testing.assert_allclose(windows, [0.06, 0.07, 0.07, 0.10, 0.135], rtol=0.05)
    assert textures.min() >= 0
    assert textures.max() <= 1
    flat = textures[:, 0].flatten(1).numpy()
    assert np.abs(np.corrcoef(flat) - np.eye(5)).max() < 0.1  # five different ones
    black = torch.zeros(20, 3, 32, 32, dtype=torch.float64)
    windows = weather.frost(black, Streams(torch.arange(20), 0), 1.0, 1.0)
    assert len({float(window.sum()) for window in windows}) == 20
    for window in windows[:4]:
        corner = window[0, 0, 0]
        places = (textures[:, 0] == corner).nonzero().tolist()
        assert any(torch.equal(textures[t, :, y : y + 32, x : x + 32], window) for t, y, x in places)
