"""What comes from elsewhere runs no code and stays in its place; the password stays nowhere."""

import os
import re
import shutil
import stat
import subprocess
import sys
import threading
import zipfile
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, quote_plus

import pytest
import yaml

from dataset import Cityscapes

SPRUNG = "!!python/object/apply:os.mkdir [sprung]"


def test_code_in_a_field_of_a_recipe_does_not_run(tmp_path):
    recipe = yaml.safe_load(Path("recipes/streets.yaml").read_text()) | {"lr": "CODE"}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe).replace("CODE", SPRUNG))
    command = [sys.executable, os.path.abspath("train.py"), "--recipe", "recipe.yaml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode != 0
    assert "could not determine a constructor" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["recipe.yaml"]


def test_code_in_a_file_of_parameters_for_a_notebook_does_not_run(tmp_path):
    (tmp_path / "recipe.yaml").write_text(f"lr: {SPRUNG}\n")
    notebook = os.path.abspath("trainer.ipynb")
    command = [sys.executable, "-m", "papermill", "-f", "recipe.yaml", notebook, "out.ipynb"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode != 0
    assert "could not determine a constructor" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["recipe.yaml"]


# Archives


@pytest.fixture
def evil(streets, tmp_path) -> Path:
    """A root with Cityscapes' two archives, one of which wants to write beside it."""
    root = tmp_path / "around" / "root"
    root.mkdir(parents=True)
    for name in ("leftImg8bit", "gtFine"):
        with zipfile.ZipFile(root / f"{name}_trainvaltest.zip", "w") as archive:
            for path in sorted((streets / name / "val").rglob("*.png")):
                archive.write(path, path.relative_to(streets))
    with zipfile.ZipFile(root / "gtFine_trainvaltest.zip", "a") as archive:
        archive.writestr("../beside", "evil")
        archive.writestr("gtFine/../../beside", "evil")
        archive.writestr(str(tmp_path / "around" / "absolute"), "evil")
        archive.writestr("..\\backwards", "evil")
        link = zipfile.ZipInfo("gtFine/link")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, str(tmp_path / "around"))
        archive.writestr("gtFine/link/through", "evil")
    return root


def test_archives_are_unpacked_only_inside_their_data_set(evil):
    with suppress(OSError, ValueError):  # the link in the archive may be refused
        Cityscapes(evil, "val")
    assert (evil / "leftImg8bit").is_dir() and (evil / "gtFine").is_dir()  # it did unpack
    assert os.listdir(evil.parent) == ["root"]


@pytest.mark.skipif(shutil.which("unzip") is None, reason="no unzip here")
def test_the_readmes_unzip_stays_inside_its_target(evil):
    (line,) = re.findall(r"^for zip in .*unzip.*$", Path("README.md").read_text(), re.M)
    bash(line, evil)
    assert (evil / "gtFine" / "val").is_dir()
    assert os.listdir(evil.parent) == ["root"]


# The password of Cityscapes

USER, PASSWORD = "some one@example.org", "pä$$ \"w'ord\\ &+%"
QUOTED = quote_plus(PASSWORD)


class Site(BaseHTTPRequestHandler):
    """The login and the files of cityscapes-dataset.com, as csDownload knows them."""

    leaks = []  # processes and files that held the password at the login, beside its answer
    folder = None  # where the files are

    def do_POST(self):  # noqa: N802 (http.server)
        form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        processes = list(Path("/proc").glob("[0-9]*"))
        places = [process / name for process in processes for name in ("cmdline", "environ")]
        for place in (*places, *self.folder.rglob("*")):
            with suppress(OSError):
                if any(word.encode() in place.read_bytes() for word in (PASSWORD, QUOTED)):
                    self.leaks.append(str(place))
        if form == {"username": [USER], "password": [PASSWORD], "submit": ["Login"]}:
            self.answer(302, Location="/downloads/", Set_Cookie="PHPSESSID=s3; path=/; HttpOnly")
        else:
            self.answer(200, b"try again")

    def do_GET(self):  # noqa: N802
        if self.headers.get("Cookie") != "PHPSESSID=s3":
            self.answer(302 if "login" not in self.path else 200, Location="/login/")
        elif "packageID=" in self.path:
            name = {"1": "gtFine", "3": "leftImg8bit"}[self.path[-1]] + "_trainvaltest.zip"
            named = f'attachment; filename="{name}"'
            self.answer(200, name.encode(), Content_Disposition=named)
        else:
            self.answer(200, b"welcome")

    do_HEAD = do_GET  # noqa: N815

    def answer(self, code: int, body: bytes = b"", **headers: str):
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
def site() -> str:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def snippet(start: str, site: str) -> str:
    """The README's shell block that begins so, with the test's server for Cityscapes'."""
    blocks = re.findall(r"```bash\n(.*?)```", Path("README.md").read_text(), re.S)
    (block,) = [block for block in blocks if block.startswith(start) and "wget" in block.lower()]
    return block.replace("https://www.cityscapes-dataset.com", site)


def environment(folder: Path) -> dict[str, str]:
    home = {"CITYSCAPES_DATASET": str(folder), "HOME": str(folder), "TMPDIR": str(folder)}
    python = str(Path(sys.executable).parent)  # the README's python3
    return os.environ | home | {"PATH": f"{python}:{os.environ['PATH']}", "no_proxy": "*"}


def bash(command: str, folder: Path) -> str:
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env=environment(folder),
        capture_output=True,
        text=True,
        timeout=120,
    )
    return done.stdout + done.stderr


