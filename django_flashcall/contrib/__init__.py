"""Bridges to other packages, for a site that uses the package; most are apps to install."""
