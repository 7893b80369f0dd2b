"""`python launch/sweep.py --config=... --workdir=...`: the cells of a config's `sweep()`, here or as Slurm jobs."""

from jaxssl.study import sweep

if __name__ == "__main__":
    sweep.run_command()
