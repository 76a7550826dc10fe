//! A development Kafka broker: one node, loopback. Not for production.
