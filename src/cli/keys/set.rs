//! Orders about keys of the state engine, given to a running gateway, which keeps them.
use super::{Where, Who, period};
use crate::cli::desk::EXIT_ABSENT;
use crate::config::keys::KeySetPlace;
use crate::config::process_env;
use crate::serve::admin::keys::{self as desk, Demand, Proven, Receipt, Row, Wish};
use anyhow::{Context, Result, anyhow, bail};
use std::process::ExitCode;

impl Where {
    /// Has an order carried out; `Err` with the exit code where no gateway answers, which has been said.
    pub(super) fn order(&self, set: &KeySetPlace, wish: Wish) -> Result<Result<Receipt, ExitCode>> {
        let at_s = u64::try_from(jiff::Timestamp::now().as_second()).unwrap_or_default();
        let demand = Demand { set: set.name.clone(), wish, actor: self.actor.clone(), at_s };
        let pepper = set.pepper.key(&process_env).map_err(|message| anyhow!(message))?;
        let body = serde_json::to_string(&Proven::new(&demand, &pepper)?)?;
        match self.desk.ask("/keys", &body)? {
            Some(body) => {
                let receipt = serde_json::from_str(&body).context("the gateway answers in another version's words")?;
                Ok(Ok(receipt))
            }
            None => Ok(Err(ExitCode::from(EXIT_ABSENT))),
        }
    }

    /// The keys of a set.
    pub(super) fn rows(&self, set: &KeySetPlace) -> Result<Result<Vec<Row>, ExitCode>> {
        match self.order(set, Wish::List)? {
            Ok(Receipt::Keys(rows)) => Ok(Ok(rows)),
            Ok(_) => bail!("the gateway answers something else"),
            Err(code) => Ok(Err(code)),
        }
    }

    /// Carries out what changes a key, and says what has become of it.
    pub(super) fn change(&self, set: &KeySetPlace, wish: Wish) -> Result<ExitCode> {
        let id = match &wish {
            Wish::Rotate { id, .. } | Wish::Revoke { id } | Wish::Import { id, .. } => id.clone(),
            Wish::New(_) | Wish::List => String::new(),
        };
        match self.order(set, wish)? {
            Err(code) => return Ok(code),
            Ok(Receipt::Made { key, id }) => {
                println!("{key}");
                eprintln!("This key is shown once. Its id is `{id}`; the set `{}` holds its hash.", set.name);
            }
            Ok(Receipt::Rotated { key, id: successor, until }) => {
                println!("{key}");
                eprintln!("This key is shown once. Its id is `{successor}`; `{id}` works until {until}.");
            }
            Ok(Receipt::Revoked { again: false }) => println!("`{id}` is revoked"),
            Ok(Receipt::Revoked { again: true }) => println!("`{id}` was revoked already; all replicas are told again"),
            Ok(Receipt::Imported) => super::imported(&id),
            Ok(Receipt::Keys(_)) => bail!("the gateway answers something else"),
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Who {
    /// As a gateway is asked for it.
    pub(super) fn wished(self) -> Result<desk::Who> {
        let expires_s = self.expires.as_deref().map(period).transpose()?.map(|period| period.seconds());
        let Who { name, tenant, roles, scopes, subject, expires: _ } = self;
        let scopes = Some(scopes).filter(|scopes| !scopes.is_empty());
        Ok(desk::Who { name, tenant, roles, scopes, subject, expires_s })
    }
}
