"""Bridges to other packages, each an app that a site installs if it uses the package."""
