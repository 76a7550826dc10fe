//! KYC compliance agent.
