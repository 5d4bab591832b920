"""The wheel: what is in it, and that a site in an empty environment verifies a number with it."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

SITE = """
import django
from django.conf import settings

settings.configure(
    SECRET_KEY="a key",
    USE_TZ=True,
    INSTALLED_APPS=[
        "django.contrib.auth", "django.contrib.contenttypes", "rest_framework", "django_flashcall",
    ],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    FLASHCALL={
        "BACKENDS": {"default": {"BACKEND": "django_flashcall.backends.locmem.LocmemBackend"}}
    },
)
django.setup()

from django.contrib.auth import get_user_model
from django.core.management import call_command

call_command("check")
call_command("migrate", verbosity=0)

import django_flashcall.rest_framework.urls
import django_flashcall.testing
from django_flashcall import services
from django_flashcall.backends.locmem import outbox

assert "drf_spectacular" not in sys.modules
verification = services.start("8 (916) 123-45-67")
token = services.check(verification, outbox[0].code)
ann = get_user_model().objects.create_user(username="ann")
phone = services.redeem(token, user=ann)
print(phone.number, phone.owner, django_flashcall.__file__)
""".replace("import django\n", "import sys\nimport django\nimport django_flashcall\n", 1)


def run(*command, **kwargs):
    # Nothing of this checkout and of this environment is to be found by the new one.
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "DJANGO"))}
    done = subprocess.run(
        [*map(str, command)], capture_output=True, text=True, env=environment, check=False, **kwargs
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dist")
    # From a copy: what an earlier build has left behind would get into the wheel.
    left_out = shutil.ignore_patterns(".*", "build", "dist", "docs", "*.egg-info", "__pycache__")
    source = shutil.copytree(ROOT, tmp_path_factory.mktemp("source") / "copy", ignore=left_out)
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, source)
    (wheel,) = folder.glob("*.whl")
    return wheel


def test_what_is_in_the_wheel(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    source = ROOT / "django_flashcall"
    wanted = {
        str(path.relative_to(ROOT))
        for path in source.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".pyc"
    }
    assert "django_flashcall/py.typed" in wanted
    assert "django_flashcall/migrations/0001_initial.py" in wanted
    assert {name for name in names if ".dist-info/" not in name} == wanted


def test_a_site_verifies_a_number_with_the_wheel(wheel, tmp_path):
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", wheel)
    script = tmp_path / "verify.py"
    script.write_text(SITE)
    said = run(python, "-I", "-W", "error::DeprecationWarning", script, cwd=tmp_path)
    assert "+79161234567 ann" in said
    assert str(tmp_path / "venv") in said


CONFIGURATION = """
[tool.mypy]
strict = true
warn_unreachable = true
plugins = ["mypy_django_plugin.main", "mypy_drf_plugin.main"]

[tool.django-stubs]
django_settings_module = "shop.settings"

[tool.pytest.ini_options]
DJANGO_SETTINGS_MODULE = "shop.settings"
pythonpath = ["."]
"""


@pytest.fixture(scope="module")
def shop(wheel, tmp_path_factory):
    """A site in an environment that has the wheel, and of this one whatever else it needs."""
    folder = tmp_path_factory.mktemp("site")
    venv.create(folder / "venv")
    python = folder / "venv" / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--python", python, "install", "--quiet")
    run(*pip, "--no-deps", "--no-index", wheel)
    (installed,) = folder.glob("venv/lib/*/site-packages/django_flashcall")
    # Behind the wheel; what an editable installation adds to a path is not added there.
    (installed.parent / "tools.pth").write_text(sysconfig.get_path("purelib"))
    shutil.copytree(ROOT / "tests" / "typed_site", folder / "shop")
    shutil.copy(ROOT / "docs" / "examples" / "other_provider.py", folder / "shop")
    (folder / "pyproject.toml").write_text(CONFIGURATION)
    found = run(python, "-c", "import django_flashcall as f; print(f.__file__)", cwd=folder)
    assert Path(found.strip()).parent == installed
    return folder


def test_a_sites_code_is_typed_by_the_wheel(shop):
    said = run(shop / "venv" / "bin" / "python", "-m", "mypy", "shop", cwd=shop)
    assert said.startswith("Success")


def test_a_sites_tests_have_the_fixtures_of_the_wheel(shop):
    said = run(shop / "venv" / "bin" / "python", "-m", "pytest", "-q", "shop", cwd=shop)
    assert "2 passed" in said
