import pytest
from django.apps import apps
from django.core.management import call_command
from django.db import connection

pytestmark = pytest.mark.django_db

LABELS = ["django_flashcall_allauth", "django_flashcall"]


def test_no_migration_is_missing():
    call_command("makemigrations", *LABELS, check=True, dry_run=True, verbosity=0)


@pytest.mark.django_db(transaction=True)
def test_migrations_can_be_undone_and_done_again():
    def tables():
        names = connection.introspection.table_names()
        return {name for name in names if name.startswith("django_flashcall_")}

    before = tables()
    assert before
    for label in LABELS:
        call_command("migrate", label, "zero", verbosity=0)
    assert not tables()
    for label in LABELS:
        call_command("migrate", label, verbosity=0)
    assert tables() == before


LONGEST_NAME = 30
"""Characters of the name of an index that every database takes (Oracle's of old is the limit)."""

KEYS = ("index", "unique", "primary_key")

MODELS = list(apps.get_app_config("django_flashcall").get_models())


def declared(model):
    """Names of indexes and constraints that the model gives, and what each is on."""
    options = model._meta
    return {each.name: each for each in (*options.indexes, *options.constraints)}


@pytest.mark.parametrize("model", MODELS)
def test_names_fit_every_database(model):
    assert [name for name in declared(model) if len(name) > LONGEST_NAME] == []
    names = [model._meta.db_table, *(field.column for field in model._meta.fields)]
    assert [name for name in names if len(name) > LONGEST_NAME + len("django_flashcall_")] == []


@pytest.mark.parametrize("model", MODELS)
def test_tables_are_as_the_models_say(model):
    """So they are the same on each database that the suite runs on."""
    with connection.cursor() as cursor:
        columns = connection.introspection.get_table_description(cursor, model._meta.db_table)
        found = connection.introspection.get_constraints(cursor, model._meta.db_table)
    assert {each.name for each in columns} == {field.column for field in model._meta.fields}
    if connection.features.supports_table_check_constraints:
        assert set(declared(model)) <= set(found)
    for index in model._meta.indexes:
        names = [model._meta.get_field(name).column for name, _ in index.fields_orders]
        assert (found[index.name]["columns"], found[index.name]["index"]) == (names, True)
        assert found[index.name]["orders"] == [order or "ASC" for _, order in index.fields_orders]
    # Every column that is to be looked up by has an index that begins with it.
    first = [each["columns"][0] for each in found.values() if any(map(each.get, KEYS))]
    for field in model._meta.fields:
        if field.db_index or field.unique:
            assert field.column in first
