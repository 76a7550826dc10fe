//! KYC supervisor agent.
