"""Parse the text of a command-line value by the type of the field's default."""

import ast
from typing import Any

from jaxssl.errors import UserError

BOOLEANS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


def parse_value(path: str, text: str, default: Any, item: type = str, optional: bool = False) -> Any:
    """Return the value that a text stands for.

    Args:
      path: of the field, for errors.
      text: `True`, `yes`, `1e2`, `cosine`, `probe,knn`, `(0.2, 1)`, ...
      default: gives the type. None: the text is a Python literal, a comma-separated list, or a string.
      item: type of the items of a tuple whose default is empty.
      optional: whether "None" is allowed.

    Raises:
      UserError: the text is not of the type.
    """
    text = text.strip()
    if optional and text.lower() == "none":
        return None
    if default is None:
        literal = _literal(text)
        if literal is not None:
            return tuple(literal) if isinstance(literal, list) else literal
        return tuple(_items(text)) if "," in text or text.startswith(("(", "[")) else text
    if isinstance(default, tuple):
        kind = type(default[0]) if default else item
        if text.lower() == "none":
            raise _wrong_type(path, text, "a list, such as 1,2; write () for an empty one")
        return tuple(_parse_item(path, text, part, kind) for part in _items(text))
    return _parse_item(path, text, text, type(default))


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (TypeError, ValueError, SyntaxError, MemoryError, RecursionError):
        return None


def _items(text: str) -> list[str]:
    """Split `probe,knn`, `(probe, knn)`, `['probe', 'knn']` or `probe` into the texts of its items."""
    literal = _literal(text)
    if isinstance(literal, tuple | list):
        return [value if isinstance(value, str) else repr(value) for value in literal]
    inner = text[1:-1] if text[:1] + text[-1:] in ("()", "[]") else text
    parts = [part.strip() for part in inner.split(",")]
    if parts[-1] == "":  # `probe,` is a tuple of one, and an empty text one of none.
        parts.pop()
    return parts


def _parse_item(path: str, whole: str, text: str, kind: type) -> Any:
    if kind is str:
        if text.lower() == "none":
            raise _wrong_type(path, whole, "a string: write '' for an empty one")
        return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" else text
    if kind is bool:
        if text.lower() not in BOOLEANS:
            raise _wrong_type(path, whole, "true or false")
        return BOOLEANS[text.lower()]
    try:
        number = float(text) if not text.lower().startswith(("0x", "0b")) else None
    except ValueError:
        number = None
    if kind is float:
        if number is None:
            raise _wrong_type(path, whole, "a number, such as 0.1")
        return number
    if kind is int:
        # Not through float, which has not all digits of a large integer.
        literal = _literal(text)
        if isinstance(literal, int) and not isinstance(literal, bool):
            return literal
        if number is None or not number.is_integer():
            raise _wrong_type(path, whole, "an integer, such as 10")
        return int(number)
    raise _wrong_type(path, whole, f"set in a config file: values of type {kind.__name__} have no text")


def _wrong_type(path: str, text: str, wanted: str) -> UserError:
    return UserError(f"{path}={text!r} must be {wanted}", code="out-of-range", field=path)
