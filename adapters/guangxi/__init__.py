"""Guangxi (广西壮族自治区, 450000): see README.md for the wire, region.toml for what is offered."""
