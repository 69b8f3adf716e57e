"""HTTP: every URL in one table (`routes.py`), errors turned into answers in one place (`problems.py`)."""
