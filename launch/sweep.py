"""`python launch/sweep.py --config=CONFIG --workdir=DIR`, which is `jaxssl sweep`."""

import sys

from jaxssl.cli.parser import console

if __name__ == "__main__":
    console(["sweep", *sys.argv[1:]])
