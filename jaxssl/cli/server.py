"""The local server of `jaxssl report --serve`: read-only, on the loopback interface, no files but reports."""

import http.server
import logging
import sys
from http import HTTPStatus
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from jaxssl.cli import runs
from jaxssl.errors import UserError
from jaxssl.report.listing import Entry, make_listing

log = logging.getLogger(__name__)
HOST = "127.0.0.1"
# Pages hold all that they need: nothing is fetched from anywhere.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"


class Server(http.server.ThreadingHTTPServer):
    """A server whose errors are a line each: a browser that goes away, a report that is being replaced."""

    def handle_error(self, request: object, client_address: object) -> None:
        log.warning("a page was not sent: %r", sys.exc_info()[1])


def make_server(root: Path, port: int) -> http.server.ThreadingHTTPServer:
    """Return a server of the runs below `root`; port 0 takes a free one. UserError if the port is in use."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(*_respond(root, self.path, self.headers.get("Host", "")))

        def _answer(self, status: HTTPStatus, page: str) -> None:
            content = page.encode()
            self.send_response(status)
            for name, value in (
                ("Content-Type", "text/html; charset=utf-8"),
                ("Content-Length", str(len(content))),
                ("Content-Security-Policy", POLICY),
                ("X-Content-Type-Options", "nosniff"),
                ("Cache-Control", "no-store"),
            ):
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            """Write no line for each request."""

    try:
        return Server((HOST, port), Handler)
    except (OSError, OverflowError) as error:
        message = f"--serve={port}: the port cannot be used ({error}): give another one, or 0 for a free one"
        raise UserError(message, code="in-use", field="--serve") from error


def _respond(root: Path, path: str, host: str) -> tuple[HTTPStatus, str]:
    """Return the page at an address."""
    # A page of another site, whose name was pointed at this address, must not read the reports.
    if host.partition(":")[0] not in (HOST, "localhost"):
        return HTTPStatus.FORBIDDEN, "<p>Ask for 127.0.0.1 or localhost."
    address = unquote(urlsplit(path).path)
    reports = _find_reports(root)
    if address == "/":
        return HTTPStatus.OK, _list(root, reports)
    if address in reports:
        return HTTPStatus.OK, reports[address].read_text(encoding="utf-8", errors="replace")
    return HTTPStatus.NOT_FOUND, "<p>There is no report here."


def _find_reports(root: Path) -> dict[str, Path]:
    """Return the reports of runs and studies below `root` by address."""
    files = (file for file in root.rglob("report.html") if not file.is_symlink())
    return {f"/{file.relative_to(root).as_posix()}": file for file in sorted(files)}


def _list(root: Path, reports: dict[str, Path]) -> str:
    entries = []
    for folder in sorted(runs.find_folders(root)):
        name = folder.relative_to(root).as_posix()
        run = runs.read_run(folder, name)
        address = "/report.html" if name == "." else f"/{name}/report.html"
        row = (run.state, run.dataset, run.pretraining, run.at, run.score, runs.format_age(run.age))
        entries.append(Entry(name, row, quote(address) if address in reports else ""))
    studies = [
        (file.parent.relative_to(root).as_posix(), quote(address))
        for address, file in reports.items()
        if (file.parent / "compare.json").exists() and not (file.parent / "results.json").exists()
    ]
    return make_listing(str(root), entries, studies)
