"""The rules: check, change rows, commit, enqueue. Web, api, cli and ticks meet here and nowhere else."""
