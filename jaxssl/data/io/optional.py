"""Packages that are needed for some formats only."""

import importlib
from types import ModuleType

from jaxssl.errors import UserError


def load_package(name: str, extra: str) -> ModuleType:
    """Import a package of an extra of jaxssl.

    Args:
      name: of the module, such as "astropy.io.fits".
      extra: name of the extra that installs it, which is the name of the format.

    Raises:
      UserError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        package = name.split(".")[0]
        raise UserError(
            f"{extra.upper()} files need the package {package}: pip install 'jaxssl[{extra}]'",
            code="missing",
            field=package,
        ) from error
