//! Integration tests: one binary, since every test binary links libtorch.

mod simulate;
