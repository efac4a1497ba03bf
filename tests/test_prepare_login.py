"""The login for `wget`: the password goes to the site and nowhere else."""

import getpass
import shutil
import stat
import subprocess
import sys
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, quote_plus

import pytest

from prepare import login

USER, PASSWORD = "some one@example.org", "pä$$ \"w'ord\\ &+%"


class Site(BaseHTTPRequestHandler):
    """The login and the files of cityscapes-dataset.com, as csDownload knows them."""

    agents = []  # User-Agent of each request

    def do_POST(self):  # noqa: N802 (http.server)
        form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        if form == {"username": [USER], "password": [PASSWORD], "submit": ["Login"]}:
            self.answer(302, Location="/downloads/", Set_Cookie="PHPSESSID=s3; path=/; HttpOnly")
        else:
            self.answer(200, b"try again")

    def do_GET(self):  # noqa: N802
        if self.headers.get("Cookie") != "PHPSESSID=s3":
            self.answer(302 if "login" not in self.path else 200, Location="/login/")
        elif "packageID=" in self.path:
            self.answer(200, b"zip", Content_Disposition='attachment; filename="gtFine.zip"')
        else:
            self.answer(200, b"welcome")

    do_HEAD = do_GET  # noqa: N815

    def answer(self, code: int, body: bytes = b"", **headers: str):
        self.agents.append(self.headers["User-Agent"])
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture
def site(monkeypatch) -> str:
    monkeypatch.setenv("no_proxy", "*")
    Site.agents = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def log_in(monkeypatch, site: str, path: Path, password: str = PASSWORD) -> None:
    """`python -m prepare.login path`, with these answers to its prompts."""
    monkeypatch.setattr("builtins.input", lambda prompt: USER)
    monkeypatch.setattr(getpass, "getpass", lambda prompt: password)  # shows nothing
    monkeypatch.setattr(sys, "argv", ["login", str(path)])
    login.main(f"{site}/login/")


def leaks(folder: Path) -> list[Path]:
    """Files below `folder`, and processes, that hold the password."""
    processes = Path("/proc").glob("[0-9]*")
    places = [process / name for process in processes for name in ("cmdline", "environ")]
    found = []
    for place in (*places, *folder.rglob("*")):
        with suppress(OSError):
            content = place.read_bytes()
            if PASSWORD.encode() in content or quote_plus(PASSWORD).encode() in content:
                found.append(place)
    return found


def test_the_session_is_saved_for_its_owner_alone_and_the_password_nowhere(
    site, tmp_path, monkeypatch, capfd
):
    log_in(monkeypatch, site, tmp_path / "cookies.txt")
    (path,) = tmp_path.iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "PHPSESSID\ts3" in path.read_text()
    assert leaks(tmp_path) == []
    assert PASSWORD not in "".join(capfd.readouterr())
    assert set(Site.agents) == {"Wget"}  # the session is bound to it


def test_a_file_of_cookies_that_was_open_to_all_is_closed(site, tmp_path, monkeypatch):
    path = tmp_path / "cookies.txt"
    path.write_text("old")
    path.chmod(0o644)
    log_in(monkeypatch, site, path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "old" not in path.read_text()


@pytest.mark.skipif(shutil.which("wget") is None, reason="no wget here")
def test_wget_downloads_with_the_session(site, tmp_path, monkeypatch):
    log_in(monkeypatch, site, tmp_path / "cookies.txt")
    command = ["wget", "-c", "--load-cookies", "cookies.txt", "--content-disposition"]
    command.append(f"{site}/file-handling/?packageID=1")
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (tmp_path / "gtFine.zip").read_bytes() == b"zip", done.stderr


def test_a_wrong_password_is_said_and_nothing_written(site, tmp_path, monkeypatch):
    with pytest.raises(SystemExit, match="login failed: wrong user or password"):
        log_in(monkeypatch, site, tmp_path / "cookies.txt", "guess")
    assert list(tmp_path.iterdir()) == []


def test_a_site_that_cannot_be_reached_is_an_error_without_traceback(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    with pytest.raises(SystemExit, match="error: .*refused"):
        log_in(monkeypatch, "http://127.0.0.1:9", tmp_path / "cookies.txt")
    assert list(tmp_path.iterdir()) == []
