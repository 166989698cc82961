"""House rules that no linter knows: `python -m tools.check`. One module per rule."""
