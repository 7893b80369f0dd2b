"""Where the time of a step goes, by kind of operation, from XLA's own profile."""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax

# Kind of operation -> what XLA's CPU compiler calls it; the first that matches. A fusion is named after its last ones.
KINDS = {
    "products": r"^(ynn|dot|convolution|custom-call)",
    "reductions": r"reduce|sort",
    "elementwise": r"add|subtract|multiply|divide|maximum|minimum|select|compare|convert|exp|log|tanh|rsqrt|broadcast",
    "moving data": "",  # Concatenation, padding, slices, transposition, copies.
}
# These last as long as the operations within or before them, which have events of their own.
AROUND = re.compile(r"^(while|call|conditional|Thunk|Slinky|Wait|end:)|::")


def profile(step: Callable, state: Any, batch: dict, folder: Path, steps: int = 3) -> dict[str, float]:
    """Return the share of each kind of `KINDS` in the time that all threads spend in operations.

    Args:
      step: (state, batch) -> new state, anything. Compiled, and run at least once.
      state: its buffers are donated.
      batch: of the step.
      folder: for the profile.
      steps: that are run.
    """
    with jax.profiler.trace(str(folder)):
        for _ in range(steps):
            state, _ = step(state, batch)
        jax.block_until_ready(state)
    total = Counter(dict.fromkeys(KINDS, 0.0))
    for name, nanoseconds in _read_operations(folder):
        total[next(kind for kind, pattern in KINDS.items() if re.search(pattern, name))] += nanoseconds
    return {kind: round(of / max(total.total(), 1), 3) for kind, of in total.items()}


def _read_operations(folder: Path) -> Iterator[tuple[str, float]]:
    """Yield name and nanoseconds of each operation that XLA's threads ran."""
    (file,) = folder.rglob("*.xplane.pb")
    for plane in jax.profiler.ProfileData.from_file(str(file)).planes:
        for line in plane.lines:
            if line.name.startswith("tf_XLA"):
                yield from ((e.name, e.duration_ns) for e in line.events if not AROUND.search(e.name))
