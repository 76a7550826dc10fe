//! What an agent author sees.
