"""The picture of the floors in CONTRIBUTING.md shows the package and its import contracts."""

import re
import subprocess
import sys
import tomllib

from .documents import ROOT

TEXT = (ROOT / "CONTRIBUTING.md").read_text()
PICTURE = re.search(r"```text\n(.+?)```", TEXT, re.S)[1]
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"][
    "contracts"
]
DJANGOS = {"locale", "migrations", "static", "templates"}
"""Folders that Django names and that nobody imports."""


def floors(lines):
    """Return the modules of each line; what stands behind two blanks explains it."""
    return [set(line.split("  ")[0].split(" · ")) for line in lines if line]


def drawn():
    floors_of_picture, alone = PICTURE.split("\n\n")
    return floors(floors_of_picture.splitlines()), floors(alone.splitlines())


def test_the_picture_shows_the_layers():
    (layers,) = [contract["layers"] for contract in CONTRACTS if contract["type"] == "layers"]
    assert drawn()[0] == [set(re.findall(r"\w+", layer)) for layer in layers]


def test_the_picture_shows_what_stands_alone():
    alone = {c["source_modules"][0] for c in CONTRACTS if "stands alone" in c["name"]}
    assert {f"django_flashcall.{name}" for floor in drawn()[1] for name in floor} == alone


def test_every_room_is_drawn_and_described():
    package = ROOT / "django_flashcall"
    rooms = {path.stem for path in package.iterdir() if not path.name.startswith(("_", "py."))}
    both, alone = drawn()
    assert set().union(*both, *alone) == rooms - DJANGOS
    described = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", TEXT, re.M)
    assert set(re.findall(r"\w+", " ".join(described))) == rooms - DJANGOS


def test_no_two_modules_of_a_floor_import_each_other():
    """`(a) | (b)`: the bars forbid it; a contract with colons would allow it."""
    (layers,) = [contract["layers"] for contract in CONTRACTS if contract["type"] == "layers"]
    assert not [layer for layer in layers if ":" in layer]


def test_circles_are_forbidden_inside_rooms():
    (contract,) = [c for c in CONTRACTS if c["type"] == "acyclic_siblings"]
    assert contract["ancestors"] == ["django_flashcall"]
    assert not set(contract) - {"name", "type", "ancestors"}  # neither depth nor exceptions


def test_templates_of_a_site_without_the_admin():
    script = """
import django
from django.conf import settings

settings.configure(
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "django_flashcall"],
    TEMPLATES=[
        {"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}
    ],
)
django.setup()
from django.template import engines

print(engines["django"].from_string("{{ 1|add:1 }}").render())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "2\n"), done.stderr
