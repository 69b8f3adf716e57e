"""Wire clients that adapters compose. They know a protocol, never a region."""
