"""The shared data module: arguments, splits, and whole runs under Lightning's trainer."""

import inspect
import re

import pytest
import torch

from datamodules import DATAMODULES, SEGMENTATION_DATAMODULES, ImageArrays, ImageDataModule
from datamodules.loading import stream_seed
from fakes import fake_images
from fakes.training import Recorder, check_resumed, trainer

# Lightning 2.6.6 makes torch's deprecated LeafSpec() (lightning/pytorch/utilities/_pytree.py)
pytestmark = pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec.. is deprecated:FutureWarning")


class Toy(ImageDataModule):
    name = "toy"
    class_names = tuple("abcdefghij")
    mean = (0.5, 0.4, 0.3)
    std = (0.2, 0.3, 0.4)

    def load(self):
        parts = (torch.from_numpy(part) for size in (100, 40) for part in fake_images(size, 3, 32, seed=size))
        return ImageArrays(*parts, source="toy")


def toy(**options):
    return Toy(**{"batch_size": 16, "augment": "crop", "flip": True, **options})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1, not 0"),
        ({"eval_batch_size": -1}, "eval_batch_size must be at least 1, not -1"),
        ({"val_fraction": 1.0}, "val_fraction must be at least 0 and below 1, not 1.0"),
        ({"split_seed": -1}, "split_seed must be from 0"),
        ({"seed": 2**32}, "seed must be from 0"),
        ({"limit_train": 0}, "limit_train must be at least 1, or None, not 0"),
    ],
)
@pytest.mark.parametrize("module", [*DATAMODULES.values(), *SEGMENTATION_DATAMODULES.values()])
def test_bad_arguments_are_refused_at_construction(module, options, message):
    with pytest.raises(ValueError, match=message):
        module(**options)


@pytest.mark.parametrize("module", DATAMODULES.values(), ids=lambda module: module.name)
def test_bad_augmentation_is_refused_at_construction(module):
    for options in ({"crop_padding": -1}, {"crop_scale": (0.5, 0.1)}, {"crop_scale": (0.0, 1.0)}):
        ((name, value),) = options.items()
        with pytest.raises(ValueError, match=rf"{name} must be .*, not {re.escape(str(value))}"):
            module(**options)


def test_unknown_augmentation_is_refused():
    unchecked = inspect.unwrap(ImageDataModule.__init__)  # the tests' run-time types would refuse it first
    with pytest.raises(ValueError, match=r"augment must be one of .*resized_crop.*, not 'mixup'"):
        unchecked(Toy(), augment="mixup")


def test_root_comes_from_argument_then_environment_then_default(monkeypatch):
    monkeypatch.setenv("DATA", "/from/environment")
    assert str(Toy(root="/given").root) == "/given"
    assert str(Toy().root) == "/from/environment"
    monkeypatch.delenv("DATA")
    assert str(Toy().root) == "data"


def test_nothing_works_before_setup_and_setup_loads_once(monkeypatch):
    data = toy()
    for use in (data.fingerprint, data.sizes, data.train_dataloader, data.val_dataloader, data.test_dataloader):
        with pytest.raises(RuntimeError, match=r"Toy has no data yet; call setup\(\) first"):
            use()
    data.setup()
    monkeypatch.setattr(Toy, "load", None)
    data.setup("test")
    assert data.sizes() == {"train": 90, "val": 10, "test": 40}
    assert data.source == "toy"
    assert data.num_classes == 10


def test_split_is_stratified_disjoint_and_independent_of_the_run_seed():
    one, two, other = toy(seed=0), toy(seed=1), toy(split_seed=1)
    for data in (one, two, other):
        data.setup()
    assert torch.bincount(one.val_set.labels).tolist() == [1] * 10
    assert torch.equal(one.val_set.indices, two.val_set.indices)
    assert not torch.equal(one.val_set.indices, other.val_set.indices)
    assert sorted([*one.val_set.indices.tolist(), *one.train_set.indices.tolist()]) == list(range(100))


def test_limit_train_is_a_stratified_subset_and_leaves_the_rest_alone():
    data, whole = toy(limit_train=30), toy()
    data.setup()
    whole.setup()
    assert torch.bincount(data.train_set.labels).tolist() == [3] * 10
    assert set(data.train_set.indices.tolist()) < set(whole.train_set.indices.tolist())
    assert data.sizes() == {"train": 30, "val": 10, "test": 40}
    assert data.fingerprint() == whole.fingerprint()
    with pytest.raises(ValueError, match="limit_train is 91, but there are 90 training images"):
        toy(limit_train=91).setup()


def test_fingerprint_changes_with_one_pixel_and_with_one_label(monkeypatch):
    first = toy()
    first.setup()
    arrays = first.load()
    prints = {first.fingerprint()}
    for tensor in (arrays.train_images, arrays.train_labels, arrays.test_images, arrays.test_labels):
        tensor.view(-1)[5] += 1
        monkeypatch.setattr(Toy, "load", lambda self: arrays)
        altered = toy()
        altered.setup()
        prints.add(altered.fingerprint())
    assert len(prints) == 5
    assert all(len(text) == 16 and int(text, 16) >= 0 for text in prints)


def test_small_training_set_says_what_to_do():
    data = toy(batch_size=91)
    data.setup()
    with pytest.raises(ValueError, match=r"90 training images .* batch of 91; lower batch_size .*, or raise"):
        data.train_dataloader()


