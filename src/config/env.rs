//! `${NAME}`, `${NAME:-default}` and `${NAME:?hint}` in plain scalars. Replacement happens after parsing, so no value
//! of a variable can ever add keys or lines.

/// What a scalar became.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expanded {
    /// The text with every variable replaced.
    pub text: String,
    /// Names of the variables that stood in it.
    pub names: Vec<String>,
}

/// What is wrong with a scalar's variables: message and hint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvProblem {
    /// What is wrong.
    pub message: String,
    /// What may help.
    pub hint: String,
}

/// Replaces variables; `None` where there are none.
pub fn expand(text: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Result<Option<Expanded>, EnvProblem> {
    if !text.contains("${") {
        return Ok(None);
    }
    let mut out = String::with_capacity(text.len());
    let mut names = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        out.push_str(before);
        let Some((inner, next)) = after.split_once('}') else {
            return Err(problem("`${` without `}`", "quote the scalar to keep it literal"));
        };
        rest = next;
        let (name, default) = match inner.split_once(':') {
            Some((name, default)) => (name, Some(default)),
            None => (inner, None),
        };
        let valid = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        if name.is_empty() || !name.bytes().all(valid) || name.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(problem(&format!("`{name}` is not the name of a variable"), "letters, digits and `_`"));
        }
        names.push(name.to_owned());
        let value = lookup(name).filter(|value| !value.is_empty());
        match (value, default) {
            (Some(value), _) => out.push_str(&value),
            (None, Some(default)) => match (default.strip_prefix('-'), default.strip_prefix('?')) {
                (Some(default), _) => out.push_str(default),
                (None, Some(hint)) => return Err(problem(&format!("`{name}` is not set"), hint)),
                (None, None) => {
                    return Err(problem(
                        &format!("`${{{inner}}}` is not understood"),
                        "write `${NAME}`, `${NAME:-default}` or `${NAME:?hint}`",
                    ));
                }
            },
            (None, None) => {
                return Err(problem(
                    &format!("`{name}` is not set"),
                    &format!("set it, or write `${{{name}:-default}}`"),
                ));
            }
        }
    }
    out.push_str(rest);
    Ok(Some(Expanded { text: out, names }))
}

fn problem(message: &str, hint: &str) -> EnvProblem {
    EnvProblem { message: message.to_owned(), hint: hint.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_defaults_and_hints() {
        let env = |name: &str| match name {
            "A" => Some("1".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        for (text, expected) in [
            ("plain", "plain"),
            ("${A}", "1"),
            ("x${A}y${A}", "x1y1"),
            ("${B:-d}", "d"),
            ("${EMPTY:-d}", "d"),
            ("${B:-}", ""),
            ("${B:-127.0.0.1:80}", "127.0.0.1:80"),
            ("${B}", "`B` is not set (set it, or write `${B:-default}`)"),
            ("${B:?ask ops}", "`B` is not set (ask ops)"),
            ("${B:d}", "`${B:d}` is not understood (write `${NAME}`, `${NAME:-default}` or `${NAME:?hint}`)"),
            ("${A", "`${` without `}` (quote the scalar to keep it literal)"),
            ("${1}", "`1` is not the name of a variable (letters, digits and `_`)"),
        ] {
            let found = match expand(text, &env) {
                Ok(Some(expanded)) => expanded.text,
                Ok(None) => text.to_owned(),
                Err(problem) => format!("{} ({})", problem.message, problem.hint),
            };
            assert_eq!(found, expected, "{text}");
        }
    }
}
