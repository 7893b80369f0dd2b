"""Long runs: over many epochs and many resumes, host memory and open files do not grow."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest

from jaxssl.run import experiment
from tests import tiny_config

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="memory and files are read from /proc"),
]
RESUMES, EPOCHS = 12, 8
WARM = 4  # Starts after which caches are full.


def resident_mib():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def open_files():
    return len(os.listdir("/proc/self/fd"))


class Stopped(Exception):
    pass


def test_memory_and_open_files_do_not_grow(tmp_path, monkeypatch):
    """Each start trains some epochs more, in one process, and is stopped after its last checkpoint."""
    c = tiny_config.get_config()
    c.pretrain.epochs = RESUMES * EPOCHS
    c.transfer.protocols = ("probe",)
    memory, files, saved = [], [], [0]
    save = experiment.metrics.Writer.resume

    def stop_at_times(writer):
        save(writer)
        saved[0] += 1
        if saved[0] % (EPOCHS + 1) == 0:
            raise Stopped

    monkeypatch.setattr(experiment.metrics.Writer, "resume", stop_at_times)
    for _ in range(RESUMES - 1):
        with pytest.raises(Stopped):
            experiment.run(c, tmp_path)
        memory.append(resident_mib())
        files.append(open_files())
    print("MiB:", *(round(m) for m in memory), "files:", *files)
    starts = np.arange(len(memory) - WARM)
    growth = np.polyfit(starts, memory[WARM:], 1)[0]
    assert growth < 8, "MiB a start"
    assert max(files[WARM:]) <= files[WARM] + 2
