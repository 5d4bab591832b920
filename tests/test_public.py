"""What a site may import: the page of public names, the `__all__` of the modules, and the docs."""

import importlib
import pkgutil
import re

from django.apps import apps

import django_flashcall

from .documents import DOCS, ROOT, pages

PAGE = (DOCS / "reference" / "public.md").read_text()
LISTED = {
    module: set(re.findall(r"`(\w+)`", names))
    for module, names in re.findall(r"^\| `(django_flashcall[\w.]*)` \| (.+) \|$", PAGE, re.M)
}
PRIVATE_ROOMS = {"admin", "delivery", "insight", "privacy", "protection", "verification"}


def modules():
    """Every module of the package, without migrations."""
    for found in pkgutil.walk_packages(django_flashcall.__path__, "django_flashcall."):
        if ".migrations" not in found.name and not found.name.endswith(".__main__"):
            yield importlib.import_module(found.name)


def test_the_page_lists_what_the_modules_declare():
    declared = {
        module.__name__: set(module.__all__) for module in modules() if hasattr(module, "__all__")
    }
    assert declared == LISTED


def test_what_is_declared_is_there():
    for module, names in LISTED.items():
        for name in names:
            assert hasattr(importlib.import_module(module), name), f"{module}.{name}"


def test_a_private_package_says_so_and_is_named_on_the_page():
    for room in PRIVATE_ROOMS:
        package = importlib.import_module(f"django_flashcall.{room}")
        assert re.search(r"\bPrivate[.:]", package.__doc__), room
        assert f"`{room}`" in PAGE
        assert not any(module.startswith(package.__name__) for module in LISTED)


def test_the_documentation_names_public_names_alone():
    texts = [ROOT / "README.md", ROOT / "README.ru.md", *pages(), *DOCS.glob("examples/*.py")]
    for path in texts:
        text = path.read_text()
        for module, names in re.findall(
            r"from (django_flashcall[\w.]*) import ((?:\w+(?:, )?)+)", text
        ):
            for name in names.split(", "):
                known = LISTED.get(module, ())
                assert name in known or f"{module}.{name}" in LISTED, (path.name, module, name)
        for dotted in re.findall(r"[`\"](django_flashcall(?:\.\w+)+)[`\"\n]", text):
            module, _, name = dotted.rpartition(".")
            is_check = re.fullmatch(r"[EW]\d+", name)
            public = dotted in LISTED or name in LISTED.get(module, ())
            is_app = apps.is_installed(dotted)
            assert public or is_check or is_app or dotted == "django_flashcall.urls", (
                path.name,
                dotted,
            )
