"""From start to token: codes, calls, tokens, lookup. Private: use `services`."""
