"""A command line made from a function's signature."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import pytest

from lit_scaledrop.cli.command import APPEND, UsageError, call


@dataclass(frozen=True)
class Rule:
    quantile: float = 0.1
    """of the passes"""
    where: Literal["left", "right"] = "left"
    """side"""
    hidden: int = 0
    """no flag"""


def half(text: str) -> float:
    return float(text) / 2


def command(
    files: list[Path],
    *,
    model: Annotated[str, "--ckpt_path"],
    rule: Rule,
    in_channels: int | None = None,
    from_: Path | None = None,
    seeds: tuple[int, ...] = (1, 2),
    tags: Annotated[list[str] | None, APPEND] = None,
    rate: Annotated[float, half] = 0.5,
    loud: bool = False,
) -> dict:
    """Do something.

    Args:
        files: what is read, 100 % of it.
        model: its name.
        rule: of the decision.
        in_channels: channels (default: those of the data).
        from_: a folder.
        seeds: of the runs.
        tags: marks.
        rate: half of it.
        loud: say more.
    """
    return locals()


def test_every_kind_of_parameter():
    plain = call(command, ["a", "b", "--model", "m"], "do")
    assert plain["files"] == [Path("a"), Path("b")]
    assert plain["rule"] == Rule()
    assert plain["seeds"] == [1, 2]
    assert (plain["in_channels"], plain["tags"], plain["rate"], plain["loud"]) == (None, None, 0.5, False)
    words = ["a", "--ckpt_path=m", "--quantile=0.2", "--where", "right", "--in-channels", "3", "--from", "d"]
    given = call(command, [*words, "--seeds", "4", "5", "--tags", "x", "--tags", "y", "--rate", "3", "--loud"], "do")
    assert given["model"] == "m"
    assert given["rule"] == Rule(0.2, "right")
    assert (given["in_channels"], given["from_"], given["seeds"]) == (3, Path("d"), [4, 5])
    assert (given["tags"], given["rate"], given["loud"]) == (["x", "y"], 1.5, True)


def test_a_default_of_a_dataclass_is_that_of_its_flags(capsys):
    def decide(*, rule: Rule = Rule(0.3, hidden=2)) -> Rule:
        """Decide."""
        return rule

    assert call(decide, [], "decide", without=("hidden",)) == Rule(0.3, "left", 2)
    assert call(decide, ["--where=right"], "decide", without=("hidden",)) == Rule(0.3, "right", 2)
    with pytest.raises(SystemExit):
        call(decide, ["--help"], "decide")
    assert "of the passes (default: 0.3)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a"], "required: --model"),
        (["--model=m"], "required: files"),
        (["a", "--model=m", "--where=up"], "invalid choice: 'up'"),
        (["a", "--model=m", "--rate=x"], "invalid half value: 'x'"),
        (["a", "--model=m", "--hidden=1"], "unrecognized arguments: --hidden=1"),
        (["a", "--model=m", "--quant=1"], "unrecognized arguments: --quant=1"),
    ],
)
def test_what_does_not_fit_is_told_with_the_usage(words, message, capsys):
    with pytest.raises(SystemExit) as stop:
        call(command, words, "scaledrop do", without=["hidden"])
    assert stop.value.code == 2
    told = capsys.readouterr().err
    assert "usage: scaledrop do" in told
    assert message in told


def test_help_is_the_docstring(capsys):
    with pytest.raises(SystemExit):
        call(command, ["--help"], "scaledrop do", known={"model": ["net-a", "net-b"]})
    text = " ".join(capsys.readouterr().out.split())
    for part in (
        "its name: net-a, net-b",
        "Do something.",
        "100 % of it",
        "(default: those of the data)",
        "of the passes (default: 0.1)",
    ):
        assert part in text
    assert "those of the data) (default" not in text


def test_a_rest_is_passed_on_and_a_refusal_is_one_of_the_usage(capsys):
    def rest(*flags: str, probe: str) -> tuple:
        """Take all."""
        if probe == "bad":
            raise UsageError("not this one")
        return flags, probe

    assert call(rest, ["--x=1", "--probe", "p", "--y", "2"], "do") == (("--x=1", "--y", "2"), "p")
    with pytest.raises(SystemExit):
        call(rest, ["--probe=bad"], "do")
    assert "do: error: not this one" in capsys.readouterr().err
