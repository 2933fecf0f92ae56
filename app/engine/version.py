"""The one version number: of the package, of the API and of what an archive's manifest names as its maker.

pyproject.toml reads it from here. Archives have a format version of their own (app/engine/archive/manifest.py).
"""

VERSION = "1.0.0"
