"""The shared segmentation module: arguments, splits by group, and whole runs under Lightning's trainer."""

import lightning
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from datamodules import SEGMENTATION_DATAMODULES, SegmentationDataModule, phantom_images
from datamodules.loading import ShardBatches
from datamodules.segmentation.masked_images import MaskedBatches, MaskedImages, random_flips

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


class Recorder(lightning.LightningModule):
    """Writes down what it is shown."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Conv2d(1, 2, 1)
        self.shown, self.evaluated = [], []

    def training_step(self, batch, batch_idx):
        images, masks = batch
        self.shown.append((self.trainer.current_epoch, images.double().sum().item(), (masks == 1).sum((1, 2)).tolist()))
        return torch.nn.functional.cross_entropy(self.layer(images), masks, ignore_index=255)

    def validation_step(self, batch, batch_idx):
        self.evaluated.append(batch)
        return torch.zeros(())

    test_step = predict_step = validation_step

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def toy(kind=Toy, **options):
    data = kind(**{"image_size": 16, "batch_size": 8, **options})
    data.setup()
    return data


def trainer(folder, **options):
    return lightning.Trainer(
        accelerator="cpu",
        devices=1,
        default_root_dir=folder,
        logger=False,
        log_every_n_steps=1,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        **{"enable_checkpointing": False, **options},
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": 4}, "image_size must be at least 8, not 4"),
        ({"batch_size": 0}, "batch_size must be at least 1, not 0"),
        ({"eval_batch_size": 0}, "eval_batch_size must be at least 1, not 0"),
        ({"val_fraction": 1.0}, "val_fraction must be at least 0 and below 1, not 1.0"),
        ({"split_seed": -1}, "split_seed must be from 0"),
        ({"seed": 2**32}, "seed must be from 0"),
        ({"limit_train": 0}, "limit_train must be at least 1, or None, not 0"),
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


def test_batches_are_normalized_floats_and_integer_masks():
    data = toy(batch_size=5)
    images, masks = next(iter(data.train_dataloader()))
    assert images.shape == (5, 1, 16, 16)
    assert images.dtype == torch.float32
    assert masks.shape == (5, 16, 16)
    assert masks.dtype == torch.int64
    assert (masks[:, 0] == 255).all()
    order = next(iter(data.train_dataloader().batch_sampler))
    torch.testing.assert_close(images, (data.train_set.images[order] / 255 - 0.5) / 0.25)
    assert torch.equal(masks, data.train_set.masks[order])


@pytest.mark.parametrize("kind", [Toy, Official])
@pytest.mark.parametrize("fold", [None, 0, 3])
def test_no_group_is_on_two_sides(kind, fold):
    data = toy(kind, fold=fold)
    sides = [set(part.groups.tolist()) for part in (data.train_set, data.val_set, data.test_set)]
    assert not sides[0] & sides[1] | sides[0] & sides[2] | sides[1] & sides[2]
    assert all(sides)
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
        model, data = Recorder(), toy(eval_batch_size=5, augment="flip")
        getattr(trainer(tmp_path), stage)(model, datamodule=data)
        images, masks = (torch.cat(parts) for parts in zip(*model.evaluated, strict=True))
        assert torch.equal(masks, getattr(data, part).masks)
        torch.testing.assert_close(images, data.normalized(getattr(data, part).images))


def test_two_processes_share_an_epoch():
    data = toy()
    orders = [ShardBatches(len(data.test_set), 4, rank, 2) for rank in (0, 1)]
    shards = [MaskedBatches(data.test_set, order, data.normalized) for order in orders]
    shown = [len(masks) for shard in shards for _, masks in shard]
    assert sum(shown) == len(data.test_set)


@pytest.mark.filterwarnings("ignore:The dirpath has changed")  # on purpose: every resumed run saves elsewhere
@pytest.mark.parametrize(("augment", "workers"), [("none", 0), ("flip", 0), ("full", 0), ("full", 2)])
def test_resumed_run_repeats_the_uninterrupted_one(tmp_path, augment, workers):
    def fit(model, folder, **where):
        checkpoints = ModelCheckpoint(folder, filename="{step}", save_top_k=-1, every_n_train_steps=1)
        run = trainer(folder, enable_checkpointing=True, callbacks=[checkpoints], max_epochs=2, limit_val_batches=0)
        run.fit(model, datamodule=toy(augment=augment, num_workers=workers), **where)

    whole = Recorder()
    torch.manual_seed(1)
    fit(whole, tmp_path)
    assert len(whole.shown) == 10
    assert whole.shown[:5] != whole.shown[5:]
    steps = (2, 5, 7) if workers == 0 else (7,)
    for step in steps:
        torch.manual_seed(2)
        resumed = Recorder()
        fit(resumed, tmp_path / str(step), ckpt_path=tmp_path / f"step={step}.ckpt", weights_only=True)
        assert resumed.shown == whole.shown[step:], f"resumed from step {step}"
        torch.testing.assert_close(resumed.layer.weight, whole.layer.weight, rtol=0, atol=0)
