"""The login for `wget`: the password goes to the site and nowhere else."""

import getpass
import os
import shutil
import stat
import subprocess
import threading
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


@pytest.fixture
def log_in(site, command, monkeypatch, tmp_path):
    """Runs `python -m prepare.login` with answers to its prompts; returns the file of cookies."""

    def log_in(password: str = PASSWORD, site: str = site) -> Path:
        monkeypatch.setattr("builtins.input", lambda prompt: USER)
        monkeypatch.setattr(getpass, "getpass", lambda prompt: password)  # shows nothing
        command(lambda: login.main(f"{site}/login/"), tmp_path / "cookies.txt")
        return tmp_path / "cookies.txt"

    return log_in


def leaks(folder: Path) -> list[Path]:
    """What others might read that holds the password: files, and this command line."""
    places = [*folder.rglob("*"), *Path("/proc/self").glob("cmdline")]
    secrets = PASSWORD.encode(), quote_plus(PASSWORD).encode()
    return [place for place in places if any(each in place.read_bytes() for each in secrets)]


@pytest.mark.parametrize("old", [False, True])
def test_the_session_is_its_owners_and_the_password_nowhere(log_in, tmp_path, capfd, old):
    if old:  # and open to all
        (tmp_path / "cookies.txt").write_text("old")
        (tmp_path / "cookies.txt").chmod(0o644)
    path = log_in()
    assert [*tmp_path.iterdir()] == [path]
    assert os.name == "nt" or stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "PHPSESSID\ts3" in path.read_text() and "old" not in path.read_text()
    assert leaks(tmp_path) == []
    assert PASSWORD not in "".join(capfd.readouterr())
    assert set(Site.agents) == {"Wget"}  # the session is bound to it


@pytest.mark.skipif(shutil.which("wget") is None, reason="no wget here")
def test_wget_downloads_with_the_session(site, log_in, tmp_path):
    log_in()
    command = ["wget", "-c", "--load-cookies", "cookies.txt", "--content-disposition"]
    command.append(f"{site}/file-handling/?packageID=1")
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (tmp_path / "gtFine.zip").read_bytes() == b"zip", done.stderr


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"password": "guess"}, "login failed: wrong user or password"),
        ({"site": "http://127.0.0.1:9"}, "error: .*refused"),
    ],
)
def test_a_login_that_fails_is_said_and_nothing_written(log_in, tmp_path, options, error):
    with pytest.raises(SystemExit, match=error):
        log_in(**options)
    assert list(tmp_path.iterdir()) == []
