"""The workbench of the people who write mapping packs: looking at packs, comparing them, beginning them.

Owns: reports as plain data, and the book in HTML. Leaves to the engine: reading, checking and converting; to
`gateway.cli.mappings`: arguments and what a terminal shows. Nothing of the gateway in service imports this package.
"""
