"""The rules: check, change rows, commit, enqueue. Web, API, CLI and ticks all go through these functions."""
