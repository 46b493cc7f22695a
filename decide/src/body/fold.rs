//! Texts that applications take for the same are folded into one.
use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

/// Compatibility forms, case, marks (many databases compare without accents), what is not seen, and spaces around and
/// between are folded. `Ｊosé `, `JOSE` and `jose` are one.
pub(super) fn fold(text: &str) -> String {
    let shown = text.nfkd().filter(|c| !is_combining_mark(*c) && !is_unseen(*c));
    // Upper, then lower, letter by letter: `ß` becomes `ss`, all sigmas become one.
    let cased = shown.flat_map(char::to_uppercase).flat_map(char::to_lowercase);
    // What the change of case takes apart or makes compatible is folded again.
    let folded: String = cased.nfkd().filter(|c| !is_combining_mark(*c)).collect();
    folded.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Control characters but those that are spaces, and what Unicode calls default ignorable.
fn is_unseen(c: char) -> bool {
    (c.is_control() && !c.is_whitespace())
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fff8}'
            | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}
