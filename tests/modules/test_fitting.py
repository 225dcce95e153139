"""A network that the data do not fit, in a trainer of one's own: told in one line before the first step."""

import re

import pytest
import torch
from torch import nn

from fakes.training import quiet_trainer
from lit_scaledrop import LitClassifier, LitSegmenter

IMAGES, CLASSES = torch.randn(4, 3, 32, 32), torch.arange(4)
MASKS = torch.zeros(4, 32, 32, dtype=torch.int64)


class Loader:
    """Gives batches; Lightning takes a list for several loaders."""

    def __init__(self, *batches):
        self.batches = batches

    def __iter__(self):
        return iter(self.batches)

    def __len__(self):
        return len(self.batches)


def plain(classes=10, channels=3):
    return nn.Sequential(nn.Conv2d(channels, 4, 3, 4), nn.ReLU(), nn.Flatten(), nn.Linear(256, classes))


UNFIT = {
    "channels": (
        LitClassifier(plain(channels=1)), (IMAGES, CLASSES),
        "network 'Sequential' does not accept the images of this training, 3 x 32 x 32 (channels, height, width): ",
    ),
    "ours": (LitClassifier("lenet5", in_channels=1, width=0.1), (IMAGES, CLASSES), "'LeNet5' does not accept the"),
    "bytes": (LitClassifier(plain()), (IMAGES.byte(), CLASSES), "(channels, height, width) of torch.uint8: "),
    "classes": (
        LitClassifier(plain(4)), (IMAGES, CLASSES),
        "gives (2, 4) for 2 images, and this training has 10 classes (num_classes): (2, 10)",
    ),
    "one logit": (LitClassifier(plain(1)), (IMAGES, CLASSES), "gives (2, 2) for 2 images, and this training has 10"),
    "labels": (
        LitClassifier(plain(3), num_classes=3), (IMAGES, CLASSES + 1),
        "targets must be from 0 to 2, as num_classes=3 says, but the first batch has 1 to 4",
    ),
    "floats": (
        LitClassifier(plain()), (IMAGES, CLASSES.float()),
        "integers of shape (4,), and the loader gives (4,) of torch.float32",
    ),
    "masks": (LitClassifier(plain()), (IMAGES, MASKS), "each image has a class: the targets of a batch are"),
    "no masks": (LitSegmenter(nn.Conv2d(3, 2, 1)), (IMAGES, CLASSES), "each image has a mask of its size: the targets"),
    "pixels": (
        LitSegmenter(nn.Conv2d(3, 2, 1, stride=2)), (IMAGES, MASKS),
        "gives (2, 2, 16, 16) for 2 images, and this training has 2 classes (num_classes) and masks of 32 x 32 pixels",
    ),
    "values": (LitSegmenter(nn.Conv2d(3, 2, 1)), (IMAGES, MASKS + 7), "but the first batch has 7 to 7"),
    "no pair": (LitClassifier(plain()), {"image": IMAGES, "label": CLASSES}, "the loader gives a dict of image, label"),
}  # fmt: skip


@pytest.mark.parametrize("first", ["train", "validation", "test"])
@pytest.mark.parametrize("case", UNFIT)
def test_what_does_not_fit_is_told(case, first):
    module, batch, message = UNFIT[case]
    before = {name: value.clone() for name, value in module.state_dict().items()}
    trainer = quiet_trainer(max_epochs=1, num_sanity_val_steps=int(first == "validation"))
    with pytest.raises(ValueError, match=re.escape(message)):
        trainer.test(module, Loader(batch)) if first == "test" else trainer.fit(module, Loader(batch), Loader(batch))
    assert trainer.global_step == 0
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


class Watched(nn.Module):
    """Writes down the modes that it runs in, and a random number each time."""

    def __init__(self):
        super().__init__()
        self.frozen, self.norm, self.seen = plain().eval(), nn.BatchNorm1d(10), []

    def forward(self, x):
        self.seen.append((self.frozen.training, self.norm.training, torch.rand(()).item()))
        return self.norm(self.frozen(x))


@pytest.mark.filterwarnings("ignore:Found . module.s. in eval mode")
def test_a_look_at_the_first_batch_leaves_no_trace():
    module = LitClassifier(network=Watched())
    torch.manual_seed(3)
    expected = torch.rand(()).item()
    torch.manual_seed(3)
    trainer = quiet_trainer(max_epochs=2)
    trainer.fit(module, Loader((IMAGES, CLASSES)), Loader((IMAGES, CLASSES)))
    look, step, evaluated = [False, False], [False, True], [False, False]  # frozen layers stay frozen
    # looked at once in training and once in validation
    assert [modes for *modes, _ in module.network.seen] == [look, step, look, evaluated, step, evaluated]
    assert module.network.seen[1][2] == expected
    assert module.network.norm.num_batches_tracked == trainer.global_step == 2


def test_probabilities_of_classes_fit_as_mixup_makes_them():
    module = LitClassifier(plain())
    soft = torch.full((4, 10), 0.1)
    trainer = quiet_trainer(max_epochs=1)
    trainer.fit(module, Loader((IMAGES, soft)), Loader((IMAGES, CLASSES)))
    assert trainer.global_step == 1
    uniform = nn.functional.log_softmax(module(IMAGES), 1).mean(1)
    torch.testing.assert_close(module.task_loss(module(IMAGES), soft), -uniform.mean())


def test_pixels_that_nobody_has_labelled_are_no_class():
    module = LitSegmenter(nn.Conv2d(3, 1, 1))
    trainer = quiet_trainer(max_epochs=1)
    batch = (IMAGES, MASKS.index_fill(1, torch.tensor([3]), 255))
    trainer.fit(module, Loader(batch), Loader(batch))
    assert trainer.global_step == 1
