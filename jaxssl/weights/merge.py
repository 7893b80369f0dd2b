"""Strict comparison of two trees of arrays by name and shape."""

from typing import Any

import jax

from jaxssl.errors import UserError

Tree = Any
MAX_LISTED = 5  # Differences in a message.


def describe_difference(expected: Tree, given: Tree) -> list[str]:
    """Return one line for each name or shape in which two trees differ; empty if they agree."""

    def shapes(tree: Tree) -> dict[str, tuple[int, ...]]:
        return {jax.tree_util.keystr(k): tuple(v.shape) for k, v in jax.tree_util.tree_leaves_with_path(tree)}

    expected, given = shapes(expected), shapes(given)
    return (
        [f"missing {name} {shape}" for name, shape in expected.items() if name not in given]
        + [f"unexpected {name} {shape}" for name, shape in given.items() if name not in expected]
        + [f"{n}: {given[n]} is not {expected[n]}" for n in expected if n in given and given[n] != expected[n]]
    )


def merge(expected: Tree, given: Tree, where: str) -> Tree:
    """Return `given` if it has exactly the names and shapes of `expected`.

    Args:
      expected: tree of arrays or of `jax.ShapeDtypeStruct`.
      given: tree of arrays.
      where: what the message calls it, such as the path of a file.

    Raises:
      UserError: names or shapes differ.
    """
    difference = describe_difference(expected, given)
    if difference:
        more = f" and {len(difference) - MAX_LISTED} more" if len(difference) > MAX_LISTED else ""
        raise UserError(
            f"{where} does not fit this encoder: {'; '.join(difference[:MAX_LISTED])}{more}; check model.name, "
            "model.stem and model.options",
            code="mismatch",
            field="model.name",
        )
    return given
