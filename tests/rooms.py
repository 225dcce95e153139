"""The rooms of the code, drawn from its imports: `python tests/rooms.py [PICTURE.svg]` counts and prints them."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("lit_scaledrop", "datamodules", "hardware")
#: from the ground up; a file imports its own room and lower floors, nothing else
FLOORS = (
    ("results", "hardware", "datamodules", "shapes", "naming", "progress", "extras"),
    ("layers", "functional", "report", "sweep"),
    ("posterior", "methods"),
    ("networks", "metrics"),
    ("modules", "chip"),
    ("evaluation",),
    ("callbacks",),
    ("runs", "deploy"),
    ("cli",),
)
#: where a room is drawn, from left to right
_ACROSS = {
    "results": 0.12, "hardware": 0.62, "datamodules": 0.84, "layers": 0.08, "functional": 0.29, "report": 0.95,
    "sweep": 0.7, "posterior": 0.18, "methods": 0.44, "networks": 0.27, "metrics": 0.1, "modules": 0.18, "chip": 0.56,
    "evaluation": 0.8, "callbacks": 0.38, "runs": 0.52, "deploy": 0.93, "cli": 0.7,
}  # fmt: skip
FLOOR = {room: number for number, rooms in enumerate(FLOORS, 1) for room in rooms}
#: the hall, whose files choose among the rooms
HALL = ("__init__", "__main__")


def sources(*folders: str) -> list[Path]:
    """Python files of some folders of the repository."""
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def imports(path: Path, top_level_only: bool = False) -> Iterator[str]:
    """Dotted names that a file imports; at the top level, not inside functions or ``if TYPE_CHECKING``."""

    def visit(node: ast.AST) -> Iterator[str]:
        for child in ast.iter_child_nodes(node):
            inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            if top_level_only and (
                inside or (isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test))
            ):
                continue
            if isinstance(child, ast.Import):
                yield from (alias.name for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, f"{path}: relative imports hide who imports whom"
                assert child.module
                inner = [f"{child.module}.{alias.name}" for alias in child.names]
                # a package is no source of what its files have
                yield from inner if all(map(is_module, inner)) else (child.module, *inner)
            else:
                yield from visit(child)

    yield from visit(ast.parse(path.read_text(encoding="utf-8")))


def is_module(name: str) -> bool:
    """Whether a dotted name is a file or a folder of the repository."""
    path = ROOT.joinpath(*name.split("."))
    return path.is_dir() or path.with_suffix(".py").is_file()


def module_of(path: Path) -> str:
    """Dotted name of a file."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def room_of(module: str) -> str:
    """Room of a module, by its name on the list of floors.

    >>> room_of("lit_scaledrop.layers.binary"), room_of("datamodules.files.fetch"), room_of("lit_scaledrop.naming")
    ('layers', 'datamodules', 'naming')
    """
    package, _, rest = module.partition(".")
    return rest.split(".")[0] if package == "lit_scaledrop" else package


def folder_of(module: str, modules: dict[str, Path]) -> str:
    """The innermost room of a module: its folder, or its own file in the hall."""
    path = modules[module].relative_to(ROOT)
    return str(path.parent) if len(path.parts) > 2 or path.parts[0] != "lit_scaledrop" else str(path)


def graph() -> dict[str, set[str]]:
    """Modules and the modules that they import."""
    modules = {module_of(path): path for path in sources(*PACKAGES)}
    return {module: {name for name in imports(path) if name in modules} for module, path in modules.items()}


def upward(arrows: dict[str, set[str]]) -> list[str]:
    """Imports that leave a room for a floor that is not below it."""
    found = []
    for module, others in arrows.items():
        room = room_of(module)
        if module == "lit_scaledrop" or room in HALL or room == "configs":
            continue
        for other in sorted(others):
            target = room_of(other)
            if target not in (room, "") and FLOOR[target] >= FLOOR[room]:
                found.append(f"{module} (floor {FLOOR[room]}) imports {other} (floor {FLOOR[target]})")
    return found


