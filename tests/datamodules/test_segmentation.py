"""The shared segmentation module: arguments, splits by group, and whole runs under Lightning's trainer."""

from types import SimpleNamespace

import pytest
import torch

from datamodules import SEGMENTATION_DATAMODULES, SegmentationDataModule, phantom_images
from datamodules.segmentation.masked_images import MaskedImages, random_flips
from fakes.segmentation import check_sides
from fakes.training import Recorder, check_resumed, trainer

# Lightning 2.6.6 makes torch's deprecated LeafSpec() (lightning/pytorch/utilities/_pytree.py)
pytestmark = pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec.. is deprecated:FutureWarning")
ITEMS = 60


class Toy(SegmentationDataModule):
    name = "toy"
    mean = (0.5,)
    std = (0.25,)
    official = False

    def load(self):
        images, masks = phantom_images(ITEMS, self.image_size)
        masks[:, 0] = self.ignore_index
        groups = torch.arange(ITEMS) // 2
        test = torch.zeros(ITEMS, dtype=torch.bool)
        test[41:51] = True  # cuts the groups of 40 and 51
        names = tuple(f"item {number}" for number in range(ITEMS))
        return MaskedImages(images, masks, names, groups, groups % 3, test if self.official else None, "toy")


class Official(Toy):
    official = True


def toy(kind=Toy, **options):
    data = kind(**{"image_size": 16, "batch_size": 8, **options})
    data.setup()
    return data


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": 4}, "image_size must be at least 8, not 4"),
        ({"num_workers": -1}, "num_workers must be at least 0, not -1"),
        ({"folds": 1}, "folds must be at least 2, not 1"),
        ({"fold": 5}, "fold must be from 0 to 4, or None, not 5"),
    ],
)
@pytest.mark.parametrize("module", [Toy, *SEGMENTATION_DATAMODULES.values()], ids=lambda module: module.name)
def test_bad_arguments_are_refused_at_construction(module, options, message):
    with pytest.raises(ValueError, match=message):
        module(**options)


@pytest.mark.parametrize("module", SEGMENTATION_DATAMODULES.values(), ids=lambda module: module.name)
def test_every_set_says_what_the_command_line_asks(module):
    data = module()
    assert data.num_classes == len(data.class_names) >= 2
    assert len(data.mean) == len(data.std) == data.in_channels
    assert data.ignore_index == 255
    for word in ("**Source**", "**Format**", "**Splits**", "**Normalization**", "terms", "cite"):
        assert word.lower() in module.__doc__.lower(), word
    with pytest.raises(RuntimeError, match=r"has no data yet; call setup\(\) first"):
        data.sizes()


def test_batches_are_bytes_normalized_on_the_device_and_integer_masks():
    data = toy(batch_size=5)
    order = next(iter(data.train_dataloader().batch_sampler))
    data.trainer = SimpleNamespace(overfit_batches=0, global_rank=0, world_size=1, training=True)
    batch = next(iter(data.train_dataloader()))
    assert batch[0].dtype == torch.uint8
    images, masks = data.on_after_batch_transfer(batch, 0)
    assert images.shape == (5, 1, 16, 16)
    assert images.dtype == torch.float32
    torch.testing.assert_close(images, (data.train_set.images[order] / 255 - 0.5) / 0.25)
    assert masks.dtype == torch.int64
    assert (masks[:, 0] == 255).all()
    assert torch.equal(masks, data.train_set.masks[order])


@pytest.mark.parametrize("kind", [Toy, Official])
@pytest.mark.parametrize("fold", [None, 0, 3])
def test_no_group_is_on_two_sides(kind, fold):
    data = toy(kind, fold=fold)
    check_sides(data)
    leaks = ["item 40", "item 51"] if kind is Official and fold is None else []
    assert data.left_out == leaks
    assert sum(data.sizes().values()) == ITEMS - len(leaks)
    names = [name for part in (data.train_set, data.val_set, data.test_set) for name in part.names]
    assert len(set(names) | set(leaks)) == ITEMS


def test_test_sets_are_the_publishers_or_the_parts_of_a_cross_validation():
    assert toy(Official).test_set.indices.tolist() == list(range(41, 51))
    assert toy(Official).source == "toy"
    assert toy(Official, fold=0).source == toy().source == "toy; test: part 0 of 5"
    parts = [toy(fold=fold, folds=4).test_set.indices for fold in range(4)]
    assert torch.cat(parts).sort().values.tolist() == list(range(ITEMS))
    assert all(10 <= len(part) <= 20 for part in parts)
    assert torch.equal(toy(split_seed=1).test_set.indices, toy().test_set.indices)  # comparable for ever
    assert torch.equal(toy(fold=0).test_set.indices, toy().test_set.indices)
    with pytest.raises(ValueError, match=r"fold 69 of 80 is empty: there are only 30 groups; lower folds"):
        toy(fold=69, folds=80)


