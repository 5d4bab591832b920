"""The files of the documentation, their fenced blocks, and a terminal to type them into."""

from __future__ import annotations

import os
import queue
import re
import signal
import subprocess
import textwrap
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"

_FENCE = re.compile(
    r"^(?P<indent> *)(?P<fence>```+)(?P<info>[^\n`]*)\n(?P<body>.*?)^(?P=indent)(?P=fence) *$",
    re.M | re.S,
)


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its caption (the name of a file, or a terminal), its text."""

    path: Path
    line: int
    language: str
    caption: str
    text: str

    def __str__(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.line}"


def pages() -> list[Path]:
    """Return the sources of the documentation."""
    return sorted(path for path in DOCS.rglob("*.md") if "_build" not in path.parts)


def blocks(path: Path) -> Iterator[Block]:
    """Yield the fenced blocks of a page that are code."""
    source = path.read_text()
    for match in _FENCE.finditer(source):
        language, caption = match["info"].strip(), ""
        body = textwrap.dedent(match["body"])
        if language.startswith("{"):
            directive = re.fullmatch(r"\{code-block\} (\w+)", language)
            if directive is None:
                continue
            language = directive[1]
            if option := re.match(r":caption: (.+)\n", body):
                caption, body = option[1], body[option.end() :]
        line = source.count("\n", 0, match.start()) + 1
        yield Block(path, line, language, caption, body)


def commands(block: Block) -> Iterator[tuple[str, str]]:
    """Yield each line behind a ``$`` with the output that the block shows below it."""
    for part in re.split(r"^\$ ", block.text, flags=re.M)[1:]:
        command, _, output = part.partition("\n")
        yield command, output.strip()


def fits(shown: str, said: str) -> bool:
    """Tell whether an output is the one that is shown; ``…`` stands for anything."""
    pattern = ".*?".join(re.escape(part) for part in shown.split("…"))
    return re.fullmatch(pattern, said.strip(), re.S) is not None


class Terminal:
    """A shell that commands are typed into."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._lines: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)

    def type(self, command: str) -> None:
        """Type a line and do not wait."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{command}\n")
        self._process.stdin.flush()

    def run(self, command: str) -> str:
        """Type a line, wait until it is done, and return what it printed."""
        self.type(command)
        self.type("printf '\\ndone %s\\n' $?")
        said = []
        while not (line := self._lines.get(timeout=300)).startswith("done "):
            said.append(line)
        output = "".join(said).strip()
        assert line == "done 0\n", f"{command}\n{output}\n{line}"
        return output

    def close(self) -> None:
        """End the shell and what runs in it."""
        os.killpg(self._process.pid, signal.SIGTERM)
        self._process.wait(timeout=30)
        self._reader.join(timeout=30)
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()
