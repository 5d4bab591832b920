"""What the reference takes from the code while it is built, so that it cannot drift.

Each directive writes Markdown: ``flashcall-settings``, ``flashcall-checks``, ``flashcall-errors``,
``flashcall-reasons``, ``flashcall-signals``, ``flashcall-commands``, ``flashcall-models``,
``flashcall-metrics``, ``flashcall-options`` and ``flashcall-reach``. What they describe
can be linked to: {confval}`CODE_TTL`, {check}`django_flashcall.E002`, {error}`wrong_code`,
{signal}`phone_verified`, {manage}`flashcall_prune`.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

PACKAGE = Path(__file__).parents[2] / "django_flashcall"


class Check(NamedTuple):
    """A system check as the code words it; ``…`` stands for what is filled in."""

    id: str
    level: str
    message: str
    hint: str


def settings() -> dict[str, Any]:
    """Return every setting, by name."""
    from django_flashcall.conf import FlashcallSettings

    return FlashcallSettings.all()


def checks() -> list[Check]:
    """Return every check that the package can raise, read from its source."""
    found = [
        check
        for path in sorted(PACKAGE.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        for check in _checks_of(node)
    ]
    return sorted(set(found), key=lambda check: (check.id[-4:], check.message))


def _checks_of(node: ast.AST) -> Iterator[Check]:
    if not isinstance(node, ast.Call):
        return
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    given = {keyword.arg: keyword.value for keyword in node.keywords}
    if name in ("Error", "Warning") and node.args and "id" in given:
        from django_flashcall import checks as module

        message, hint = _words(node.args[0]), _words(given["hint"])
        match given["id"]:
            case ast.Constant(value=str(id)):
                yield Check(id, name, message, hint)
            case ast.Call():  # IDS_OF_SETTINGS.get(name, ID_OF_OTHER_SETTINGS)
                hint = "What the setting has to be."
                for setting, id in module.IDS_OF_SETTINGS.items():
                    yield Check(id, name, message.replace("[…]", f"[{setting!r}]"), hint)
                yield Check(module.ID_OF_OTHER_SETTINGS, name, message, hint)
            case ast.Attribute():  # Rule.broken
                from django_flashcall.backends.flashingcall import FlashingCallBackend

                for id in sorted({r.id for r in FlashingCallBackend.option_rules.values()}):
                    yield Check(id, name, message, hint)


def _words(node: ast.AST) -> str:
    """Return the text of a string in the source, without its expressions."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=parts):
            return "".join(_words(part) for part in parts)
        case ast.IfExp(body=body):
            return _words(body)
        case ast.Call(func=ast.Name(id="str")):
            return "What is wrong with FLASHCALL as a whole."
        case _:
            return "…"


def errors() -> dict[str, list[type]]:
    """Return the exceptions of each ``error_code``."""
    from django_flashcall import exceptions

    found = defaultdict(list)
    for error in vars(exceptions).values():
        known = isinstance(error, type) and issubclass(error, exceptions.FlashcallError)
        if known and hasattr(error, "error_code"):
            found[error.error_code].append(error)
    return dict(found)


def signals() -> dict[str, str]:
    """Return what is said below each signal in the source, by name."""
    body = ast.parse((PACKAGE / "signals.py").read_text()).body
    return {
        assignment.targets[0].id: inspect.cleandoc(text.value.value)
        for assignment, text in pairwise(body)
        if isinstance(assignment, ast.Assign) and isinstance(text, ast.Expr)
    }


def commands() -> dict[str, Any]:
    """Return every management command, by name."""
    from django.core.management import find_commands, load_command_class

    names = find_commands(str(PACKAGE / "management"))
    return {name: load_command_class("django_flashcall", name) for name in sorted(names)}


def _cell(text: object) -> str:
    return re.sub(r"\s+", " ", str(text)).replace("|", r"\|").strip()


def _plain(text: str) -> str:
    """Make the reStructuredText of a docstring Markdown: literals are all that it uses."""
    return text.replace("``", "`")


