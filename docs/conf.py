"""The site: every page of this folder as it is. Built by `make docs`; a link that leads nowhere is an error."""

from importlib.metadata import version as installed

project = "unmul"
copyright = "The unmul authors, Apache-2.0"
version = release = installed("unmul")

extensions = ["myst_parser"]
myst_heading_anchors = 3  # pages link to headings, as on a code host
exclude_patterns = ["decisions/README.md"]
suppress_warnings = ["myst.header"]  # pages may begin at any level

html_theme = "furo"
html_title = "unmul"
