"""How long rows are kept, and how a number is erased. Private: `services.forget` and `prune`."""
