"""The chaos run: a whole site, while everything around it and in it fails. See ``__main__``."""
