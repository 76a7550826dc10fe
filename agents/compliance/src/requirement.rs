//! What a rule can ask for, and whether an application has it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Application;

/// Something an application must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Requirement {
    /// A name.
    Name,
    /// A date of birth.
    BirthDate,
    /// A nationality.
    Nationality,
    /// An address.
    Address,
    /// The number of an identity document, or a taxpayer's number.
    IdentificationNumber,
    /// An identity document.
    ProofOfIdentity,
    /// A document that shows the address.
    ProofOfAddress,
    /// A document that shows where the money comes from.
    SourceOfFunds,
}

impl Requirement {
    /// Its name, as in rules and findings.
    pub fn name(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::BirthDate => "birth_date",
            Self::Nationality => "nationality",
            Self::Address => "address",
            Self::IdentificationNumber => "identification_number",
            Self::ProofOfIdentity => "proof_of_identity",
            Self::ProofOfAddress => "proof_of_address",
            Self::SourceOfFunds => "source_of_funds",
        }
    }

    /// As people say it, and as the rules are searched for it.
    pub fn words(self) -> &'static str {
        match self {
            Self::Name => "full name",
            Self::BirthDate => "date of birth",
            Self::Nationality => "nationality",
            Self::Address => "residential address",
            Self::IdentificationNumber => "identification number",
            Self::ProofOfIdentity => "verify identity document passport",
            Self::ProofOfAddress => "verify residential address utility bill",
            Self::SourceOfFunds => "source of funds and wealth",
        }
    }

    /// Documents that show it; empty for what is merely stated.
    fn documents(self) -> &'static [&'static str] {
        match self {
            Self::ProofOfIdentity => &[
                "passport",
                "id_card",
                "identity_card",
                "national_id",
                "driving_licence",
                "drivers_license",
                "residence_permit",
            ],
            Self::ProofOfAddress => {
                &["utility_bill", "bank_statement", "tenancy_agreement", "tax_notice", "residence_certificate"]
            }
            Self::SourceOfFunds => &["payslip", "tax_return", "employment_contract", "sale_contract"],
            _ => &[],
        }
    }

    /// Whether it is a document that is sent in, not a statement.
    pub fn is_document(self) -> bool {
        !self.documents().is_empty()
    }

    /// Whether the application has it.
    pub(crate) fn is_met(self, input: &Application) -> bool {
        let said = |field: &Option<String>| field.as_deref().is_some_and(|text| !text.trim().is_empty());
        let applicant = &input.applicant;
        match self {
            Self::Name => !applicant.name.trim().is_empty(),
            Self::BirthDate => said(&applicant.birth_date),
            Self::Nationality => said(&applicant.nationality),
            Self::Address => said(&applicant.address),
            Self::IdentificationNumber => said(&applicant.identification_number) || said(&input.document.number),
            Self::ProofOfIdentity if input.document.is_there() => true,
            document => input.documents_provided.iter().any(|provided| document.is_shown_by(provided)),
        }
    }

    fn is_shown_by(self, provided: &str) -> bool {
        let plain = provided.trim().to_ascii_lowercase().replace([' ', '-', '\''], "_");
        plain == self.name() || self.documents().contains(&plain.as_str())
    }
}
