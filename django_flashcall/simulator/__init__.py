"""A simulator of the provider's API on a local port, for tests, demos and development.

It implements the FlashingCall REST API over real HTTP, checks requests as strictly as the provider,
records the calls, and posts delivery reports. Nobody is called and nothing costs money. It needs
only the standard library, not Django::

    with Simulator() as simulator:
        requests.post(simulator.url, json={"login": "demo", "password": "demo", ...})
        assert simulator.last_call("+79161234567").code == "1234"

or ``python -m django_flashcall.simulator --port 8800 --login demo --password demo``.

The last four digits of the called number decide what happens. *Rings* is whether the phone rings;
the caller cannot know it after a lost or invalid answer. Reports are posted with ``auto_reports``.
"Once" lasts until `Simulator.clear`.

============  ===============================================================  =====
Ending        What happens                                                     Rings
============  ===============================================================  =====
9900          error 100, internal to the provider                              no
9901 to 9911  error 1 to 11                                                    no
9920          no answer until either side closes the connection                yes
9921          the connection is reset before an answer                         yes
9922          success, the status line and headers at a byte a second          yes
9923          success, the body at a byte a second                             yes
9924          a proxy's HTML page with status 502                              yes
9925          an HTML page with status 200                                     yes
9926          status 200 with a JSON body of more than 64 KiB                  yes
9927          a redirect (status 307) to another path of the simulator         no
9928          status 200 with the object of error 8                            no
9929          status 200 without mtNum                                         yes
9930          success with mtNum as a JSON number                              yes
9931          status 200 with a JSON list                                      yes
9932          status 200 with a JSON string                                    yes
9933          status 200 with a JSON null                                      yes
9934          status 200 with a body that is not UTF-8                         yes
9935          status 200 with an empty body                                    yes
9941          error 1 once for this number, then success                       then
9943          error 3 once for this number, then success                       then
9951          success, reported undelivered: 1, unknown                        yes
9952          success, reported undelivered: 2, absent-subscriber              yes
9954          success, reported undelivered: 4, failure                        yes
9956          success, reported undelivered: 6, teleservice-not-provisioned    yes
9960          success, never reported                                          yes
9961          success, reported delivered before the answer is sent            yes
9966          success, reported undelivered: 16, busy                          yes
others        success, reported delivered                                      yes
============  ===============================================================  =====
"""

from .answers import ERRORS, STEERING, Answer, Manner
from .provider import Simulator
from .sendings import Account, PlacedCall, ReceivedRequest

__all__ = [
    "ERRORS",
    "STEERING",
    "Account",
    "Answer",
    "Manner",
    "PlacedCall",
    "ReceivedRequest",
    "Simulator",
]
