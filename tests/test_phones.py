import pytest

from django_flashcall import phones
from django_flashcall.exceptions import InvalidPhone


@pytest.mark.parametrize(
    "typed",
    [
        "+79161234567",
        "79161234567",
        "89161234567",
        "9161234567",
        "8-916-123-45-67",
        "8 (916) 123 45 67",
        "+7 (916) 123-45-67",
        "+7.916.123.45.67",
        "  +79161234567\t",
        "\u00a0+7\u00a0916\u00a0123\u00a045\u00a067\u00a0",
        "+7\u202f916\u2009123\u201345\u201467",
        "\u202a+79161234567\u202c",  # copied from a contact list, with its direction marks
        "\u0668\u0669\u0661\u0666\u0661\u0662\u0663\u0664\u0665\u0666\u0667",  # Arabic-Indic digits
        "\u06f8\u06f9\u06f1\u06f6\u06f1\u06f2\u06f3\u06f4\u06f5\u06f6\u06f7",  # Persian digits
        "\uff0b\uff17\uff19\uff11\uff16\uff11\uff12\uff13\uff14\uff15\uff16\uff17",  # full width
        "\u096e\u096f\u0967\u096c\u0967\u0968\u0969\u096a\u096b\u096c\u096d",  # Devanagari digits
        "tel:+79161234567",
        "TEL:+7-916-123-45-67",
    ],
)
def test_what_people_type_is_one_number(typed):
    assert phones.parse(typed) == "+79161234567"


@pytest.mark.parametrize(
    ("typed", "number"),
    [
        ("8-210-123-45-67", "+72101234567"),
        ("72101234567", "+72101234567"),
        ("+72101234567", "+72101234567"),
        ("82101234567", "+72101234567"),
    ],
)
def test_the_examples_of_the_specification_are_read_and_not_called(typed, number):
    assert phones.parse(typed) == number
    assert not phones.is_allowed(number)


@pytest.mark.parametrize(
    "typed",
    [
        "",
        " ",
        "+",
        "abc",
        "1",
        "123",
        "+7916123456",
        "+791612345678",
        "+7916123456789012345",
        "8 916 123-45-67 доб. 5",
        "+79161234567 ext. 5",
        "+79161234567x5",
        "+79161234567#5",
        "+79161234567,5",
        "+79161234567;ext=5",
        "tel:+79161234567;ext=5",
        "tel:7042;phone-context=example.com",
        "my number is +79161234567",
        "+7 916 CALL-NOW",
        "+79161234567 +79161234568",
        "+79161234567/+79161234568",
        "+999123456789",
        "٣",
        "+7916\x001234567",
        "+7916\n1234567\x1b[0m",
        "📞+79161234567",
        "9" * 10_000,
        "+" * 60,
        "\ud800+79161234567",
    ],
)
def test_what_is_no_number_is_refused(typed):
    with pytest.raises(InvalidPhone) as caught:
        phones.parse(typed)
    assert caught.value.error_code == "invalid_phone"
    assert caught.value.field == "phone"


def test_numbers_of_other_countries_are_read():
    assert phones.parse("+44 7400 123456") == "+447400123456"
    assert phones.parse("+39 06 698 1234") == "+39066981234"


def test_the_default_region_reads_national_numbers(settings):
    settings.FLASHCALL = {**settings.FLASHCALL, "DEFAULT_REGION": "GB"}
    assert phones.parse("07400 123456") == "+447400123456"


@pytest.mark.parametrize(
    "number",
    [
        "+447400123456",  # another country
        "+77011234567",  # Kazakhstan, which shares the code 7
        "+74951234567",  # a landline
        "+78001234567",  # toll-free
        "+72101234567",  # unassigned
    ],
)
def test_by_default_only_mobile_numbers_of_one_country_are_called(number):
    assert not phones.is_allowed(number)
    assert phones.is_allowed("+79161234567")


def test_countries_and_types_are_settings(settings):
    settings.FLASHCALL = {**settings.FLASHCALL, "ALLOWED_COUNTRIES": "*"}
    assert phones.is_allowed("+447400123456")
    assert phones.is_allowed("+77011234567")
    settings.FLASHCALL = {**settings.FLASHCALL, "NUMBER_TYPES": ["fixed_line", "unknown"]}
    assert phones.is_allowed("+74951234567")
    assert phones.is_allowed("+72101234567")
    assert not phones.is_allowed("+79161234567")


@pytest.mark.parametrize(
    ("number", "masked"),
    [
        ("+79161234567", "+7******4567"),
        ("+447400123456", "+44******3456"),
        ("+18185550123", "+1******0123"),
        ("+2901234", "+290**34"),
        ("", ""),
    ],
)
def test_masks_show_country_and_last_digits(number, masked):
    assert phones.mask(number) == masked


def test_more_digits_than_a_number_has(settings):
    settings.FLASHCALL = {**settings.FLASHCALL, "DEFAULT_REGION": "DE"}
    with pytest.raises(InvalidPhone):
        phones.parse("+49 30 1234567890123")


@pytest.mark.parametrize(
    ("region", "typed", "prefix"),
    [
        ("RU", "8 (916)", "+7916"),
        ("DE", "0151", "+49151"),
        ("DE", "49151", "+49151"),
        ("AT", "0664", "+43664"),
        ("DE", "0151 23456789", "+4915123456789"),
    ],
)
def test_prefixes_where_short_numbers_exist(settings, region, typed, prefix):
    settings.FLASHCALL = {**settings.FLASHCALL, "DEFAULT_REGION": region}
    assert phones.parse_prefix(typed) == prefix


def test_prefix_is_the_range_a_number_was_sold_in():
    assert phones.prefix("+79161234567") == "+7916123"
