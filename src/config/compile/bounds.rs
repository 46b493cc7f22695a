//! Numbers that have bounds: one beyond them is a problem and is never cut in silence.
use super::Compiler;
use crate::config::read::Spanned;
use std::fmt::Display;

impl Compiler<'_> {
    /// A number that must lie within these bounds, both included.
    pub(super) fn within<T: PartialOrd + Display + Copy>(&self, number: &Spanned<T>, least: T, most: T) -> T {
        let bound = if number.value < least {
            Some(format!("at least `{least}`"))
        } else if number.value > most {
            Some(format!("at most `{most}`"))
        } else {
            None
        };
        if let Some(bound) = bound {
            let hint = format!("anything from `{least}` to `{most}` will do");
            self.report.hinted(number.at, format!("expected {bound}, found `{}`", number.value), Some(hint));
        }
        number.value
    }
}
