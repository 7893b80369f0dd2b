"""Choice between two programs by the platform that a computation is lowered for."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
from jax import lax


def by_platform(cpu: Callable, default: Callable, *arrays: jax.Array, **static: Any) -> Any:
    """Calls `cpu` or `default`, each traced once for all layers of equal shapes and static arguments."""

    def traced_once(function: Callable) -> Callable:
        return partial(jax.jit(function, static_argnames=tuple(static)), **static)

    return lax.platform_dependent(*arrays, cpu=traced_once(cpu), default=traced_once(default))
