//! Conditions in CEL (`require.when`), over the request, the tenant and the session.
use crate::deliberation::Findings;
use crate::facts::Facts;
use crate::request::Request;
use crate::rules::{Rules, Seat, TenantStatus};
use cel::{Context, ExecutionError, Program, Value};
use std::collections::HashMap;
use std::sync::Arc;

/// A compiled condition. Whatever goes wrong while it is evaluated refuses.
pub struct Condition {
    source: Arc<str>,
    program: Program,
}

impl std::fmt::Debug for Condition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Condition({})", self.source)
    }
}

/// Longest source accepted, bytes.
const MAX_SOURCE: usize = 1024;

/// Deepest nesting of brackets. The parser of the language takes 170 KB of stack for a level, and a thread has 2 MB: a
/// policy file may be wrong, but it may not end the process that reads it.
const MAX_NESTING: usize = 8;

/// Names that a condition may use, by variable: the reference of the language.
pub const VARIABLES: &[(&str, &[&str])] = &[
    ("request", &["method", "host", "path", "client"]),
    ("tenant", &["id", "class", "status"]),
    ("session", &["subject", "issuer", "roles", "tenant", "acr", "amr", "auth_age_s"]),
];

impl Condition {
    /// Compiles a condition; the error says what is wrong with it. Comprehensions may not be nested, names must exist.
    pub fn compile(source: &str) -> Result<Condition, String> {
        if source.len() > MAX_SOURCE {
            return Err(format!("a condition has at most {MAX_SOURCE} bytes"));
        }
        if nesting(source).is_none_or(|levels| levels > MAX_NESTING) {
            return Err(format!(
                "a condition ends its quotes, escapes nothing unknown, and its brackets nest at most {MAX_NESTING} deep"
            ));
        }
        let program = Program::compile(source).map_err(|e| e.to_string().replace('\n', " "))?;
        if let Some(unknown) =
            program.references().variables().into_iter().find(|v| !VARIABLES.iter().any(|(name, _)| name == v))
        {
            let known: Vec<&str> = VARIABLES.iter().map(|(name, _)| *name).collect();
            return Err(format!("unknown variable `{unknown}`; there are {}", known.join(", ")));
        }
        let comprehensions = [".all(", ".exists(", ".exists_one(", ".map(", ".filter("];
        if comprehensions.iter().map(|c| source.matches(c).count()).sum::<usize>() > 1 {
            return Err("at most one of all, exists, exists_one, map and filter in a condition".to_owned());
        }
        for (variable, members) in VARIABLES {
            for (at, _) in source.match_indices(&format!("{variable}.")) {
                let name: String = source
                    .get(at + variable.len() + 1..)
                    .unwrap_or_default()
                    .chars()
                    .take_while(|c| c.is_alphanumeric() || *c == '_')
                    .collect();
                let starts = source
                    .get(..at)
                    .and_then(|s| s.chars().last())
                    .is_none_or(|c| !c.is_alphanumeric() && c != '_' && c != '.' && c != '"' && c != '\'');
                if starts && !members.contains(&name.as_str()) {
                    return Err(format!("`{variable}` has no `{name}`; it has {}", members.join(", ")));
                }
            }
        }
        Ok(Condition { source: source.into(), program })
    }

    /// The source as written.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Evaluates; anything but `true` or `false` is an error.
    pub(crate) fn holds(
        &self,
        rules: &Rules,
        request: &Request,
        facts: &Facts,
        seat: Option<&Seat>,
        findings: &Findings,
    ) -> Result<bool, String> {
        let mut context = Context::default();
        context.add_variable_from_value(
            "request",
            map([
                ("method", text(request.method.as_str())),
                ("host", text(&request.host)),
                ("path", text(&request.path)),
                ("client", text(&facts.client.0.to_string())),
            ]),
        );
        if let Some(seat) = seat {
            context.add_variable_from_value(
                "tenant",
                map([
                    ("id", text(&seat.id)),
                    ("class", rules.classes.get(seat.tenant.class).map_or(Value::Null, |c| text(c))),
                    (
                        "status",
                        text(match seat.tenant.status {
                            TenantStatus::Active => "active",
                            TenantStatus::Suspended => "suspended",
                        }),
                    ),
                ]),
            );
        }
        if let Some(identity) = &findings.identity {
            let list = |items: &[Arc<str>]| Value::List(Arc::new(items.iter().map(|i| text(i)).collect()));
            let optional = |value: &Option<Arc<str>>| value.as_ref().map_or(Value::Null, |v| text(v));
            let age = identity.auth_time.map(|t| facts.at_s().saturating_sub(t));
            context.add_variable_from_value(
                "session",
                map([
                    ("subject", text(&identity.subject.0)),
                    ("issuer", text(&identity.issuer)),
                    ("roles", list(&identity.roles)),
                    ("tenant", optional(&identity.tenant)),
                    ("acr", optional(&identity.acr)),
                    ("amr", list(&identity.amr)),
                    ("auth_age_s", age.and_then(|a| i64::try_from(a).ok()).map_or(Value::Null, Value::Int)),
                ]),
            );
        }
        match self.program.execute(&context) {
            Ok(Value::Bool(holds)) => Ok(holds),
            Ok(other) => Err(format!("the condition gives {} instead of a bool", other.type_of())),
            Err(ExecutionError::UndeclaredReference(name)) => Err(format!("`{name}` is not known for this request")),
            Err(error) => Err(error.to_string()),
        }
    }
}

