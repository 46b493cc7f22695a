//! Readers of what reached an application: one that keeps to the letter, and several that forgive what real servers do.
//!
//! A request that was smuggled is one that some reader sees and another does not. So every byte that reached the
//! application is read by all of them, and they must find the same requests.
use std::fmt;

/// A request as a reader sees it.
#[derive(Clone, PartialEq, Eq)]
pub struct Read {
    pub method: String,
    pub target: String,
    pub fields: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub trailers: Vec<(String, String)>,
}

impl fmt::Debug for Read {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} [{}]", self.method, self.target, self.body.escape_ascii())
    }
}

impl Read {
    /// All values of a field.
    pub fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.fields.iter().filter(move |(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    /// What two readers must agree on.
    pub fn gist(&self) -> (&str, &str, &[u8]) {
        (&self.method, &self.target, &self.body)
    }
}

/// How a reader takes what the standard forbids or leaves open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Habits {
    pub name: &'static str,
    /// Anything but the letter of RFC 9112 is an error.
    strict: bool,
    /// Of several lengths the last one counts, not the first.
    last_length: bool,
    /// `Content-Length` counts before `Transfer-Encoding`.
    length_first: bool,
    /// `Transfer-Encoding` counts wherever the word occurs in it, under any mark in its name.
    loose_coding: bool,
    /// Bodies of GET and HEAD are not read.
    blind_to_get: bool,
}

const LAX: Habits = Habits {
    name: "lax",
    strict: false,
    last_length: true,
    length_first: false,
    loose_coding: true,
    blind_to_get: false,
};

pub const STRICT: Habits = Habits { name: "strict", strict: true, loose_coding: false, last_length: false, ..LAX };

/// All of them, the strict one first.
pub const ALL: [Habits; 4] = [
    STRICT,
    LAX,
    Habits { name: "lengths first", last_length: false, length_first: true, loose_coding: false, ..LAX },
    Habits { name: "blind to bodies of GET", blind_to_get: true, ..LAX },
];

/// What a reader makes of the next bytes.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// A request, and how many bytes it takes.
    Request(Read, usize),
    /// The head of one whose body has not all come; whether it waits for leave to send it.
    Body { expects: bool },
    /// Too little for a head.
    Incomplete,
    /// No request.
    Nonsense(String),
}

impl Habits {
    /// Reads one request.
    pub fn next(&self, bytes: &[u8]) -> Next {
        match self.request(bytes) {
            Ok(next) => next,
            Err(why) => Next::Nonsense(why),
        }
    }

    /// All requests of a connection, and what is wrong with the rest, if it is more than the beginning of a request.
    pub fn all(&self, bytes: &[u8]) -> (Vec<Read>, Option<String>) {
        let (mut found, mut at) = (Vec::new(), 0);
        loop {
            match self.next(&bytes[at..]) {
                Next::Request(read, length) => {
                    found.push(read);
                    at += length;
                }
                Next::Body { .. } => return (found, None),
                Next::Incomplete => return (found, None),
                Next::Nonsense(why) => return (found, Some(why)),
            }
        }
    }

    fn request(&self, bytes: &[u8]) -> Result<Next, String> {
        let Some((lines, head)) = self.lines(bytes)? else { return Ok(Next::Incomplete) };
        let mut lines = lines.into_iter();
        let line = lines.next().unwrap_or_default();
        let words: Vec<&str> = match self.strict {
            true => line.split(' ').collect(),
            false => line.split_whitespace().collect(),
        };
        let [method, target, version] = words[..] else { return Err(format!("request line {line:?}")) };
        if self.strict {
            let token = !method.is_empty() && method.bytes().all(is_token);
            let visible = target.starts_with('/') && target.bytes().all(|b| b.is_ascii_graphic());
            if !token || !visible || version != "HTTP/1.1" {
                return Err(format!("request line {line:?}"));
            }
        }
        let fields = self.fields(lines)?;
        let mut read = Read {
            method: method.to_owned(),
            target: target.to_owned(),
            fields,
            body: Vec::new(),
            trailers: Vec::new(),
        };
        let expects = read.values("expect").any(|value| value.eq_ignore_ascii_case("100-continue"));
        let rest = &bytes[head..];
        let length = self.length(&read)?;
        let chunked = self.chunked(&read)?;
        if self.strict {
            if read.values("host").count() != 1 {
                return Err("not one Host".to_owned());
            }
            if chunked && length.is_some() {
                return Err("length and coding".to_owned());
            }
        }
        if self.blind_to_get && matches!(method, "GET" | "HEAD") {
            return Ok(Next::Request(read, head));
        }
        if chunked && !(self.length_first && length.is_some()) {
            return Ok(match self.chunks(rest)? {
                Some((body, trailers, taken)) => {
                    (read.body, read.trailers) = (body, trailers);
                    Next::Request(read, head + taken)
                }
                None => Next::Body { expects: expects && rest.is_empty() },
            });
        }
        let length = length.unwrap_or(0);
        match rest.get(..length) {
            Some(body) => {
                read.body = body.to_vec();
                Ok(Next::Request(read, head + length))
            }
            None => Ok(Next::Body { expects: expects && rest.is_empty() }),
        }
    }

