"""Who may be called: the longest prefix decides, and a channel can be stopped."""

import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction

from django_flashcall import services
from django_flashcall.exceptions import PhoneNotAllowed, ProviderUnavailable
from django_flashcall.models import Call, Rule

pytestmark = pytest.mark.django_db

NUMBER = "+79161234567"


def rule(action, **target):
    return Rule.objects.create(action=action, **target)


def is_called(number=NUMBER):
    try:
        services.start(number)
    except PhoneNotAllowed:
        return False
    return True


@pytest.mark.parametrize(
    ("rules", "called"),
    [
        ([], True),
        ([("deny", {"prefix": "+7916"})], False),
        ([("deny", {"prefix": NUMBER})], False),
        ([("deny", {"prefix": "+7917"})], True),
        ([("deny", {"country": "RU"})], False),
        ([("deny", {"country": "KZ"})], True),
        ([("deny", {"prefix": "+7916"}), ("allow", {"prefix": "+7916123"})], True),
        ([("allow", {"prefix": "+7916"}), ("deny", {"prefix": "+7916123"})], False),
        ([("allow", {"prefix": "+7916"}), ("deny", {"prefix": "+7916"})], False),
        ([("deny", {"country": "RU"}), ("allow", {"prefix": "+7916"})], True),
        ([("allow", {"country": "RU"}), ("deny", {"prefix": "+7"})], False),
    ],
)
def test_the_longest_prefix_decides(outbox, rules, called):
    for action, target in rules:
        rule(action, **target)
    assert is_called() is called


@pytest.mark.parametrize("number", ["+14155552671", "+74951234567", "+72101234567"])
def test_a_rule_allows_what_the_settings_do_not(outbox, number):
    assert not is_called(number)
    rule("allow", prefix=number[:5])
    assert is_called(number)


def test_effective_at_once_for_the_next_call_too(outbox, configure):
    configure(COOLDOWN=0)
    verification = services.start(NUMBER)
    rule("deny", prefix=NUMBER)
    with pytest.raises(PhoneNotAllowed):
        services.resend(verification)
    assert Call.objects.count() == 1


class TestStoppedChannel:
    def test_it_places_no_calls(self, provider):
        rule("deny", channel="flash_call")
        with pytest.raises(ProviderUnavailable):
            services.start(NUMBER, channel="flash_call")
        assert provider.requests == []

    def test_the_other_one_takes_its_place_if_nobody_chose(self, provider):
        rule("deny", channel="flash_call")
        assert services.start(NUMBER).channel == "voice_code"

    def test_it_is_not_offered_any_more(self, provider, api):
        verification = services.start(NUMBER)
        path = f"/api/verifications/{verification.pk}/"
        assert api.get(path).json()["channels"] == ["flash_call", "voice_code"]
        rule("deny", channel="voice_code")
        assert api.get(path).json()["channels"] == ["flash_call"]

    def test_nor_by_the_answer_to_the_start(self, provider, api):
        rule("deny", channel="flash_call")
        answer = api.post("/api/verifications/", {"phone": NUMBER}, format="json")
        assert answer.json()["channels"] == ["voice_code"]

    def test_both(self, provider):
        rule("deny", channel="flash_call")
        stop = rule("deny", channel="voice_code")
        with pytest.raises(ProviderUnavailable):
            services.start(NUMBER)
        stop.delete()
        assert services.start(NUMBER).channel == "voice_code"


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"prefix": "+7", "country": "RU"},
        {"prefix": "+7", "channel": "flash_call"},
        {"action": "allow", "channel": "flash_call"},
    ],
)
def test_a_rule_has_one_target(values):
    new = Rule(**{"action": "deny", **values})
    with pytest.raises(ValidationError):
        new.full_clean()
    with pytest.raises(IntegrityError), transaction.atomic():
        new.save()


def test_whole_numbers_are_masked():
    assert "9161234" not in str(rule("deny", prefix=NUMBER))
    assert "+7916" in str(rule("deny", prefix="+7916"))
