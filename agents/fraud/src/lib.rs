//! KYC fraud agent.
