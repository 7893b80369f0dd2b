"""Lists the packages; all else is in pyproject.toml. configs/ lies next to the package and is installed inside it."""

from setuptools import find_packages, setup

setup(packages=[*find_packages(include=["jaxssl*"]), "jaxssl.configs"], package_dir={"jaxssl.configs": "configs"})
