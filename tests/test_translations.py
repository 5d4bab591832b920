"""Russian is complete: no string of the package is missing, empty or fuzzy in its catalogue."""

import gettext
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from django.core.management import call_command
from django.utils import translation

from django_flashcall.exceptions import InvalidCode, WrongCode

ROOT = Path(__file__).parent.parent
CATALOGUES = [ROOT / "django_flashcall", ROOT / "example_project"]

pytestmark = pytest.mark.skipif(
    not shutil.which("xgettext") and not os.environ.get("CI"),
    reason="needs GNU gettext, which a translator has, too",
)


def messages(*arguments, source):
    """Return the messages of a catalogue that gettext's `msgattrib` finds, without its header."""
    command = ["msgattrib", "--no-wrap", *arguments, source]
    found = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [line for line in found.splitlines() if line.startswith("msgid ") and line != 'msgid ""']


@pytest.mark.parametrize("folder", CATALOGUES, ids=lambda folder: folder.name)
def test_nothing_is_untranslated_or_fuzzy(folder, tmp_path, monkeypatch):
    copy = shutil.copytree(folder, tmp_path / folder.name)
    monkeypatch.chdir(copy)
    call_command("makemessages", locale=["ru"], no_obsolete=True, verbosity=0)
    catalogue = copy / "locale" / "ru" / "LC_MESSAGES" / "django.po"
    assert len(messages(source=catalogue)) > 20
    assert messages("--untranslated", source=catalogue) == []
    assert messages("--only-fuzzy", source=catalogue) == []
    # None that no code says any more stays behind.
    committed = folder / "locale" / "ru" / "LC_MESSAGES" / "django.po"
    assert set(messages(source=committed)) == set(messages(source=catalogue))


@pytest.mark.parametrize("folder", CATALOGUES, ids=lambda folder: folder.name)
def test_what_is_compiled_is_what_is_written(folder, tmp_path):
    catalogue = folder / "locale" / "ru" / "LC_MESSAGES" / "django.po"
    command = ["msgfmt", "--check", "--check-accelerators=_", "-o", tmp_path / "new.mo", catalogue]
    subprocess.run(command, check=True)

    def content(path):
        with path.open("rb") as file:
            return gettext.GNUTranslations(file)._catalog

    assert content(tmp_path / "new.mo") == content(catalogue.with_suffix(".mo"))


@pytest.mark.parametrize(
    ("left", "words"),
    [
        (1, "Осталась 1 попытка."),
        (2, "Осталось 2 попытки."),
        (5, "Осталось 5 попыток."),
        (0, "Попыток не осталось"),
    ],
)
def test_plurals(left, words):
    with translation.override("ru"):
        assert words in str(WrongCode(left))
    assert "attempt" in str(WrongCode(left))


def test_digits():
    with translation.override("ru"):
        assert str(InvalidCode(4)) == "Введите код из 4 цифр."
        assert str(InvalidCode(6)) == "Введите код из 6 цифр."
