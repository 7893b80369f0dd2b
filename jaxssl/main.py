"""`python -m jaxssl.main --config=configs/byol_lenses.py --workdir=DIR`, which is `jaxssl run`."""

import sys

from jaxssl.cli.parser import console

if __name__ == "__main__":
    console(["run", *sys.argv[1:]])
