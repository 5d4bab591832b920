"""Delete old rows and erase numbers. Private: use `services.forget` and `services.prune`."""
