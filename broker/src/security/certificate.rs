//! From a client certificate to a principal, by rules.

use crate::types::Principal;

/// Rules in Kafka's own form (`ssl.principal.mapping.rules`): `RULE:pattern/replacement/[LU]` or `DEFAULT`, first match wins.
#[derive(Clone, Debug, Default)]
pub struct PrincipalRules {}

impl PrincipalRules {
    pub fn parse(rules: &[String]) -> Result<Self, String> {
        let _ = rules;
        todo!()
    }

    /// The principal of a verified certificate (DER of the leaf).
    pub fn principal(&self, certificate: &[u8]) -> Result<Principal, String> {
        let _ = certificate;
        todo!()
    }
}