def _table(head: tuple[str, ...], rows: list[tuple[object, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)


def _object(directive: str, name: str, *paragraphs: str, options: str = "") -> str:
    body = "\n\n".join(paragraph for paragraph in paragraphs if paragraph)
    return f"::::{{{directive}}} {name}\n{options}\n{body}\n::::\n"


class Generated(SphinxDirective):
    """Base of the directives: Markdown made from the code."""

    optional_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        for path in PACKAGE.rglob("*.py"):
            self.env.note_dependency(str(path))
        return self.parse_text_to_nodes(self.markdown())

    def markdown(self) -> str:
        raise NotImplementedError


class Settings(Generated):
    def markdown(self) -> str:
        from django_flashcall import checks as module

        blocks = []
        for name, setting in settings().items():
            own = module.IDS_OF_SETTINGS.get(name, module.ID_OF_OTHER_SETTINGS)
            default = "required" if name == "BACKENDS" else f"`{setting.default!r}`"
            meaning = setting.meaning[0].upper() + setting.meaning[1:] + "."
            blocks.append(
                _object(
                    "confval",
                    name,
                    meaning,
                    f"A wrong value is {{check}}`{own}`.",
                    options=f":default: {default}\n",
                )
            )
        return "\n".join(blocks)


class Checks(Generated):
    def markdown(self) -> str:
        by_id: dict[str, list[Check]] = defaultdict(list)
        for check in checks():
            by_id[check.id].append(check)
        return "\n".join(
            _object(
                "system-check",
                id,
                *(
                    f"*{check.level}*: {_plain(check.message)}\n\n{_plain(check.hint)}"
                    for check in found
                ),
            )
            for id, found in sorted(by_id.items(), key=lambda item: item[0])
        )


class Errors(Generated):
    def markdown(self) -> str:
        blocks = []
        for code, classes in errors().items():
            parts = []
            for error in classes:
                place = f"on `{error.field}`" if error.field else "on the field, or on the form"
                if error.field is None and error.status_code != 400:
                    place = "on `non_field_errors`"
                parts.append(
                    f"Status {error.status_code}, {place}. {_plain(inspect.getdoc(error) or '')} "
                    f"(`exceptions.{error.__name__}`)"
                )
                if words := str(getattr(error, "message", "")):
                    parts.append(f"> {words}")
            blocks.append(_object("error-code", code, *parts))
        return "\n".join(blocks)


class Reasons(Generated):
    def markdown(self) -> str:
        from django_flashcall.delivery.reasons import REASONS

        rows = [(f"`{word}`", reason.label, reason.advice) for word, reason in REASONS.items()]
        return _table(("`call.error_code`", "what it means", "what the person is told"), rows)


class Signals(Generated):
    def markdown(self) -> str:
        return "\n".join(
            _object("signal", name, _plain(words)) for name, words in signals().items()
        )


class Metrics(Generated):
    def markdown(self) -> str:
        from django_flashcall.contrib.opentelemetry.instruments import METRICS

        blocks = []
        for metric in METRICS:
            rows = [
                (f"`{attribute.key}`", attribute.meaning, values_in_words(attribute))
                for attribute in metric.attributes
            ]
            table = _table(("attribute", "what", "values"), rows) if rows else ""
            kind = f"{metric.kind[0].upper()}{metric.kind[1:]}, unit `{metric.unit}`."
            exported = f"For Prometheus: `{prometheus_name(metric)}`."
            words = f"{metric.description} {kind} {exported}"
            blocks.append(f"## `{metric.name}`\n\n{words}\n\n{table}\n")
        return "\n".join(blocks)


def values_in_words(attribute: Any) -> str:
    """Return the values of an attribute of a metric, or where they come from."""
    if attribute.key in ("flashcall.backend.alias", "flashcall.purpose"):
        return "those of your settings"
    return ", ".join(f"`{value}`" for value in attribute.values())


def prometheus_name(metric: Any) -> str:
    """Return the name that the Prometheus exporters of OpenTelemetry give to a metric."""
    endings = {"counter": "_total", "histogram": "_seconds"}
    return str(metric.name.replace(".", "_") + endings.get(metric.kind, ""))


class Commands(Generated):
    def markdown(self) -> str:
        from django.core.management.base import BaseCommand

        common = {tuple(a.option_strings) for a in _actions(BaseCommand())}
        blocks = []
        for name, command in commands().items():
            rows = [
                (f"`{' '.join(a.option_strings) or a.dest}`", a.help or "", _default(a))
                for a in _actions(command)
                if tuple(a.option_strings) not in common
            ]
            table = _table(("argument", "what it does", "default"), rows) if rows else ""
            blocks.append(_object("management-command", name, str(command.help), table))
        return "\n".join(blocks)


def _actions(command: Any) -> list[Any]:
    parser = command.create_parser("manage.py", "")
    return list(parser._actions)


def _default(action: Any) -> str:
    return "" if action.default in (None, "", False, 0) else f"`{action.default}`"


class Models(Generated):
    def markdown(self) -> str:
        from django.db.models import Model

        from django_flashcall import models

        blocks = []
        for name in models.__all__:
            model = getattr(models, name)
            if not issubclass(model, Model):  # `Channel`
                continue
            rows = [
                (f"`{field.name}`", type(field).__name__, field.verbose_name, field.help_text)
                for field in model._meta.get_fields()
                if field.concrete and field.editable
            ]
            words = _plain(inspect.cleandoc(model.__doc__ or ""))
            head = ("field", "kind", "what", "note")
            table = _table(head, [row if row[3] else (*row[:3], "") for row in rows])
            blocks.append(_object("model", model.__name__, words, table))
        return "\n".join(blocks)


class Reach(Generated):
    """What an attacker can reach with the default settings: the figures of the page on security."""

    def markdown(self) -> str:
        return "\n\n".join(f"{name}\n: {words}" for name, words in reach(dict(settings())).items())


def reach(given: dict[str, Any]) -> dict[str, str]:
    """Return the bounds that follow from the defaults, each in words."""
    limits = "CALLS_PER_IP CALLS_PER_PHONE CALLS_PER_PREFIX CALLS_TOTAL COOLDOWN FAILURES_PER_IP"
    names = [*limits.split(), "MAX_ATTEMPTS"]
    value = {name: given[name].parse(given[name].default) for name in names}
    attempts, phone = value["MAX_ATTEMPTS"], value["CALLS_PER_PHONE"]
    total, address = value["CALLS_TOTAL"], value["CALLS_PER_IP"]
    daily = attempts * phone.number
    site = attempts * total.number
    addresses = -(-site // value["FAILURES_PER_IP"].number)
    return {
        "Guesses at one verification": f"At most {attempts}, however often a call is resent: "
        f"a chance of {_chance(attempts, 4)} with four digits, {_chance(attempts, 6)} with six.",
        "Guesses at one number in a day": f"At most {daily} on average, because each "
        f"verification needs a call and a number gets {phone.number} calls a day: a chance of "
        f"{_chance(daily, 4)} with four digits, {_chance(daily, 6)} with six.",
        "Guesses at all numbers in a day": f"At most {site:,}, if all {total.number:,} calls that "
        f"the site allows are used for guessing, from {addresses} addresses or more. At least "
        f"one guess is right with a chance of {_hit(site, 4)} with four digits, "
        f"{_hit(site, 6)} with six.",
        "Calls of the whole site in a day": f"At most {total.number:,} "
        "({confval}`CALLS_TOTAL`). An attack can cost you at most this number times the price "
        "of a call.",
        "Calls from one address": f"At most {address.number} unverified calls in an hour. The "
        f"fraud guard narrows an address earlier: after {_stopped_at('ADDRESS')} uncompleted calls "
        "to different numbers, and sooner while much of the budget is spent.",
        "Calls to one range": f"At most {value['CALLS_PER_PREFIX'].number} unverified calls in "
        f"an hour. The fraud guard narrows a new range after {_stopped_at('RANGE')} uncompleted "
        "calls to different numbers from different addresses.",
        "Calls to a stranger's phone in a day": f"At most {phone.number}, and at most "
        f"{-(-phone.number // 2)} of them from one address, at least {value['COOLDOWN']} "
        "seconds apart.",
    }


def _chance(guesses: int, digits: int) -> str:
    return f"{guesses / 10**digits * 100:.4g} %"


def _hit(guesses: int, digits: int) -> str:
    return f"{(1 - (1 - 10**-digits) ** guesses) * 100:.2g} %"


def _stopped_at(of: str) -> int:
    """Return the calls without any completed one from which the guard narrows."""
    from django_flashcall.protection import evidence

    rules = getattr(evidence, of)
    limits = rules.floor, evidence.USUAL_SHARE, rules.deviations
    calls = 1
    while calls <= evidence.Evidence(calls).allowed(*limits):
        calls += 1
    return calls


class Options(Generated):
    """The options of a backend: ``flashcall-options`` and its dotted path."""

    def markdown(self) -> str:
        from django.utils.module_loading import import_string

        backend = import_string(self.arguments[0])
        said = dict(re.findall(r"^    (\w+): (.+(?:\n {8}.+)*)", inspect.getdoc(backend), re.M))
        rows = []
        for name, parameter in inspect.signature(backend).parameters.items():
            if parameter.kind is not parameter.KEYWORD_ONLY:
                continue
            required = parameter.default is parameter.empty
            default = "required" if required else f"`{parameter.default!r}`"
            rule = backend.option_rules.get(name)
            rows.append(
                (f"`{name}`", default, _plain(said.get(name, "")), rule.words if rule else "")
            )
        return _table(("option", "default", "what it is", "must be"), rows)


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_object_type("system-check", "check", indextemplate="pair: %s; system check")
    app.add_object_type("error-code", "error", indextemplate="pair: %s; error code")
    app.add_object_type("signal", "signal", indextemplate="pair: %s; signal")
    app.add_object_type("management-command", "manage", indextemplate="pair: %s; command")
    app.add_object_type("model", "model", indextemplate="pair: %s; model")
    for name, directive in {
        "settings": Settings,
        "checks": Checks,
        "errors": Errors,
        "reasons": Reasons,
        "signals": Signals,
        "metrics": Metrics,
        "commands": Commands,
        "models": Models,
        "options": Options,
        "reach": Reach,
    }.items():
        app.add_directive(f"flashcall-{name}", directive)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
