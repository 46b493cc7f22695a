//! What becomes of tokens of our own, and of proofs of possession.
use super::families::Families;

/// Counts them.
#[derive(Clone, Copy)]
pub struct TokenMetrics<'a> {
    families: &'a Families,
}

impl<'a> TokenMetrics<'a> {
    pub(super) fn new(families: &'a Families) -> TokenMetrics<'a> {
        TokenMetrics { families }
    }

    /// A family was opened.
    pub fn opened(&self) {
        self.families.families_opened.inc();
    }

    /// A refresh token was presented; `result` is one of a closed set.
    pub fn refreshed(&self, result: &'static str) {
        self.families.refreshes.with_label_values(&[result]).inc();
    }

    /// A proof of possession was presented: `ok`, `invalid` or `replayed`; `unshared` besides where the shared store was
    /// silent.
    pub fn proof(&self, result: &'static str) {
        self.families.proofs.with_label_values(&[result]).inc();
    }
}
