//! `sessions.revocation` → settings.
use super::Compiler;
use crate::config::options::{ListenOption, StaleOption};
use crate::config::problem::At;
use crate::config::settings::{Listen, Revocation};
use crate::config::units::{Period, seconds};

/// Longest time to remember a revocation: as long as browsers keep cookies.
const LONGEST: Period = seconds(400 * 86_400);

impl Compiler<'_> {
    /// Compiles `sessions.revocation`.
    pub(super) fn revocation(&self) -> Revocation {
        let options = &self.options.sessions.revocation;
        if options.listen.is_empty() {
            let hint = "write `listen: [admin]`; without it a stolen session lives to its end";
            self.report.hinted(options.listen.at, "nobody could end a session", Some(hint));
        }
        let mut listen = Listen::default();
        for word in &options.listen.value {
            let place = match word.value {
                ListenOption::Admin => &mut listen.admin,
                ListenOption::Users => &mut listen.users,
                ListenOption::Caep => &mut listen.caep,
                ListenOption::BackChannelLogout => &mut listen.back_channel_logout,
            };
            if std::mem::replace(place, true) {
                self.report.problem(word.at, "it stands there already");
            }
        }
        let keep = self.within(&options.keep, seconds(60), LONGEST);
        // Where nobody has written it, what outlives it is what was written.
        let at = |other: At| if options.keep.at == At::default() { other } else { options.keep.at };
        for (name, issuer) in self.options.issuers.iter() {
            let most = issuer.max_lifetime;
            if most.0 > keep.0 {
                let message = format!("tokens of issuer `{}` may live for `{most}`, longer than `keep`", name.value);
                let hint = "a revocation that is forgotten before the token ends lets it in again: lengthen `keep`";
                self.report.hinted(at(name.at), message, Some(hint));
            }
        }
        if let Some(browser) = self.options.sessions.browser.as_ref().filter(|browser| browser.absolute.0 > keep.0) {
            let message = format!("sessions may live for `{}`, longer than `keep`", browser.absolute.value);
            let hint = "a revocation that is forgotten before the session ends lets it in again: lengthen `keep`";
            self.report.hinted(at(browser.absolute.at), message, Some(hint));
        }
        let refresh = self.options.sessions.tokens.as_ref().map(|tokens| &tokens.refresh.ttl);
        if let Some(ttl) = refresh.filter(|ttl| ttl.0 > keep.0) {
            let message = format!("refresh tokens may be good for `{}`, longer than `keep`", ttl.value);
            let hint = "a revocation that is forgotten before the family ends lets it in again: lengthen `keep`";
            self.report.hinted(at(ttl.at), message, Some(hint));
        }
        Revocation {
            listen,
            max_staleness: self.within(&options.max_staleness, seconds(1), seconds(86_400)).0,
            deny_stale: options.when_stale.default == StaleOption::Deny,
            deny_stale_sensitive: options.when_stale.sensitive == StaleOption::Deny,
            keep_s: keep.seconds(),
            clock_tolerance_s: self.within(&options.clock_tolerance, seconds(0), seconds(300)).seconds(),
            max_marks: self.within(&options.max_marks, 1, 1_000_000_000),
        }
    }
}
