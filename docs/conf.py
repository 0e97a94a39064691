"""The documentation site: MyST pages, and notebooks that are executed when it is built."""

project = "kafkasim"
author = "The kafkasim authors"
copyright = "the kafkasim authors"

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
source_suffix = {".md": "myst-nb"}
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "kafkasim"

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
# Pages are read in the repository too, where links to source files and folders work.
suppress_warnings = ["myst.xref_missing"]

nb_execution_mode = "cache"
nb_execution_raise_on_error = True
nb_execution_timeout = 300
# A figure brings Plotly's script into its page: no network is needed to look at it.
nb_mime_priority_overrides = [("html", "text/html", 0)]

autodoc_typehints = "description"
nitpicky = False
