//! How bytes become the several values that a target needs: lines and numbers, so that seeds can be read and written.

/// The first byte as a number, and the rest; 0 where there is none.
pub fn number(data: &[u8]) -> (usize, &[u8]) {
    data.split_first().map_or((0, data), |(first, rest)| (usize::from(*first), rest))
}

/// What stands before the first line feed, and what follows it.
pub fn line(data: &[u8]) -> (&[u8], &[u8]) {
    let end = data.iter().position(|b| *b == b'\n').unwrap_or(data.len());
    (&data[..end], data.get(end + 1..).unwrap_or_default())
}

/// The line as text; what is not UTF-8 never reaches the parsers that take text.
pub fn text_line(data: &[u8]) -> Option<(&str, &[u8])> {
    let (line, rest) = line(data);
    Some((std::str::from_utf8(line).ok()?, rest))
}

/// `name: value` lines as pairs; a line without a colon is a name with an empty value.
pub fn fields(data: &[u8]) -> Vec<(&[u8], &[u8])> {
    data.split(|b| *b == b'\n').filter(|line| !line.is_empty()).map(field).collect()
}

fn field(line: &[u8]) -> (&[u8], &[u8]) {
    let colon = line.iter().position(|b| *b == b':').unwrap_or(line.len());
    let value = line.get(colon + 1..).unwrap_or_default();
    (&line[..colon], value.strip_prefix(b" ").unwrap_or(value))
}

/// Without spaces and tabs around it: our own reading of RFC 9110, 5.6.3, to hold the parsers' against.
pub fn without_space(bytes: &[u8]) -> &[u8] {
    let blank = |b: &u8| matches!(b, b' ' | b'\t');
    let start = bytes.iter().position(|b| !blank(b)).unwrap_or(bytes.len());
    let end = bytes.iter().rposition(|b| !blank(b)).map_or(start, |at| at + 1);
    &bytes[start..end]
}

/// The lines of a section of fields that ends with an empty line, read as naively as can be: `None` where a line does
/// not end with CRLF, or has no colon.
pub fn naive_section(bytes: &[u8]) -> Option<Vec<(&[u8], &[u8])>> {
    let mut rest = bytes;
    let mut found = Vec::new();
    loop {
        let end = rest.windows(2).position(|pair| pair == b"\r\n")?;
        let (line, after) = (&rest[..end], &rest[end + 2..]);
        if line.iter().any(|b| matches!(b, b'\r' | b'\n' | 0)) {
            return None;
        }
        if line.is_empty() {
            return after.is_empty().then_some(found);
        }
        let colon = line.iter().position(|b| *b == b':')?;
        found.push((&line[..colon], without_space(&line[colon + 1..])));
        rest = after;
    }
}
