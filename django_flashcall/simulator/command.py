"""The command line of the simulated provider."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any

from .provider import Simulator, is_http_url
from .sendings import Account


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `serve` to a parser."""
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8800, help="0 takes any free port")
    parser.add_argument("--login", default="demo", help="with -voice added: an account for voice")
    parser.add_argument("--password", default="demo", help="of both accounts")
    parser.add_argument("--six-digits", action="store_true", help="enable codes of six digits")
    parser.add_argument(
        "--report-url", type=_url, default="", help="post delivery reports there", metavar="URL"
    )
    parser.add_argument("--report-delay", type=float, default=3.0, help="seconds to the final one")


def _url(text: str) -> str:
    if text and not is_http_url(text):
        raise argparse.ArgumentTypeError("it must begin with http:// or https://")
    return text


def serve(options: Mapping[str, Any]) -> None:
    """Serve until interrupted and print every call; `options` come from `add_arguments`.

    Raises:
        SystemExit: the port is taken, or the host is not one of this machine.
    """
    simulator = Simulator(
        [
            Account(options["login"], options["password"], six_digits=options["six_digits"]),
            Account(f"{options['login']}-voice", options["password"], voice=True),
        ],
        host=options["host"],
        port=options["port"],
        report_url=options["report_url"],
        auto_reports=True,
        report_delay=options["report_delay"],
    )
    try:
        simulator.start()
    except (OSError, OverflowError) as error:  # a port above 65535 overflows
        reason = getattr(error, "strerror", None) or str(error)
        raise SystemExit(
            f"Cannot serve on {options['host']}:{options['port']}: {reason}. "
            "Choose another --port or --host."
        ) from None
    try:
        _print_calls(simulator)
    except KeyboardInterrupt:
        pass
    finally:
        simulator.stop()


def _print_calls(simulator: Simulator) -> None:
    print(f"The provider's API: {simulator.url} (GET {simulator.url}calls)", flush=True)
    for n in count(1):
        call = simulator.wait_for_call(n, timeout=None)
        said = f'says "{call.spoken}"' if call.voice else "hangs up"
        print(f"{call.calling_number} calls {call.number} and {said}", flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve from the command line; `arguments` are by default those of the process."""
    parser = argparse.ArgumentParser(
        prog="python -m django_flashcall.simulator",
        description="The provider's FlashingCall API on a local port. Nobody is called.",
    )
    add_arguments(parser)
    serve(vars(parser.parse_args(arguments)))
