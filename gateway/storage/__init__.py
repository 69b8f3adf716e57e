"""Everything durable. `open_store` gives the one `Store` that the deployment's configuration names.

A *unit* is a plain function of a SQLAlchemy connection: it runs inside one transaction, on whichever engine is
configured, and holds no I/O but its statements. That is the whole interface between the core and its database.
"""

from gateway.storage.store import Store, Unit, open_store

__all__ = ["Store", "Unit", "open_store"]
