//! Verdicts on creation, tuning and destruction, and the built-in default policy
