//! Integration tests: real servers, real HTTP, the real binary.

mod rendering;
