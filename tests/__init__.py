"""The tests: what each promises stands in its name, why in its docstring."""
