"""How fast cases go in, wait and go out, and what they cost in memory; each figure beside a bare program's."""
