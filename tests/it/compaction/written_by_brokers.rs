//! Directories that brokers wrote.
