import pytest
from django.core.management import call_command
from django.db import connection

pytestmark = pytest.mark.django_db


def test_no_migration_is_missing():
    call_command("makemigrations", "django_flashcall", check=True, dry_run=True, verbosity=0)


@pytest.mark.django_db(transaction=True)
def test_migrations_can_be_undone_and_done_again():
    def tables():
        names = connection.introspection.table_names()
        return {name for name in names if name.startswith("django_flashcall_")}

    before = tables()
    assert before
    call_command("migrate", "django_flashcall", "zero", verbosity=0)
    assert not tables()
    call_command("migrate", "django_flashcall", verbosity=0)
    assert tables() == before
