"""The commands, what each is for, and which module runs it; imports nothing heavy."""

from collections.abc import Sequence

COMMANDS = {
    "fit": "train, evaluate and record one run (LightningCLI)",
    "validate": "validation accuracy of a checkpoint (LightningCLI)",
    "test": "deterministic test accuracy of a checkpoint (LightningCLI)",
    "predict": "--images: classes or masks of your own pictures; else of a checkpoint on a test set",
    "evaluate": "posterior metrics of a checkpoint on a test set",
    "verify": "a committed result, measured again from its weights",
    "assess": "uncertainty, shift and calibration of a run of Table III",
    "summary": "weights, memory, operations and random bits of a network by layer",
    "export": "a trained network as a packed file, ONNX or torch.export program",
    "energy": "energy, time and area of an image on a chip",
    "cost": "dropout modules and energy of methods on topologies, recorded",
    "chip": "a chip file: write one, explain it, put a trained network on it",
    "device": "fit: a junction's switching law from counted pulses",
    "figure8": "masks and uncertainty of Table V's networks, as pictures",
    "sweep": "run a W&B sweep file here, without a server",
    "report": "tables and figures from the results",
    "data": "list, fetch and check the data sets",
    "completion": "a script for bash that completes all this",
    "doctor": "versions, devices, data and tracking of this machine",
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
