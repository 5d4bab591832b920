"""The tutorial, typed as it is written, in an empty folder."""

import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import requests

from .documents import DOCS, ROOT, Terminal, blocks, commands, fits

SERVERS = ("flashcall_simulator", "runserver")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT],
        check=True,
        capture_output=True,
    )
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.fixture
def environment(wheel, tmp_path):
    """A newcomer's: nothing of this checkout, but pip takes django-flashcall from its wheel."""
    constraint = tmp_path / "constraint.txt"
    constraint.write_text(f"django-flashcall @ {wheel.as_uri()}\n")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "DJANGO"))}
    path = f"{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}"
    return {
        **kept,
        "PATH": path,
        "PIP_CONSTRAINT": str(constraint),
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }


@pytest.fixture
def terminals(environment, tmp_path):
    folder = tmp_path / "empty"
    folder.mkdir()
    opened = {}

    def terminal(name):
        if name not in opened:
            opened[name] = Terminal(folder, environment)
        return opened[name]

    yield terminal, folder
    for one in opened.values():
        one.close()


def wait_for_port(port):
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.1)
    pytest.fail(f"Nothing listens on {port}.")


def test_the_tutorial_as_written(terminals, unused_tcp_port_factory):
    terminal, folder = terminals
    # Two at once may run this: the ports alone are not those of the text.
    ports = {name: str(unused_tcp_port_factory()) for name in ("8000", "8800")}

    def text(written):
        return re.sub(r"\b(8000|8800)\b", lambda match: ports[match[0]], written)

    typed = 0
    for block in blocks(DOCS / "tutorial.md"):
        if block.language == "console":
            for command, shown in commands(block):
                here = terminal(block.caption)
                typed += 1
                if any(server in command for server in SERVERS):
                    here.type(text(command))
                    wait_for_port(int(re.search(r"\d{4,5}$", text(command))[0]))
                    continue
                said = here.run(text(command))
                assert not shown or fits(text(shown), said), f"{block}: {command}\n{said}"
        elif block.language == "python":
            name, _, where = block.caption.partition(" (")
            path = folder / "tutorial" / name
            assert path.exists(), f"{block}: startproject makes no {name}"
            before = path.read_text() if where else ""
            path.write_text(before + text(block.text))
    assert typed > 20
    said = terminal("Terminal 1").run("python manage.py check --deploy 2>&1")
    assert "django_flashcall.W003" in said
    assert "django_flashcall.W007" not in said
    walk_through_the_pages(text, ports["8800"])
    terminal("Terminal 1").run(f'python manage.py shell -c "{END_OF_COOLDOWN}"')
    log_in_on_the_pages(text, ports["8800"])


END_OF_COOLDOWN = (
    "from django_flashcall.models import Phone; Phone.objects.update(last_called_at=None)"
)


class Walk:
    """The numbered steps of a section about pages; the words in bold stand on each page."""

    def __init__(self, section, text, provider):
        source = (DOCS / "tutorial.md").read_text().partition(f"\n## {section}. ")[2]
        self.steps = re.findall(r"^\d\. (.+)$", source.partition("\n## ")[0], re.M)
        self.calls = f"http://127.0.0.1:{provider}/calls"
        self.visitor = requests.Session()
        (url,) = re.findall(r"`(http\S+)`", self.steps[0])
        self.page = self.visitor.get(text(url))

    def submit(self, step, **fields):
        self.look(step)
        token = re.search('name="csrfmiddlewaretoken" value="(.+?)"', self.page.text)[1]
        data = {**fields, "csrfmiddlewaretoken": token}
        self.page = self.visitor.post(self.page.url, data)

    def look(self, step):
        for words in re.findall(r"\*\*(.+?)\*\*", self.steps[step]):
            assert words in self.page.text, (words, self.page.url)

    def verify(self, digits):
        (number,) = re.findall("`([0-9 -]+)`", self.steps[1])
        self.submit(1, phone=number)
        call = requests.get(self.calls).json()[0]
        self.submit(2, code=call["calling_number"][-digits:])


def walk_through_the_pages(text, provider):
    walk = Walk(9, text, provider)
    walk.verify(4)
    account = {"username": "bob", "email": "bob@example.com", "password": "correct horse 9"}
    walk.submit(3, **account)
    walk.look(4)
    assert len(walk.steps) == 5


def log_in_on_the_pages(text, provider):
    walk = Walk(11, text, provider)
    walk.verify(6)
    walk.look(3)
    assert walk.page.url.endswith("/phone/number/")
    assert len(walk.steps) == 4
