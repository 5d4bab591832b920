import uuid
from collections import Counter

import pytest

from django_flashcall.redaction import Secret, plain_text
from django_flashcall.verification import codes

ID = uuid.UUID("12345678-1234-4234-8234-123456789abc")


@pytest.mark.parametrize("length", [4, 6])
def test_codes_have_their_length_and_leading_zeros(length):
    found = {codes.generate(length) for _ in range(2000)}
    assert {len(code) for code in found} == {length}
    assert all(code.isascii() and code.isdecimal() for code in found)
    assert any(code.startswith("0") for code in found)
    assert len(found) > 1500


def test_every_digit_stands_everywhere():
    for position in range(4):
        digits = Counter(codes.generate(4)[position] for _ in range(2000))
        assert len(digits) == 10


@pytest.mark.parametrize(
    ("typed", "code"),
    [
        ("0123", "0123"),
        (" 01 23 ", "0123"),
        ("01-23", "0123"),
        ("01\u00a023", "0123"),
        ("01\u201323\n", "0123"),
        ("\u0660\u0661\u0662\u0663", "0123"),
        ("\uff10\uff11\uff12\uff13", "0123"),
        ("\u200e0123\u200f", "0123"),
        ("12a4", "12a4"),
        ("½²34", "½²34"),
    ],
)
def test_what_people_type_is_made_plain(typed, code):
    assert codes.normalise(typed) == code


@pytest.mark.parametrize("text", ["", "123", "12345", "12a4", "½²34", "١٢٣٤", "12.4"])
def test_what_is_no_code(text):
    assert not codes.is_code(text, 4)


def test_digests_are_keyed_and_bound_to_their_verification(settings):
    kept = codes.digest("1234", ID)
    assert len(kept) == 64
    assert "1234" not in kept
    assert codes.matches("1234", ID, kept)
    assert not codes.matches("1235", ID, kept)
    assert not codes.matches("1234", uuid.uuid4(), kept)
    settings.SECRET_KEY = "another key"
    assert not codes.matches("1234", ID, kept)


def test_a_rotated_key_still_matches(settings):
    kept = codes.digest("1234", ID)
    settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
    settings.SECRET_KEY = "another key"
    assert codes.matches("1234", ID, kept)
    assert codes.digest("1234", ID) != kept


def test_an_erased_digest_matches_nothing():
    assert not codes.matches("1234", ID, "")
    assert not codes.matches("", ID, "")


def test_secrets_are_strings_that_no_repr_shows():
    code = Secret("1234")
    assert code == "1234"
    assert f"{code}" == "1234"
    assert "1234" not in repr(code)
    assert "1234" not in repr({"code": [code]})


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("Invalid request", "Invalid request"),
        ("two\r\nlines\x00 \x1b[31mred", "two lines [31mred"),
        ("left\u202eright", "left right"),
        ("password hunter2 was refused, code 1234", "password *** was refused, code ***"),
        ("x" * 5000, "x" * 300),
        (None, ""),
        (42, ""),
        ("\ud800", ""),
    ],
)
def test_foreign_text_is_made_plain(text, plain):
    assert plain_text(text, secrets=["hunter2", "1234", ""]) == plain


def test_a_secret_at_the_cut_is_not_halved():
    assert "hunt" not in plain_text("x" * 298 + "hunter2", secrets=["hunter2"])
    assert "hunt" not in plain_text(" " * 2996 + "hunter2", secrets=["hunter2"])
