//! KYC composer agent.