fn text(value: &str) -> Value {
    Value::String(Arc::new(value.to_owned()))
}

fn map<const N: usize>(entries: [(&'static str, Value); N]) -> Value {
    Value::from(entries.into_iter().collect::<HashMap<&'static str, Value>>())
}
/// How deep brackets stand in brackets outside of comments and of text in quotes; `None` where a quote does not end or
/// holds an escape that the language does not have: its reader would take what follows for code.
fn nesting(source: &str) -> Option<usize> {
    let (mut rest, mut level, mut deepest, mut before) = (source, 0usize, 0usize, ' ');
    while let Some(c) = rest.chars().next() {
        rest = rest.get(c.len_utf8()..)?;
        match c {
            '(' | '[' | '{' => level += 1,
            ')' | ']' | '}' => level = level.saturating_sub(1),
            '"' | '\'' => rest = behind_quote(rest, c, matches!(before, 'r' | 'R'))?,
            '/' if before == '/' => rest = rest.split_once('\n').map_or("", |(_, after)| after),
            _ => {}
        }
        deepest = deepest.max(level);
        before = c;
    }
    Some(deepest)
}

/// What follows text that began with this quote, which may be one of three; in raw text a backslash is a backslash.
fn behind_quote(text: &str, quote: char, raw: bool) -> Option<&str> {
    let (text, end) = match text.strip_prefix(quote).map(|more| (more, more.strip_prefix(quote))) {
        None => (text, quote.to_string()),
        Some((_, Some(inside))) => (inside, quote.to_string().repeat(3)),
        Some((after, None)) => return Some(after),
    };
    let mut rest = text;
    loop {
        if let Some(after) = rest.strip_prefix(&*end) {
            return Some(after);
        }
        let mut chars = rest.chars();
        rest = match chars.next()? {
            '\\' if !raw => behind_escape(chars.as_str())?,
            '\n' | '\r' if end.len() == 1 => return None,
            _ => chars.as_str(),
        };
    }
}

/// What follows an escape of the language, without its backslash.
fn behind_escape(text: &str) -> Option<&str> {
    let mut chars = text.chars();
    let digits = match chars.next()? {
        'a' | 'b' | 'f' | 'n' | 'r' | 't' | 'v' | '\\' | '?' | '"' | '\'' | '`' => return Some(chars.as_str()),
        'x' | 'X' => 2,
        'u' => 4,
        'U' => 8,
        '0'..='3' => {
            let octal = chars.as_str().get(..2)?.bytes().all(|b| matches!(b, b'0'..=b'7'));
            return chars.as_str().get(2..).filter(|_| octal);
        }
        _ => return None,
    };
    let hex = chars.as_str().get(..digits)?.bytes().all(|b| b.is_ascii_hexdigit());
    chars.as_str().get(digits..).filter(|_| hex)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_nest_as_deep_as_the_stack_bears() {
        for (source, levels) in [
            ("request.path.startsWith(\"/a\")", Some(1)),
            ("((1))[{2: [3]}]", Some(3)),
            ("\"((((\" + '[[' + \"\"\"{{\"{\n\"\"\" + (1)", Some(1)),
            ("\"\\\"((\" == r\"\\\" && (1 == 1)", Some(1)),
            ("\"\" == '' || ", Some(0)),
            ("\"\\x41\\u00e9\\U0001f600\\101\\n(\" // it's \"\"\" ((\n== [1]", Some(1)),
            ("\"((", None),
            ("\"\\q((\"", None),
            ("\"\\uZZZZ((\"", None),
            ("\"\\x4", None),
            ("\"\\189\"", None),
            ("'a\n'", None),
            ("\"a\\", None),
            ("))((", Some(2)),
        ] {
            assert_eq!(nesting(source), levels, "{source}");
        }
    }

    /// Found by fuzzing: a few dozen brackets overflowed the stack, and with it ended the process.
    #[test]
    fn deep_nesting_is_a_problem_in_words() {
        for bracket in ["(", "[", "{", "f(", "{1:", "a[", "A{a:"] {
            let message = Condition::compile(&bracket.repeat(100)).unwrap_err();
            assert!(message.contains("at most 8 deep"), "{message}");
            assert!(!Condition::compile(&bracket.repeat(8)).unwrap_err().contains("deep"));
        }
        // What the parser would not take for text or comment, and reads on as code.
        for open in ["\"\\q", "\"\\uZZ", "// \"\"\"\n", "b'\\8"] {
            let message = Condition::compile(&format!("{open}{}", "{".repeat(60))).unwrap_err();
            assert!(message.contains("at most 8 deep"), "{open}: {message}");
        }
        let deepest = format!("{}true{}", "(".repeat(8), ")".repeat(8));
        assert!(Condition::compile(&deepest).is_ok());
    }
}
