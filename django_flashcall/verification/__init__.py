"""The parts of a verification: codes, calls, tokens, lookup. Private: use `services`."""
