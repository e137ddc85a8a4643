//! Empty until its test module has code.
