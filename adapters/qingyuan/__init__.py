"""Qingyuan (清远市, 441800): see README.md for the wire, region.toml for what is offered."""
