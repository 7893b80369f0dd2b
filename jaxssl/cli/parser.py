"""What the commands beside `jaxssl.main` have in common."""

import argparse


def parser(command: str, about: str) -> argparse.ArgumentParser:
    """Of `python -m command`, to be given its arguments; it has --debug."""
    top = argparse.ArgumentParser(
        f"python -m {command}",
        description=about,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--debug", action="store_true", help="Show the traceback of an error of the user's.")
    return top
