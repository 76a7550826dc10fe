//! KYC customer agent.
