"""The site: the pages of this folder, reports and README as they are; a link that leads nowhere is an error.

`make docs` builds it with the repository as the source, so that links mean the same here and on a code host.
"""

from importlib.metadata import version as installed

project = "unmul"
copyright = "The unmul authors, Apache-2.0"
version = release = installed("unmul")

extensions = ["myst_parser"]
myst_heading_anchors = 3  # pages link to headings, as on a code host
root_doc = "docs/index"
include_patterns = ["*.md", "docs/**.md", "benchmarks/reports/*.md", "src/unmul/assets/*/README.md"]
suppress_warnings = ["myst.header"]  # pages may begin at any level

html_theme = "furo"
html_title = "unmul"
