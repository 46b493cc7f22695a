//! A case of a trial: its name, its bytes and what has to come of it; and the table of results.
use std::collections::BTreeMap;
use std::path::Path;

/// What has to come of a case, besides that nothing unsafe happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wants {
    /// So many requests are served, and then the one that is sent behind each case.
    Served(usize),
    /// So many are served, then one is refused, and nothing behind it is looked at.
    Refused(usize),
    /// Whatever is safe: which of two safe ways is taken is no promise.
    Safe,
}

/// A case.
#[derive(Clone, Debug)]
pub struct Case {
    pub class: &'static str,
    pub name: String,
    /// As it is sent. The place-holder [`PLACE`] becomes a path of the case's own, of the same length.
    pub bytes: Vec<u8>,
    pub wants: Wants,
}

/// Stands for the path of the case.
pub const PLACE: &str = "/t/0000";

impl Case {
    /// `text` is in Latin-1, where it can be; other characters are sent in UTF-8.
    pub fn new(class: &'static str, name: impl Into<String>, text: &str, wants: Wants) -> Case {
        let name = name.into().chars().flat_map(char::escape_default).collect();
        Case { class, name, bytes: raw(text), wants }
    }

    /// The bytes with the case's own path, which begins with `/` and `kind`.
    pub fn at(&self, kind: char, number: usize) -> Vec<u8> {
        assert!(number < 10_000);
        let own = format!("/{kind}/{number:04}");
        let mut bytes = self.bytes.clone();
        let places = (0..bytes.len()).filter(|at| bytes[*at..].starts_with(PLACE.as_bytes())).collect::<Vec<_>>();
        for at in places {
            bytes[at..at + own.len()].copy_from_slice(own.as_bytes());
        }
        bytes
    }
}

/// Each character below U+0100 as one byte, others in UTF-8.
pub fn raw(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    for c in text.chars() {
        match u8::try_from(u32::from(c)) {
            Ok(byte) => bytes.push(byte),
            Err(_) => bytes.extend(c.encode_utf8(&mut [0; 4]).bytes()),
        }
    }
    bytes
}

/// Reads `\r`, `\n`, `\t`, `\0`, `\\` and `\xHH` of a data file.
pub fn unescape(text: &str) -> Vec<u8> {
    let (mut bytes, mut rest) = (Vec::new(), text.bytes());
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'\\' => match rest.next().unwrap() {
                b'r' => b'\r',
                b'n' => b'\n',
                b't' => b'\t',
                b'0' => 0,
                b'\\' => b'\\',
                b'x' => {
                    let digits = [rest.next().unwrap(), rest.next().unwrap()];
                    u8::from_str_radix(str::from_utf8(&digits).unwrap(), 16).unwrap()
                }
                other => panic!("`\\{}` in a data file", char::from(other)),
            },
            other => other,
        });
    }
    bytes
}

/// What came of the cases, by class.
#[derive(Debug, Default)]
pub struct Results {
    rows: BTreeMap<&'static str, [usize; 4]>,
    pub failures: Vec<String>,
}

impl Results {
    /// Counts a case: how many of its requests were served, whether one was refused, and what was wrong.
    pub fn add(&mut self, class: &'static str, served: bool, refused: bool, wrong: Vec<String>) {
        let row = self.rows.entry(class).or_default();
        row[0] += 1;
        row[1] += usize::from(served);
        row[2] += usize::from(refused);
        row[3] += usize::from(!wrong.is_empty());
        self.failures.extend(wrong);
    }

    /// Cases in all.
    pub fn count(&self) -> usize {
        self.rows.values().map(|row| row[0]).sum()
    }

    /// Prints the table and fails where something was wrong.
    pub fn judge(&self, what: &str) {
        println!("{what}: cases, of them with something served, with something refused, unsafe");
        for (class, [all, served, refused, wrong]) in &self.rows {
            println!("{class:>28} {all:>6} {served:>6} {refused:>6} {wrong:>6}");
        }
        println!("{:>28} {:>6}", "together", self.count());
        if self.failures.is_empty() {
            return;
        }
        let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("trial-{what}.txt"));
        std::fs::write(&file, self.failures.join("\n")).unwrap();
        let shown: Vec<&str> = self.failures.iter().take(10).map(|failure| &**failure).collect();
        panic!("{} failures, all in {}:\n{}", self.failures.len(), file.display(), shown.join("\n"));
    }
}