def circles(arrows: dict[str, set[str]]) -> list[tuple[str, ...]]:
    """Groups of modules that import one another, by Tarjan's strongly connected components."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[tuple[str, ...]] = []

    def visit(module: str) -> None:
        index[module] = low[module] = len(index)
        stack.append(module)
        for other in arrows[module]:
            if other not in index:
                visit(other)
                low[module] = min(low[module], low[other])
            elif other in stack:
                low[module] = min(low[module], index[other])
        if low[module] == index[module]:
            group = stack[stack.index(module) :]
            del stack[stack.index(module) :]
            if len(group) > 1:
                found.append(tuple(sorted(group)))

    for module in arrows:
        if module not in index:
            visit(module)
    return found


def lines(*folders: str) -> int:
    """Lines of Python in some folders."""
    return sum(len(path.read_text(encoding="utf-8").splitlines()) for path in sources(*folders))


def main(picture: str | None = None) -> None:
    """Print the counts; draw the rooms into a file."""
    arrows = graph()
    modules = {module_of(path): path for path in sources(*PACKAGES)}
    folder = {module: folder_of(module, modules) for module in modules}
    between = {(folder[m], folder[o]) for m, others in arrows.items() for o in others if folder[m] != folder[o]}
    print(f"files in the hall        {len(list((ROOT / 'lit_scaledrop').glob('*.py')))}")
    print(f"rooms                    {len(set(folder.values()))}")
    print(f"floors                   {len(FLOORS)}")
    print(f"arrows between rooms     {len(between)}")
    print(f"upward arrows            {len(upward(arrows))}")
    print(f"circles of imports       {len(circles(arrows))}")
    print(f"lines outside tests      {lines(*PACKAGES, 'benchmarks', 'tools')}")
    print(f"lines of tests           {lines('tests')}")
    for problem in (*upward(arrows), *map(str, circles(arrows))):
        print(f"  {problem}")
    if picture:
        draw(arrows, Path(picture))


def draw(arrows: dict[str, set[str]], path: Path) -> None:
    """Rooms on their floors. An arrow: imports. Those that a chain of others implies are left out.

    In an SVG each room and each arrow has an id, by which a test compares a drawing with the code.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    everywhere = ("shapes", "naming", "progress", "extras")
    below: dict[str, set[str]] = {room: set() for room in FLOOR}
    for module, others in arrows.items():
        if (room := room_of(module)) in FLOOR:
            below[room] |= {room_of(o) for o in others} & set(FLOOR) - {room, *everywhere}

    def reach(room: str) -> set[str]:
        return below[room].union(*map(reach, below[room])) if below[room] else set()

    place = {room: (_ACROSS[room], FLOOR[room]) for room in below if room not in everywhere}
    figure = Figure(figsize=(8, 7), layout="constrained")
    axes = figure.subplots()
    boxes = {}
    for room, (x, y) in place.items():
        box = {"boxstyle": "round,pad=0.5", "fc": "#eef3fb", "ec": "#33557f"}
        text = axes.text(x, y, room, ha="center", va="center", bbox=box, fontsize=11, zorder=3, gid=f"room-{room}-{y}")
        boxes[room] = text.get_bbox_patch()
    for room, others in below.items():
        for other in sorted(others - set().union(*map(reach, others))) if others else ():
            style = {"arrowstyle": "-|>", "color": "#6b7a90", "lw": 1.0, "shrinkA": 0, "shrinkB": 0}
            ends = {"patchA": boxes[room], "patchB": boxes[other]}
            arrow = axes.annotate("", place[other], place[room], arrowprops=style | ends)
            arrow.arrow_patch.set_gid(f"arrow-{room}-{other}")
    axes.set(xlim=(0, 1.05), ylim=(0.5, len(FLOORS) + 0.5), yticks=range(1, len(FLOORS) + 1), xticks=[])
    axes.set_ylabel("floor")
    axes.tick_params(length=0)
    for side in axes.spines.values():
        side.set_visible(False)
    with rc_context({"svg.hashsalt": "rooms"}):
        figure.savefig(path, metadata={"Date": None, "Creator": None} if path.suffix == ".svg" else {})


if __name__ == "__main__":
    main(*sys.argv[1:])
