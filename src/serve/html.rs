//! Writes HTML in which every value is text: nothing gets onto a page without going through here.
use crate::visible::visible;
use std::fmt::{Display, Write};

/// Text as it can stand between tags and in quoted attributes.
pub(crate) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}

/// A page in the making. Markup comes from literals of this program, values from anywhere.
#[derive(Debug, Default)]
pub(in crate::serve) struct Html(String);

impl Html {
    /// Markup of our own; never a value.
    pub fn raw(&mut self, markup: &'static str) -> &mut Html {
        self.0.push_str(markup);
        self
    }

    /// A value, as text that can stand between tags and in quoted attributes.
    pub fn text(&mut self, value: impl Display) -> &mut Html {
        self.0.push_str(&escaped(&visible(&value.to_string())));
        self
    }

    /// A sentence in which names stand in backticks.
    pub fn sentence(&mut self, sentence: &str) -> &mut Html {
        for (index, part) in sentence.split('`').enumerate() {
            match index % 2 {
                0 => self.text(part),
                _ => self.raw("<code>").text(part).raw("</code>"),
            };
        }
        self
    }

    /// Several lines of text, for `<pre>`.
    pub fn lines(&mut self, text: &str) -> &mut Html {
        for line in text.lines() {
            self.text(line);
            self.0.push('\n');
        }
        self
    }

    /// A number of our own.
    pub fn number(&mut self, number: impl Into<f64>, decimals: usize) -> &mut Html {
        let _ = write!(self.0, "{:.decimals$}", number.into());
        self
    }

    /// The page.
    pub fn finish(self) -> String {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_text_wherever_they_stand() {
        let mut html = Html::default();
        html.raw("<td title=\"").text("\" onload='x'").raw("\">").text("<script>&\u{202e}\n").raw("</td>");
        let expected = "<td title=\"&quot; onload=&#39;x&#39;\">&lt;script&gt;&amp;\\u{202e}\\u{a}</td>";
        assert_eq!(html.finish(), expected);
        let mut html = Html::default();
        html.sentence("route `a<b`: 3 of `4");
        assert_eq!(html.finish(), "route <code>a&lt;b</code>: 3 of <code>4</code>", "balanced, whatever comes");
    }
}