def at_a_terminal(command: str, folder: Path, answers: list[tuple[str, str]]) -> tuple[int, str]:
    """Run in bash at a terminal; type each answer at its prompt. Exit code, and what is seen."""
    terminal = "import pty, sys; sys.exit(pty.spawn(['bash', '-c', sys.argv[1]]) >> 8)"
    process = subprocess.Popen(
        [sys.executable, "-c", terminal, command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment(folder),
    )
    seen = b""
    for prompt, answer in answers:
        while not seen.endswith(prompt.encode()):
            byte = os.read(process.stdout.fileno(), 1)
            assert byte, f"no prompt {prompt!r} after {seen.decode()}"
            seen += byte
        process.stdin.write(answer.encode() + b"\n")
        process.stdin.flush()
    seen += process.stdout.read()
    process.stdin.close()
    return process.wait(120), seen.decode()


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs Linux' /proc")
def test_the_readmes_login_shows_the_password_to_the_server_alone(site, tmp_path):
    folder = tmp_path / "new" / "cityscapes"
    Site.folder, Site.leaks = tmp_path, []
    login = snippet("mkdir", site)
    code, seen = at_a_terminal(login, folder, [("user: ", USER), ("password: ", PASSWORD)])
    assert code == 0, seen
    assert USER in seen and PASSWORD not in seen
    assert Site.leaks == []
    (cookies,) = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert cookies == folder / "cookies"
    assert stat.S_IMODE(cookies.stat().st_mode) == 0o600
    assert PASSWORD not in cookies.read_text()

    if shutil.which("wget"):
        said = bash(snippet("for id in 1 3", site), folder)
        names = ["gtFine_trainvaltest.zip", "leftImg8bit_trainvaltest.zip"]
        assert sorted(path.name for path in folder.iterdir()) == names, said
        assert [(folder / name).read_text() for name in names] == names


def test_the_readmes_login_says_that_a_password_is_wrong(site, tmp_path):
    Site.folder = tmp_path
    answers = [("user: ", USER), ("password: ", "guess")]
    code, seen = at_a_terminal(snippet("mkdir", site), tmp_path, answers)
    assert code != 0
    assert "login failed: wrong user or password" in seen
    assert list(tmp_path.iterdir()) == []
