"""What tests share and pytest need not know: plain helpers. Fixtures stand in `tests/conftest.py`."""
