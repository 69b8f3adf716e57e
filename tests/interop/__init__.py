"""Programs of the tests that run by themselves, with stacks that we did not write; `make interop` installs those."""