def test_validation_and_limit_depend_on_the_split_seed_only():
    one, two, other = toy(seed=0), toy(seed=1), toy(split_seed=1)
    assert torch.equal(one.val_set.indices, two.val_set.indices)
    assert not torch.equal(one.val_set.indices, other.val_set.indices)
    assert toy(val_fraction=0.001).sizes()["val"] >= 2  # a group at least
    small = toy(limit_train=9)
    assert small.sizes()["train"] == 9
    assert set(small.train_set.indices.tolist()) < set(one.train_set.indices.tolist())
    assert small.fingerprint() == one.fingerprint() == other.fingerprint() != toy(image_size=8).fingerprint()
    with pytest.raises(ValueError, match=r"limit_train is 100, but there are \d+ training images"):
        toy(limit_train=100)
    with pytest.raises(ValueError, match=r"val_fraction 0.0 leaves no image; set limit_val_batches=0"):
        toy(val_fraction=0.0).val_dataloader()


def test_what_a_checkpoint_keeps_of_the_split_makes_it_again():
    trained = toy(split_seed=3, val_fraction=0.3, fold=1, folds=4, seed=9)
    again = toy(**trained.split_facts)
    assert torch.equal(again.val_set.indices, trained.val_set.indices)
    assert torch.equal(again.test_set.indices, trained.test_set.indices)
    assert not torch.equal(toy().val_set.indices, trained.val_set.indices)


def test_flips_move_image_and_mask_together_and_evenly():
    images, masks = phantom_images(400, 16)
    indices = torch.arange(400)
    flipped, moved = random_flips(images, masks.long(), indices, (True, True), seed=0, epoch=0)
    forms = [lambda x: x, lambda x: x.flip(-1), lambda x: x.flip(-2), lambda x: x.flip(-1, -2)]
    same = torch.stack([(form(images) == flipped).flatten(1).all(1) for form in forms])
    assert (same.sum(0) == 1).all()
    assert ((same.sum(1) > 65) & (same.sum(1) < 135)).all()  # 100 each, four standard deviations
    for form, chosen in zip(forms, same, strict=True):
        assert torch.equal(form(masks)[chosen], moved[chosen].to(torch.uint8))
    some = torch.tensor([7, 300, 12])
    again, _ = random_flips(images[some], masks[some].long(), some, (True, True), seed=0, epoch=0)
    assert torch.equal(again, flipped[some])  # whatever batch it is in
    for options in ({"seed": 1, "epoch": 0}, {"seed": 0, "epoch": 1}):
        assert not torch.equal(random_flips(images, masks.long(), indices, (True, True), **options)[0], flipped)
    upright, _ = random_flips(images, masks.long(), indices, (True, False), seed=0, epoch=0)
    assert ((upright == images) | (upright == images.flip(-1))).flatten(1).all(1).all()


def test_evaluation_shows_every_image_once_in_order(tmp_path):
    for stage, part in (("validate", "val_set"), ("test", "test_set"), ("predict", "test_set")):
        model, data = Recorder(1, 2), toy(eval_batch_size=5, augment="flip")
        getattr(trainer(tmp_path), stage)(model, datamodule=data)
        images, masks = (torch.cat(parts) for parts in zip(*model.evaluated, strict=True))
        assert torch.equal(masks, getattr(data, part).masks)
        torch.testing.assert_close(images, data.normalized(getattr(data, part).images))


@pytest.mark.filterwarnings("ignore:The dirpath has changed")  # on purpose: every resumed run saves elsewhere
@pytest.mark.parametrize(("augment", "workers"), [("none", 0), ("flip", 0), ("full", 0), ("full", 2)])
def test_resumed_run_repeats_the_uninterrupted_one(tmp_path, augment, workers):
    make = lambda: toy(augment=augment, num_workers=workers)  # noqa: E731
    options, steps = {"max_epochs": 2, "limit_val_batches": 0}, (7,) if workers else (2, 5, 7)
    check_resumed(lambda: Recorder(1, 2), make, tmp_path, options, {"every_n_train_steps": 1}, steps)
