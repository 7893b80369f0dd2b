"""Draws which room imports which, as a matrix in the order of the contract in pyproject.toml."""

import ast
import re
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

CELL, MARGIN = 26, 120


def rooms(root: Path) -> list[str]:
    """Return the rooms from top to bottom, from import-linter's contract."""
    settings = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    layers = settings["tool"]["importlinter"]["contracts"][0]["layers"]
    return [name.strip().removeprefix("jaxssl.") for layer in layers for name in layer.split(":")]


def imported(file: Path) -> Iterator[str]:
    """Yield the modules of jaxssl that a file imports, such as "jaxssl.data.pipeline"."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module == "jaxssl":
            yield from (f"jaxssl.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def count(root: Path) -> Counter[tuple[str, str]]:
    """Return {(room, imported room): number of imports}, without imports within a room."""
    found: Counter[tuple[str, str]] = Counter()
    for file in sorted((root / "jaxssl").rglob("*.py")):
        room = file.relative_to(root / "jaxssl").parts[0].removesuffix(".py")
        for module in imported(file):
            match = re.match(r"jaxssl\.(\w+)", module)
            if match and match[1] != room:
                found[room, match[1]] += 1
    return found


def draw(root: Path) -> str:
    """Return the picture as SVG: a row imports from the columns whose cells are filled, with the number of imports."""
    names, numbers = rooms(root), count(root)
    side = MARGIN + CELL * len(names)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {side + 10} {side + 10}" width="{side + 10}" '
        'font-family="system-ui, sans-serif" font-size="13" fill="#222">',
        "<title>Imports between the rooms of jaxssl: all filled cells are right of the diagonal</title>",
        f'<rect width="{side + 10}" height="{side + 10}" fill="#fff"/>',
    ]
    for i, row in enumerate(names):
        y = MARGIN + CELL * i
        x = MARGIN + CELL * i + CELL / 2
        parts.append(f'<text x="{MARGIN - 8}" y="{y + 18}" text-anchor="end">{row}</text>')
        parts.append(f'<text transform="translate({x + 4} {MARGIN - 8}) rotate(-60)">{row}</text>')
        parts.append(f'<rect x="{MARGIN + CELL * i}" y="{y}" width="{CELL}" height="{CELL}" fill="#ddd"/>')
        for j, column in enumerate(names):
            number = numbers[row, column]
            left = MARGIN + CELL * j
            if number:
                fill, opacity = "#3b6ea5" if j > i else "#c0392b", min(1.0, 0.35 + 0.08 * number)
                parts.append(
                    f'<rect x="{left}" y="{y}" width="{CELL}" height="{CELL}" fill="{fill}" opacity="{opacity:.2f}"/>'
                    f'<text x="{left + CELL / 2}" y="{y + 18}" text-anchor="middle" fill="#fff">{number}</text>'
                )
    for k in range(len(names) + 1):
        place = MARGIN + CELL * k
        parts.append(f'<path d="M{MARGIN} {place}H{side}M{place} {MARGIN}V{side}" stroke="#e4e4e4" fill="none"/>')
    return "\n".join([*parts, "</svg>\n"])
