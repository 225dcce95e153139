"""The commands, their help and the modules that run them; imports nothing heavy."""

from collections.abc import Sequence

COMMANDS = {
    "fit": "train, evaluate and record one run (LightningCLI)",
    "validate": "compute the validation accuracy of a checkpoint (LightningCLI)",
    "test": "compute the deterministic test accuracy of a checkpoint (LightningCLI)",
    "predict": "--images: classes or masks of your own images; else class probabilities on a test set",
    "evaluate": "compute accuracy, calibration and uncertainty of a checkpoint on a test set",
    "verify": "measure a committed result again from its weights",
    "assess": "measure uncertainty, shift or calibration of a trained run and record it",
    "summary": "list weights, memory, operations and random bits of a network by layer",
    "export": "export a trained network as a packed file, ONNX or torch.export program",
    "energy": "estimate energy, latency and area of a network on a chip",
    "cost": "record dropout modules (Table VII) and energy (Table VIII) of methods",
    "chip": "write or explain a chip file, simulate a trained network on it",
    "device": "fit the switching law of a junction to counts",
    "figure8": "draw masks and uncertainty of Table V's networks",
    "sweep": "run a W&B sweep file locally, without a server",
    "report": "make tables and figures from the results",
    "data": "list, download and check data sets",
    "completion": "print a completion script for bash",
    "doctor": "check versions, devices, data and tracking of this machine",
}
"""Each is the module of its name in ``lit_scaledrop.cli``, but for Lightning's four."""
LIGHTNING = {"fit", "validate", "test", "predict"}


def meant(command: str, words: Sequence[str]) -> tuple[str, str, list[str]]:
    """A command as messages call it, the module whose ``main`` runs it, and the words that this takes.

    >>> meant("predict", ["--help"])[1], meant("predict", ["--ckpt_path", "best.ckpt"])
    ('lit_scaledrop.cli.predict', ('predict', 'lit_scaledrop.cli.fit', ['predict', '--ckpt_path', 'best.ckpt']))
    """
    own = list(words) in (["-h"], ["--help"]) or any(word.split("=")[0] == "--images" for word in words)
    if command == "predict" and own:
        return "predict --images", "lit_scaledrop.cli.predict", list(words)
    if command in LIGHTNING:
        return command, "lit_scaledrop.cli.fit", [command, *words]
    return command, f"lit_scaledrop.cli.{command}", list(words)
