"""Guangdong (广东省, 440000): see README.md for the wire, region.toml for what is offered."""
