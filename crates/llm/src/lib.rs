//! The model port, async-openai behind it, and the mock model.
