"""`jaxssl report --serve`: the list of runs and their reports, for this computer only, and nothing else."""

import http.client
import threading

import pytest

from jaxssl.cli import server
from jaxssl.cli.parser import main
from jaxssl.report import page
from tests.refusals import refuses
from tests.report.test_report import Page, make


@pytest.fixture
def get(tmp_path):
    """(address, headers) -> status and text of a server of `tmp_path`."""
    with server.make_server(tmp_path, 0) as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()

        def ask(address, method="GET", **headers):
            connection = http.client.HTTPConnection(server.HOST, running.server_port, timeout=10)
            connection.request(method, address, headers=headers)
            answer = connection.getresponse()
            text = answer.read().decode()
            connection.close()
            return answer.status, text

        yield ask
        running.shutdown()
        thread.join()


def test_it_lists_runs_and_studies_and_shows_their_reports(tmp_path, get):
    assert "No run yet." in get("/")[1]
    make(tmp_path / "a b" / "run", protocols=("probe",))
    page.write(tmp_path / "a b" / "run")
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "compare.json").write_text("{}")
    (tmp_path / "study" / "report.html").write_text("<p>a study")
    status, text = get("/")
    found = Page(text)
    assert status == 200 and "a b/run" in found.words and "study" in found.words
    links = [a["href"] for a in found.all("a") if a["href"].startswith("/")]
    assert links == ["/study/report.html", "/a%20b/run/report.html"]
    assert "BYOL" in get(links[1])[1] and get(links[0]) == (200, "<p>a study")


def test_what_cannot_be_sent_is_one_line(tmp_path, get, capsys, caplog, monkeypatch):
    (tmp_path / "report.html").write_bytes(b"<p>\xff")
    assert get("/report.html") == (200, "<p>\ufffd")
    monkeypatch.setattr(server, "_respond", lambda *arguments: 1 / 0)
    with pytest.raises(http.client.RemoteDisconnected):
        get("/")
    assert not capsys.readouterr().err and "a page was not sent: ZeroDivisionError" in caplog.text


@pytest.mark.parametrize("address", ["/results.json", "/../secret", "/run/../../secret", "/%2e%2e/secret", "/none/"])
def test_it_serves_nothing_but_reports(tmp_path, get, address):
    (tmp_path / "results.json").write_text("secret")
    (tmp_path.parent / "secret").write_text("secret")
    status, text = get(address)
    assert status == 404 and "secret" not in text


def test_it_answers_this_computer_only_and_changes_nothing(get):
    assert get("/", Host="evil.example")[0] == 403
    assert get("/", method="POST")[0] == 501


def test_a_port_in_use_and_a_missing_folder_are_refused(tmp_path, capsys):
    with server.make_server(tmp_path, 0) as running, refuses("in-use", "--serve"):
        server.make_server(tmp_path, running.server_port)
    assert main(["report", str(tmp_path / "none"), "--serve"]) == 2
    assert "--serve lists one folder" in capsys.readouterr().err
