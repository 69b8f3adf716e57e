"""Foshan (佛山市, 440600): see README.md for the wire, region.toml for what is offered."""
