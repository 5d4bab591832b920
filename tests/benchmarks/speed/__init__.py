"""Measures the speed of the app beside other packages; `make bench` runs it. See `__main__`."""
