"""Logs energy, latency and area per image on the chip."""

from importlib.util import find_spec
from typing import Any, get_args

import lightning as L
from torch import Tensor, nn

from hardware.chip import RealLayers, Scale
from hardware.mapping import Mapping
from hardware.passes import Execution
from lit_scaledrop.chip.energy import Estimate, energy_metrics, estimate_energy
from lit_scaledrop.chip.figure import draw_energy
from lit_scaledrop.chip.options import ChipOptions

_TABLE = ("layer", "component", "operations", "energy_pj", "latency_ns", "area_um2")


class CrossbarEnergy(L.Callback):
    """Log energy, latency and area of an image on the chip: T passes, in expectation over their masks.

    ``hw/energy_nj``, ``hw/latency_us``, ``hw/area_mm2`` and, for every component, ``hw/energy_nj/NAME`` go to every
    logger when a test ends, from the first process alone. ``scaledrop fit`` evaluates without ``trainer.test``: it logs
    the same numbers at its end and puts them into the result. A logger that takes images (W&B's) gets a picture, by
    layer and component. The energy depends on the network's layers and drop probabilities, not on its weights: where it
    changes from epoch to epoch, the network does. Shared execution draws its masks, of the same seed each time.
    Training is left as it is.

    An ensemble on the chip takes what its members take together; its members log, it does not.

    Args:
        passes: T; a network that draws nothing makes one pass.
        adc: converters by name, of ``hardware/presets/components.yaml`` or of the preset.
        adc_bits: bits of the converters; ``None``: as many as exact partial sums need.
        scale: scale and BatchNorm in front of a sign folded into thresholds, or multiplied where kept.
        skip_bits: bits of a number on a skip.
        mapping: how a convolution lies on crossbars.
        rows: inputs of a crossbar.
        columns: outputs of a crossbar.
        columns_per_adc: columns that share a converter.
        real_layers: first and last layer: digital, counted as if binary, or excluded.
        execution: every pass by itself, once what nothing random precedes, or common prefixes once.
        mtj: name of the junction that makes the random bits; ``None``: the paper's module.
        every_epoch: log after each epoch of training as well.
        preset: YAML file whose constants replace those of ``hardware/presets/components.yaml``, with its converters.
        seed: of the masks of shared execution; 0 gives the first passes of a default evaluation.
        chip: chip file, see ``scaledrop chip``; the options of a chip that are ``None`` are as it says, or as in our
            default chip.

    Raises:
        ValueError: for a chip or a preset that cannot be.
    """

    def __init__(
        self,
        passes: int = 10,
        adc: str | None = None,
        adc_bits: int | None = None,
        scale: Scale | None = None,
        skip_bits: int | None = None,
        mapping: Mapping | None = None,
        rows: int | None = None,
        columns: int | None = None,
        columns_per_adc: int | None = None,
        real_layers: RealLayers | None = None,
        execution: Execution = "loop",
        mtj: str | None = None,
        every_epoch: bool = False,
        preset: str | None = None,
        seed: int = 0,
        chip: str | None = None,
    ) -> None:
        if passes < 1:
            raise ValueError(f"passes (T) must be at least 1, got {passes}")
        if execution not in get_args(Execution):
            raise ValueError(f"execution must be one of {', '.join(get_args(Execution))}, got {execution!r}")
        self.passes, self.execution, self.every_epoch, self.seed = passes, execution, every_epoch, seed
        self.chip = ChipOptions(
            chip=chip,
            rows=rows,
            columns=columns,
            columns_per_adc=columns_per_adc,
            mapping=mapping,
            adc=adc,
            adc_bits=adc_bits,
            scale=scale,
            skip_bits=skip_bits,
            real_layers=real_layers,
            mtj=mtj,
            preset=preset,
        ).build()
        self._shape: tuple[int, ...] | None = None

    def estimate(self, network: nn.Module, input_shape: tuple[int, ...]) -> Estimate:
        """The network on this chip."""
        return estimate_energy(network, input_shape, self.passes, self.chip, self.execution, seed=self.seed)

    def finish(self, trainer: L.Trainer, network: nn.Module, input_shape: tuple[int, ...]) -> dict[str, float]:
        """Numbers of a trained network, for a record; loggers that take them get the breakdown and its picture."""
        report = self.estimate(network, input_shape).report()
        for logger in trainer.loggers:
            if hasattr(logger, "log_table"):
                rows = [[getattr(entry, name) for name in _TABLE] for entry in report.entries]
                logger.log_table("hw/energy_breakdown", [*_TABLE], rows, step=trainer.global_step)
            if hasattr(logger, "log_image") and find_spec("matplotlib"):
                title = f"{type(network).__name__}, one image, T = {self.passes}, {self.execution}"
                logger.log_image("hw/energy", [draw_energy(report, title)], step=trainer.global_step)
        return energy_metrics(report)

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Before the first step, find out whether the chip holds the network: not after hours of training."""
        if self._shape is None:
            self._shape = _image_shape(batch)
            self.estimate(_network(pl_module), self._shape).report()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log the epoch's energy, if asked for."""
        if self.every_epoch and self._shape is not None and trainer.is_global_zero:
            report = self.estimate(_network(pl_module), self._shape).report()
            pl_module.log_dict(energy_metrics(report), rank_zero_only=True)

    def on_test_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """See how large an image is."""
        self._shape = _image_shape(batch)

    def on_test_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log the energy."""
        if self._shape is not None and trainer.is_global_zero:
            pl_module.log_dict(self.finish(trainer, _network(pl_module), self._shape), rank_zero_only=True)


def _network(pl_module: L.LightningModule) -> nn.Module:
    network: nn.Module = getattr(pl_module, "network", pl_module)
    return network


def _image_shape(batch: Any) -> tuple[int, ...]:
    images = batch[0] if isinstance(batch, tuple | list) else batch
    if not isinstance(images, Tensor):
        raise ValueError(
            f"CrossbarEnergy looks at the images to know their size: batches must be tensors or begin with one, not "
            f"{type(images).__name__}"
        )
    return tuple(images.shape[1:])
