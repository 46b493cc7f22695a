//! Text of a stranger's choice, made safe to look at: nothing in it steers a terminal, hides, or turns a line around.

/// The text with every character that is not what it looks like written as `\u{…}`.
pub fn visible(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if deceives(c) {
            out.extend(c.escape_unicode());
        } else {
            out.push(c);
        }
    }
    out
}

/// Control characters, separators of lines, marks that change the direction, and what has no width.
fn deceives(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_or_hides_is_spelled_out() {
        assert_eq!(visible("/a\u{1b}[2J\r\n\u{9b}31m"), "/a\\u{1b}[2J\\u{d}\\u{a}\\u{9b}31m");
        assert_eq!(visible("\u{202e}txt.exe\u{200b}\u{feff}"), "\\u{202e}txt.exe\\u{200b}\\u{feff}");
        assert_eq!(visible("/straße/日本 <b>"), "/straße/日本 <b>");
    }
}