    /// The lines up to an empty one, and how many bytes they take.
    fn lines(&self, bytes: &[u8]) -> Result<Option<(Vec<String>, usize)>, String> {
        let (mut lines, mut at) = (Vec::<String>::new(), 0);
        loop {
            let Some(length) = bytes[at..].iter().position(|b| *b == b'\n') else { return Ok(None) };
            let line = &bytes[at..at + length];
            at += length + 1;
            let line = match line.strip_suffix(b"\r") {
                Some(line) => line,
                None if self.strict => return Err("a bare line feed".to_owned()),
                None => line,
            };
            if self.strict && line.iter().any(|b| b.is_ascii_control() && *b != b'\t') {
                return Err(format!("control character in {:?}", line.escape_ascii().to_string()));
            }
            if line.is_empty() {
                // Lenient servers pass over empty lines before a request.
                if lines.is_empty() && !self.strict {
                    continue;
                }
                return Ok(Some((lines, at)));
            }
            let line: String = line.iter().map(|b| char::from(*b)).collect();
            match (line.starts_with([' ', '\t']), lines.last_mut()) {
                (true, Some(_)) if self.strict => return Err("a folded line".to_owned()),
                (true, Some(last)) => last.push_str(&line),
                _ => lines.push(line),
            }
        }
    }

    fn fields(&self, lines: impl Iterator<Item = String>) -> Result<Vec<(String, String)>, String> {
        let mut fields = Vec::new();
        for line in lines {
            let Some((name, value)) = line.split_once(':') else {
                if self.strict {
                    return Err(format!("a line without colon: {line:?}"));
                }
                continue;
            };
            if self.strict && (name.is_empty() || !name.bytes().all(is_token)) {
                return Err(format!("the name {name:?}"));
            }
            let name = if self.strict { name } else { name.trim_matches(|c: char| c <= ' ') };
            fields.push((name.to_owned(), value.trim_matches(|c: char| c <= ' ').to_owned()));
        }
        Ok(fields)
    }

    /// Whether a field is what this reader takes for `wanted`.
    fn is(&self, name: &str, wanted: &str) -> bool {
        match self.loose_coding {
            true => {
                let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
                name.chars().map(plain).eq(wanted.chars())
            }
            false => name.eq_ignore_ascii_case(wanted),
        }
    }

    fn length(&self, read: &Read) -> Result<Option<usize>, String> {
        let mut said: Vec<&str> = Vec::new();
        for (_, value) in read.fields.iter().filter(|(name, _)| self.is(name, "content-length")) {
            said.extend(value.split(',').map(str::trim));
        }
        if self.strict {
            let number = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten();
            return match said[..] {
                [] => Ok(None),
                [one] => number(one).map(Some).ok_or(format!("the length {one:?}")),
                _ => Err("several lengths".to_owned()),
            };
        }
        let said = if self.last_length { said.last() } else { said.first() };
        Ok(said.map(|text| {
            // As `strtoul` reads: white space, a sign, digits, whatever follows.
            let digits: String = text.trim_start_matches([' ', '+']).chars().take_while(char::is_ascii_digit).collect();
            digits.parse().unwrap_or(if digits.is_empty() { 0 } else { usize::MAX / 2 })
        }))
    }

    fn chunked(&self, read: &Read) -> Result<bool, String> {
        let said: Vec<&str> =
            read.fields.iter().filter(|(n, _)| self.is(n, "transfer-encoding")).map(|(_, v)| v.as_str()).collect();
        if self.strict {
            return match said[..] {
                [] => Ok(false),
                [one] if one.eq_ignore_ascii_case("chunked") => Ok(true),
                _ => Err(format!("the codings {said:?}")),
            };
        }
        Ok(match self.loose_coding {
            true => said.iter().any(|value| value.to_ascii_lowercase().contains("chunked")),
            false => said.last().is_some_and(|value| value.eq_ignore_ascii_case("chunked")),
        })
    }

