"""Outliers made of images, against what each kind says that it does."""

import pytest
import torch

from datamodules.suites.outliers import OUTLIERS, TILES, outliers


@pytest.fixture
def images():
    return torch.randint(0, 256, (40, 3, 32, 32), generator=torch.Generator().manual_seed(0)).to(torch.uint8)


@pytest.fixture
def labels():
    return torch.arange(40) % 4


@pytest.mark.parametrize("kind", OUTLIERS)
@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 28, 28), (3, 30, 26)])
def test_they_are_shaped_like_the_images_and_seeded(kind, shape, labels):
    images = torch.randint(0, 256, (40, *shape), generator=torch.Generator().manual_seed(1)).to(torch.uint8)
    before = images.clone()
    suite = outliers(kind, images, labels, seed=3)
    assert suite.images.shape == images.shape
    assert suite.images.dtype == torch.uint8
    assert torch.equal(images, before)
    assert suite.labels is None
    assert torch.equal(suite.images, outliers(kind, images, labels, seed=3).images)
    if kind != "inverted" or shape[0] > 1:  # one channel has one negative
        assert suite.fingerprint != outliers(kind, images, labels, seed=4).fingerprint


@pytest.mark.parametrize(("kind", "of_constants"), [("mean", (60 + 90) / 2), ("geometric_mean", (60 * 90) ** 0.5)])
def test_means_are_of_two_classes(kind, of_constants):
    labels = torch.tensor([0, 0, 0, 1])  # one class has most images
    images = torch.where(labels == 0, 60, 90).to(torch.uint8)[:, None, None, None].expand(4, 1, 4, 4)
    assert outliers(kind, images, labels).images.unique().tolist() == [round(of_constants)]


def test_partners_are_drawn_from_all_images_of_other_classes(labels):
    """The first image is 0, so its mean with image n, which is 2n, says n."""
    images = (2 * torch.arange(40)).to(torch.uint8)[:, None, None, None]
    found = {int(outliers("mean", images, labels, seed).images[0]) for seed in range(300)}
    assert found == {n for n in range(40) if labels[n] != labels[0]}


def test_images_of_one_class_have_no_partner(images):
    with pytest.raises(ValueError, match="images of different classes, but all 40 are of class 2"):
        outliers("mean", images, torch.full((40,), 2))


def test_a_jigsaw_has_all_tiles_somewhere_else(images, labels):
    made = outliers("jigsaw", images, labels).images

    def tiles(one):
        cut = one.unfold(1, 32 // TILES, 32 // TILES).unfold(2, 32 // TILES, 32 // TILES)
        return cut.permute(1, 2, 0, 3, 4).reshape(TILES**2, -1).tolist()

    assert all(sorted(tiles(one)) == sorted(tiles(other)) for one, other in zip(images, made, strict=True))
    assert not any(torch.equal(one, other) for one, other in zip(images, made, strict=True))


def test_a_jigsaw_leaves_what_no_tile_holds(labels):
    images = torch.randint(0, 256, (40, 1, 30, 26), generator=torch.Generator().manual_seed(2)).to(torch.uint8)
    made = outliers("jigsaw", images, labels).images
    assert torch.equal(made[..., 28:, :], images[..., 28:, :])
    assert torch.equal(made[..., 24:], images[..., 24:])


def test_a_ghost_has_every_channel_shifted_and_in_another_place(images, labels):
    made = outliers("ghost", images, labels).images
    for one, other in zip(images, made, strict=True):
        for channel in range(3):
            sources = [
                (source, dy, dx)
                for source in range(3)
                for dy in range(-8, 9)
                for dx in range(-8, 9)
                if torch.equal(one[source].roll((dy, dx), (0, 1)), other[channel])
            ]
            assert len(sources) == 1
            assert sources[0][0] != channel


def test_inverted_channels_are_negatives_and_at_least_one(images, labels):
    made = outliers("inverted", images, labels).images
    negative, same = (made == 255 - images).flatten(2).all(2), (made == images).flatten(2).all(2)
    assert torch.equal(negative, ~same)
    assert negative.any(1).all()
    assert len({tuple(row) for row in negative.tolist()}) == 7  # all but none


def test_speckle_multiplies(labels):
    grey = torch.full((40, 1, 32, 32), 100, dtype=torch.uint8)
    made = outliers("speckle", grey, labels).images.float()
    inside = (made > 0) & (made < 255)
    assert (made == 0).double().mean() == pytest.approx(0.158, abs=0.01)  # a factor below 0: one deviation
    assert made[inside].median() == pytest.approx(100 * 1.122, rel=0.03)  # the median between 16 % and 94 %
    assert (outliers("speckle", torch.zeros_like(grey), labels).images == 0).all()


def test_an_unknown_kind_is_refused_with_the_nearest(images, labels):
    with pytest.raises(ValueError, match="unknown outlier 'jigsaws'; did you mean 'jigsaw'"):
        outliers("jigsaws", images, labels)
