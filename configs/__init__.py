"""Configs of experiments, one file each; installed as `jaxssl.configs`."""