    #[expect(clippy::type_complexity, reason = "used once")]
    fn chunks(&self, bytes: &[u8]) -> Result<Option<(Vec<u8>, Vec<(String, String)>, usize)>, String> {
        let (mut body, mut at) = (Vec::new(), 0);
        loop {
            let Some(length) = bytes[at..].iter().position(|b| *b == b'\n') else { return Ok(None) };
            let line = &bytes[at..at + length];
            at += length + 1;
            let line = match line.strip_suffix(b"\r") {
                Some(line) => line,
                None if self.strict => return Err("a size that ends with a bare line feed".to_owned()),
                None => line,
            };
            let size = self.size(line)?;
            if size == 0 {
                return self.trailers(bytes, at, body);
            }
            let Some(data) = bytes[at..].get(..size) else { return Ok(None) };
            body.extend(data);
            at += size;
            match &bytes[at..] {
                [b'\r', b'\n', ..] => at += 2,
                [] | [b'\r'] => return Ok(None),
                [b'\n', ..] if !self.strict => at += 1,
                _ if self.strict => return Err("a chunk that is longer than its size".to_owned()),
                _ => {}
            }
        }
    }

    fn size(&self, line: &[u8]) -> Result<usize, String> {
        let text: String = line.iter().map(|b| char::from(*b)).collect();
        if self.strict {
            let digits = text.split(';').next().unwrap_or_default();
            let good = !digits.is_empty() && digits.len() < 16 && digits.bytes().all(|b| b.is_ascii_hexdigit());
            let clean = line.iter().all(|b| *b == b'\t' || !b.is_ascii_control());
            return match good && clean {
                true => usize::from_str_radix(digits, 16).map_err(|e| e.to_string()),
                false => Err(format!("the size {text:?}")),
            };
        }
        // As `strtol` reads: white space, `0x`, digits, whatever follows, and nothing is zero.
        let text = text.trim_start();
        let text = text.strip_prefix("0x").unwrap_or(text);
        let digits: String = text.chars().take_while(char::is_ascii_hexdigit).collect();
        Ok(usize::from_str_radix(&digits, 16).unwrap_or(if digits.is_empty() { 0 } else { usize::MAX / 2 }))
    }

    #[expect(clippy::type_complexity, reason = "used once")]
    fn trailers(
        &self,
        bytes: &[u8],
        from: usize,
        body: Vec<u8>,
    ) -> Result<Option<(Vec<u8>, Vec<(String, String)>, usize)>, String> {
        // A trailer section may be empty, which is one empty line and not none.
        let section = &bytes[from..];
        for end in [b"\r\n".as_slice(), b"\n"] {
            if section.starts_with(end) && (end.len() == 2 || !self.strict) {
                return Ok(Some((body, Vec::new(), from + end.len())));
            }
        }
        let Some((lines, taken)) = self.lines(section)? else { return Ok(None) };
        Ok(Some((body, self.fields(lines.into_iter())?, from + taken)))
    }
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[test]
fn the_readers_differ_where_servers_do() {
    let found = |bytes: &str| -> Vec<String> {
        let gist = |habits: &Habits| match habits.all(bytes.as_bytes()) {
            (reads, None) => format!("{reads:?}"),
            (_, Some(_)) => "error".to_owned(),
        };
        ALL.iter().map(gist).collect()
    };
    let agreed = |bytes: &str, all: &str| assert_eq!(found(bytes), [all; 4], "{bytes:?}");
    agreed("POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nokGET", "[POST /a [ok]]");
    agreed(
        "POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nA: b\r\n\r\n",
        "[POST /a [ok]]",
    );
    agreed("POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nok", "[]");
    // Each of these is read in more than one way.
    for bytes in [
        "GET /a HTTP/1.1\r\nHost: a\r\nContent-Length: 35\r\n\r\nGET /hidden HTTP/1.1\r\nHost: hidd\r\n\r\n",
        "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /b HTTP/1.1\r\n\r\n",
        "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nContent-Length: 5\r\n\r\nab\r\n\r\n",
        "POST /a HTTP/1.1\r\nHost: a\r\nTransfer_Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        "POST /a HTTP/1.1\nHost: a\n\n",
        "POST /a HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\n\r\n",
        "POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2;\nok\r\n0\r\n\r\n",
    ] {
        let all = found(bytes);
        assert!(all.iter().any(|one| *one != all[0]), "{bytes:?}: {all:?}");
    }
}
