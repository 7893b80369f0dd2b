"""What is set of JAX before it starts, with a reason each; the environment variable of an option's name goes before.

XLA_FLAGS are left as they are found: no result here depends on one.
"""

import os
from pathlib import Path
from typing import Any

import jax

OPTIONS: dict[str, Any] = {
    # A run that goes on, as after each preemption, compiles nothing that it compiled before.
    "jax_compilation_cache_dir": str(Path("~/.cache/jaxssl/xla").expanduser()),
    # What the processes of one run talk by where they have CPUs alone.
    "jax_cpu_collectives_implementation": "gloo",
    # It would take SIGTERM for itself, and knows nothing of SIGUSR1; jaxssl.train agrees on both.
    "jax_enable_preemption_service": False,
}


def apply() -> None:
    for name, value in OPTIONS.items():
        if name.upper() not in os.environ:
            jax.config.update(name, value)
