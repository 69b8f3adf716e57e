"""Hong Kong SAR (香港特別行政區, 810000): see README.md for the wire, region.toml for what is offered."""
