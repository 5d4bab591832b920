"""A few days of the simulated month, so that the guard gets no worse; see `tests.benchmarks.month`.

The sizes are those of the month, cut down; the same seed gives the same days.
"""

import pytest

from .benchmarks.month import PEOPLE, Size, report, simulate

SIZE = Size(
    days=4,
    signups_a_day=15,
    pumped_calls=2_000,
    slow_a_day=30,
    completing_a_day=40,
    sprayed_numbers=200,
    brute_victims=1,
    locked_victims=3,
    closing_a_day=24,
    closing_afresh_a_day=12,
    pumped_signups_a_day=1,
    closed_signups_a_day=2,
)


@pytest.mark.django_db(transaction=True)
def test_pumping_is_stopped_and_honest_people_are_not(settings):
    settings.FLASHCALL = {
        "BACKENDS": {"default": {"BACKEND": "django_flashcall.backends.locmem.LocmemBackend"}}
    }
    without, with_guard = (simulate(SIZE, mode, seed=1) for mode in ("off", "deny"))
    table = "\n".join(report(without, with_guard))
    # Of each range so many calls and no more are placed, however many are asked for.
    for name, ranges in (("pumping", 5), ("pumping, 60 % completed", 5), ("slow pumping", 8)):
        assert without[name].placed > 12 * ranges, table
        assert with_guard[name].placed <= 12 * ranges, table
    assert with_guard["honest people"].people == 60
    assert with_guard["honest people"].refused == 0, table
    for name in PEOPLE:
        if name != "victims, new device":
            assert with_guard[name].people > 0
            assert with_guard[name].refused == 0, table
    assert with_guard["closing ranges"].placed < without["closing ranges"].placed / 2, table
    # Three guesses at each of 26 numbers hit one code in 10,000 each.
    assert with_guard["guesses sprayed"].guessed <= 1, table
    assert with_guard["codes of victims guessed"].guessed <= 1, table