def test_normalization_by_hand_and_floats_pass_unchanged():
    data = toy()
    images = torch.tensor([0, 255, 51], dtype=torch.uint8).view(1, 3, 1, 1)
    kept = images.clone()
    result, labels = data.on_after_batch_transfer((images, torch.tensor([1])), 0)
    torch.testing.assert_close(result.flatten(), torch.tensor([-0.5 / 0.2, 0.6 / 0.3, -0.1 / 0.4]))
    assert torch.equal(images, kept)
    batch = [result, labels]
    assert data.on_after_batch_transfer(batch, 0) is batch
    assert data.on_after_batch_transfer(result, 0) is result
    floats = images.float()
    torch.testing.assert_close(data.normalized(floats), result)
    assert torch.equal(floats, kept.float())


def test_without_a_trainer_loaders_give_what_networks_take():
    data = toy(augment="crop")
    data.setup()
    for loader, part in (
        (data.train_dataloader(), data.train_set),
        (data.val_dataloader(), data.val_set),
        (data.test_dataloader(), data.test_set),
    ):
        order = next(iter(loader.batch_sampler))
        images, labels = next(iter(loader))
        assert images.dtype == torch.float32
        torch.testing.assert_close(images, data.normalized(part.images[order]))
        assert torch.equal(labels, part.labels[order])
        with pytest.raises(ValueError, match=r"normalized already: .* loader.finish = None gives bytes"):
            data.normalized(images)
        loader.finish = None
        torch.testing.assert_close(images, data.normalized(next(iter(loader))[0]))


def test_fit_shows_augmented_normalized_batches_that_depend_on_the_seed_only(tmp_path):
    runs = []
    for seed, noise in ((0, 1), (0, 2), (1, 1)):
        torch.manual_seed(noise)
        model = Recorder()
        trainer(tmp_path, max_epochs=2).fit(model, datamodule=toy(seed=seed))
        runs.append(model)
    assert len(runs[0].shown) == 10
    assert runs[0].shown == runs[1].shown
    assert runs[0].shown != runs[2].shown
    first, second = runs[0].shown[:5], runs[0].shown[5:]
    assert [labels for *_, labels in first] != [labels for *_, labels in second]  # a new order every epoch
    images = torch.cat([images for images, _ in runs[0].evaluated[:1]])
    data = toy()
    data.setup()
    torch.testing.assert_close(images, data.normalized(data.val_set.images))  # never augmented


def test_training_augmentation_is_a_function_of_seed_epoch_rank_and_place(tmp_path):
    model, data = Recorder(), toy(augment="resized_crop")
    trainer(tmp_path, max_epochs=2).fit(model, datamodule=data)
    for step, (epoch, total, labels) in enumerate(model.shown):
        index = step % 5
        loader = data.train_dataloader()
        loader.batch_sampler.sampler.set_epoch(epoch)
        images, expected = list(loader)[index]
        assert labels == expected.tolist()
        generator = torch.Generator().manual_seed(stream_seed(0, epoch, 0))
        drawn = data.draw_augmentation(len(data.train_set), generator).part(index * len(images), len(images))
        assert data.normalized(data.augmented(images, drawn)).double().sum().item() == total


SCHEDULES = {
    "steps": ({"max_epochs": 3}, {"every_n_train_steps": 1}),
    "epochs": ({"max_epochs": 3}, {"every_n_epochs": 1, "save_on_train_epoch_end": True}),
    "validation": ({"max_epochs": 3}, {"every_n_epochs": 1, "save_on_train_epoch_end": False}),
    "half epochs": ({"max_epochs": 3, "val_check_interval": 0.5}, {"save_on_train_epoch_end": False}),
    "iterations": ({"max_steps": 12, "max_epochs": -1}, {"every_n_train_steps": 1}),
    "limited": ({"max_epochs": 3, "limit_train_batches": 3}, {"every_n_train_steps": 1}),
}


@pytest.mark.filterwarnings("ignore:The dirpath has changed")  # on purpose: every resumed run saves elsewhere
@pytest.mark.parametrize("name", SCHEDULES)
def test_resumed_run_repeats_the_uninterrupted_one(tmp_path, name):
    check_resumed(Recorder, toy, tmp_path, *SCHEDULES[name])


def test_overfitting_batches_keeps_their_order(tmp_path):
    model = Recorder()
    trainer(tmp_path, max_epochs=2, overfit_batches=2).fit(model, datamodule=toy(augment="none", flip=False))
    assert model.shown[0][1:] == model.shown[2][1:]
    assert model.shown[1][1:] == model.shown[3][1:]
    assert len(model.shown) == 4


def test_validate_test_and_predict_see_every_image_once_in_order(tmp_path):
    for stage, part in (("validate", "val_set"), ("test", "test_set"), ("predict", "test_set")):
        model, data = Recorder(), toy(eval_batch_size=15)
        getattr(trainer(tmp_path), stage)(model, datamodule=data)
        expected = getattr(data, part)
        images = torch.cat([images for images, _ in model.evaluated])
        assert torch.cat([labels for _, labels in model.evaluated]).tolist() == expected.labels.tolist()
        torch.testing.assert_close(images, data.normalized(expected.images))


def test_without_validation_images_fit_skips_validation(tmp_path):
    model, data = Recorder(), toy(val_fraction=0.0)
    trainer(tmp_path, max_epochs=1, limit_val_batches=0).fit(model, datamodule=data)
    assert data.sizes()["val"] == 0
    with pytest.raises(ValueError, match=r"val_fraction 0.0 leaves no image; set limit_val_batches=0"):
        data.val_dataloader()
    assert len(model.shown) == 6
    assert model.evaluated == []
