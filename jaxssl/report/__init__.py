"""What a run found, as a page and as a table in the terminal: `python -m jaxssl.report WORKDIR...`."""
