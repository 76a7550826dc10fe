//! KYC document agent.
