//! Empty until its suites have code.
