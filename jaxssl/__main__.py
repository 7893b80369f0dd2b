"""`python -m jaxssl COMMAND`, which is `jaxssl COMMAND`."""

from jaxssl.cli.parser import console

if __name__ == "__main__":
    console()
