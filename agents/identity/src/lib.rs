//! KYC identity agent.
