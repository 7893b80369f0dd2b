"""Reading and writing of the JSON files of a workdir, each with its schema version."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxssl import files
from jaxssl.errors import UserError
from jaxssl.results import audit_schema, schema

REMEDY = "give the workdir of a finished run; one that was stopped is finished by its command (`jaxssl runs` lists it)"


def write(file: Path, content: Mapping[str, Any]) -> None:
    """Write `content` to a file with one of the names in `schema.VERSIONS`, atomically and with its schema version."""
    files.write_json(file, schema.with_version(file.name, content))


def read(file: Path, remedy: str = REMEDY) -> Any:
    """Return the content of a JSON file of a run or a study, after a check of its schema version.

    Args:
      file: with one of the names in `schema.VERSIONS`.
      remedy: what to do where the file cannot be read.

    Raises:
      UserError: the file is missing, is not JSON, or has another schema version than this jaxssl.
    """
    content = files.read_json(file, remedy)
    check_version(file, content)
    return content


def check_version(file: Path, content: Any) -> None:
    """Raise UserError unless `content` has the schema version that this jaxssl writes to `file`.

    The code is "damaged" if it is no object, "mismatch" if it has another version or none.
    """
    if not isinstance(content, dict):
        message = (
            f"{file} has no schema_version and is no JSON object: copy it back, or run the experiment again in a new "
            "workdir"
        )
        raise UserError(message, code="damaged", field=str(file))
    version, expected = content.get("schema_version"), schema.VERSIONS[file.name]
    if version == expected:
        return
    if isinstance(version, int) and version > expected:
        problem = f"has schema_version {version}, this jaxssl reads {expected}: install a newer jaxssl"
    else:
        problem = (
            f"has {'no schema_version' if version is None else f'schema_version {version!r}'}, this jaxssl reads "
            f"{expected}: it was written by an older jaxssl or another program; run the experiment again in a new "
            "workdir, or read it with the jaxssl that wrote it"
        )
    raise UserError(f"{file} {problem}", code="mismatch", field="schema_version")


def read_results(workdir: Path, remedy: str = REMEDY) -> schema.Results:
    """Return the content of results.json."""
    return read(Path(workdir) / "results.json", remedy)


def read_splits(workdir: Path, remedy: str = REMEDY) -> schema.Splits:
    """Return the content of splits.json."""
    return read(Path(workdir) / "splits.json", remedy)


def read_audit(workdir: Path, remedy: str = REMEDY) -> audit_schema.Audit:
    """Return the content of audit.json."""
    return read(Path(workdir) / "audit.json", remedy)
