"""How the code hangs together: modules, lines, imports, floors and circles of each package.

    python -m benchmarks.structure
    python -m benchmarks.structure OTHER_CHECKOUT --packages deepfake app training

A *floor* is one step of the longest chain of imports, a *circle* a set of modules that reach each
other; imports inside functions and for types alone count. The layers that the code keeps to are
checked by ``lint-imports`` (in ``make lint``).
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Iterable, Mapping
from graphlib import TopologicalSorter
from pathlib import Path

import grimp
from rich.console import Console
from rich.table import Table

HERE = Path(__file__).resolve().parent.parent
PACKAGES = ("deepfake", "deepfake_app", "deepfake_training")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.structure",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("checkout", nargs="?", type=Path, default=HERE)
    parser.add_argument("--packages", nargs="+", default=PACKAGES, metavar="NAME")
    options = parser.parse_args()
    folders = [options.checkout, options.checkout / "app", options.checkout / "training"]
    sys.path[:0] = map(str, folders)
    rows = [measure(name) for name in options.packages]
    heads = [
        *("package", "rooms", "modules", "lines", "median", "longest", "imports"),
        *("floors", "circles", "modules in circles"),
    ]
    table = Table(*heads)
    for row in rows:
        table.add_row(*row)
    Console().print(table)


def measure(name: str) -> list[str]:
    """The row of one package, which must be importable."""
    graph = grimp.build_graph(name, cache_dir=None)
    modules = sorted(graph.modules)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in modules}
    lines = [count_lines(path) for path in find_files(name, modules)]
    circles = find_circles(imports)
    rooms = {module.split(".")[1] for module in modules if module.count(".") > 1}
    return [
        name,
        f"{len(rooms)}",
        f"{len(modules)}",
        f"{sum(lines):,}",
        f"{statistics.median(lines):.0f}",
        f"{max(lines)}",
        f"{sum(map(len, imports.values()))}",
        f"{count_floors(imports, circles)}",
        f"{len(circles)}",
        f"{sum(map(len, circles))}",
    ]


def find_files(name: str, modules: Iterable[str]) -> list[Path]:
    """The file of every module of a package on ``sys.path``."""
    top = next(path for path in map(Path, sys.path) if (path / name / "__init__.py").exists())
    places = [top.joinpath(*module.split(".")) for module in modules]
    return [
        place / "__init__.py" if place.is_dir() else place.with_suffix(".py") for place in places
    ]


def count_lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def find_circles(imports: Mapping[str, set[str]]) -> list[set[str]]:
    """Sets of two or more modules that all reach each other."""
    reach = {module: _reachable(module, imports) for module in imports}
    circles: list[set[str]] = []
    for module in imports:
        circle = {other for other in reach[module] if module in reach[other]}
        if len(circle) > 1 and circle not in circles:
            circles.append(circle)
    return circles


def count_floors(imports: Mapping[str, set[str]], circles: Iterable[set[str]]) -> int:
    """The longest chain of imports, a circle taken as one module."""
    place = {module: module for module in imports}
    for circle in circles:
        place |= dict.fromkeys(circle, min(circle))
    below: dict[str, set[str]] = {spot: set() for spot in place.values()}
    for module, targets in imports.items():
        below[place[module]] |= {place[target] for target in targets} - {place[module]}
    floor: dict[str, int] = {}
    for spot in TopologicalSorter(below).static_order():
        floor[spot] = 1 + max((floor[other] for other in below[spot]), default=0)
    return max(floor.values())


def _reachable(module: str, imports: Mapping[str, set[str]]) -> set[str]:
    found: set[str] = set()
    waiting = [module]
    while waiting:
        for target in imports[waiting.pop()] - found:
            found.add(target)
            waiting.append(target)
    return found


if __name__ == "__main__":
    main()
