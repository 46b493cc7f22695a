//! Walks through header blocks without decoding them, and finds a `:path` with a fragment, which the codec drops in
//! silence (RFC 9113, 8.3.1: a target has none). Only texts that may be a path are looked at.

/// `:path`, plain and in the code of RFC 7541, appendix B.
const NAME: (&[u8], &[u8]) = (b":path", &[0xb9, 0x58, 0xd3, 0x3f]);
/// The indices of `:path` in the static table, and the first of the dynamic one (RFC 7541, 2.3).
const PATHS: [usize; 2] = [4, 5];
const DYNAMIC: usize = 62;
/// How many codes of that appendix have 1, 2, 3, … bits. The code is canonical: this tells where each ends.
const CODES: [u32; 30] =
    [0, 0, 0, 0, 10, 26, 32, 6, 0, 5, 3, 2, 6, 2, 3, 0, 0, 0, 3, 8, 13, 26, 29, 12, 4, 15, 19, 29, 0, 4];
/// `#` is the first of 12 bits.
const FRAGMENT_BITS: usize = 12;
/// More than this no integer of a block can have: the codec refuses it.
const LONGEST_SHIFT: u32 = 28;

/// A `:path` has a fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment;

/// Where in a text, and in which.
#[derive(Clone, Copy, Debug)]
enum Text {
    /// A name; so far it is that of a path. It may be remembered.
    Name { remember: bool, coded: bool, at: usize, same: bool },
    /// A path.
    Path(Coded),
    /// Anything else.
    Other,
}

/// Where in a coded text; `None` in a plain one.
#[derive(Clone, Copy, Debug)]
struct Coded(Option<Code>);

/// The bits of a code that is not complete.
#[derive(Clone, Copy, Debug, Default)]
struct Code {
    bits: u32,
    first: u32,
    length: usize,
}

/// What an integer is for.
#[derive(Clone, Copy, Debug)]
enum Use {
    /// A field of a table, or the size of the dynamic one.
    Whole,
    /// The name of a field that may be remembered.
    Name { remember: bool },
    /// The length of a text.
    Length(Text),
}

#[derive(Clone, Copy, Debug)]
enum Step {
    /// A field begins.
    Field,
    /// An integer goes on.
    Integer { of: Use, value: usize, shift: u32 },
    /// The length of a name or a value begins.
    Length { name: Option<bool>, path: bool },
    /// So much of a text is left.
    Text { of: Text, left: usize },
    /// The block cannot be read: the codec ends the connection.
    Lost,
}

/// Where in a connection's header blocks we are.
#[derive(Debug)]
pub struct Walker {
    step: Step,
    /// Bytes before the block: of padding's length, and of a priority.
    lead: usize,
    padded: bool,
    /// Bytes of the block in this frame.
    left: usize,
    /// Whether the dynamic table may hold a name that is `:path`.
    named: bool,
}

impl Default for Walker {
    fn default() -> Walker {
        Walker::new()
    }
}

impl Walker {
    /// Before the first header block.
    pub const fn new() -> Walker {
        Walker { step: Step::Field, lead: 0, padded: false, left: 0, named: false }
    }

    /// HEADERS begins, with these flags and a payload of `length`.
    pub fn begin(&mut self, flags: u8, length: usize) {
        self.step = Step::Field;
        self.padded = flags & 0x8 != 0;
        self.lead = usize::from(self.padded) + if flags & 0x20 != 0 { 5 } else { 0 };
        self.left = length.saturating_sub(self.lead);
    }

    /// CONTINUATION begins, with a payload of `length`.
    pub fn go_on(&mut self, length: usize) {
        (self.padded, self.lead, self.left) = (false, 0, length);
    }

    /// Takes the next bytes of the frame's payload.
    pub fn take(&mut self, mut payload: &[u8]) -> Result<(), Fragment> {
        while self.lead > 0
            && let Some((first, rest)) = payload.split_first()
        {
            if std::mem::replace(&mut self.padded, false) {
                self.left = self.left.saturating_sub(usize::from(*first));
            }
            (self.lead, payload) = (self.lead - 1, rest);
        }
        let block = payload.get(..self.left).unwrap_or(payload);
        self.left -= block.len();
        self.walk(block)
    }

    fn walk(&mut self, mut block: &[u8]) -> Result<(), Fragment> {
        while let Some((first, rest)) = block.split_first() {
            let byte = *first;
            self.step = match self.step {
                Step::Lost => return Ok(()),
                Step::Text { of, left } => {
                    let Some((text, rest)) = block.split_at_checked(left.min(block.len())) else { return Ok(()) };
                    block = rest;
                    self.step = self.text(of, left, text)?;
                    continue;
                }
                Step::Field if byte & 0x80 != 0 => self.integer(Use::Whole, 7, byte),
                Step::Field if byte & 0x40 != 0 => self.integer(Use::Name { remember: true }, 6, byte),
                Step::Field if byte & 0x20 != 0 => self.integer(Use::Whole, 5, byte),
                Step::Field => self.integer(Use::Name { remember: false }, 4, byte),
                Step::Length { name, path } => {
                    let coded = byte & 0x80 != 0;
                    let text = match (name, path) {
                        (Some(remember), _) => Text::Name { remember, coded, at: 0, same: true },
                        (None, true) => Text::Path(Coded(coded.then(Code::default))),
                        (None, false) => Text::Other,
                    };
                    self.integer(Use::Length(text), 7, byte)
                }
                Step::Integer { shift, .. } if shift > LONGEST_SHIFT => Step::Lost,
                Step::Integer { of, value, shift } => {
                    let value = value.saturating_add(usize::from(byte & 0x7f) << shift);
                    if byte & 0x80 != 0 { Step::Integer { of, value, shift: shift + 7 } } else { self.known(of, value) }
                }
            };
            block = rest;
        }
        Ok(())
    }

    fn integer(&self, of: Use, prefix: u32, byte: u8) -> Step {
        let most = (1_usize << prefix) - 1;
        let value = usize::from(byte) & most;
        if value == most { Step::Integer { of, value, shift: 0 } } else { self.known(of, value) }
    }

    /// What follows an integer.
    fn known(&self, of: Use, value: usize) -> Step {
        match of {
            Use::Whole => Step::Field,
            Use::Name { remember } if value == 0 => Step::Length { name: Some(remember), path: false },
            Use::Name { .. } => {
                Step::Length { name: None, path: PATHS.contains(&value) || (self.named && value >= DYNAMIC) }
            }
            Use::Length(text) if value > 0 => Step::Text { of: text, left: value },
            Use::Length(Text::Name { .. }) => Step::Length { name: None, path: false },
            Use::Length(Text::Path(_) | Text::Other) => Step::Field,
        }
    }

    /// Reads a piece of a text of which `left` was left.
    fn text(&mut self, of: Text, left: usize, piece: &[u8]) -> Result<Step, Fragment> {
        let left = left - piece.len();
        match of {
            Text::Other => Ok(if left > 0 { Step::Text { of, left } } else { Step::Field }),
            Text::Name { remember, coded, at, same } => {
                let name = if coded { NAME.1 } else { NAME.0 };
                let same = same && name.get(at..at + piece.len()) == Some(piece);
                let at = at + piece.len();
                if left > 0 {
                    return Ok(Step::Text { of: Text::Name { remember, coded, at, same }, left });
                }
                let path = same && at == name.len();
                self.named |= path && remember;
                Ok(Step::Length { name: None, path })
            }
            // Most paths come whole, and without the many ones in a row that a fragment has.
            Text::Path(Coded(Some(code))) if left == 0 && code.is_fresh() && !has_ones(piece) => Ok(Step::Field),
            Text::Path(coded) => {
                let coded = coded.read(piece)?;
                Ok(if left > 0 { Step::Text { of: Text::Path(coded), left } } else { Step::Field })
            }
        }
    }
}

impl Code {
    const fn is_fresh(self) -> bool {
        self.length == 0
    }
}

/// Whether there are nine ones in a row, with which `#` begins, among the bits of a text.
fn has_ones(text: &[u8]) -> bool {
    text.windows(2).any(|pair| matches!(pair, [a, b] if a.trailing_ones() + b.leading_ones() >= 9))
}

impl Coded {
    fn read(self, piece: &[u8]) -> Result<Coded, Fragment> {
        let Some(mut code) = self.0 else {
            return if piece.contains(&b'#') { Err(Fragment) } else { Ok(self) };
        };
        for bit in piece.iter().flat_map(|byte| (0..8).rev().map(move |bit| u32::from(byte >> bit & 1))) {
            code.bits = code.bits << 1 | bit;
            let codes = CODES.get(code.length).copied().unwrap_or_default();
            code.length += 1;
            if code.bits.wrapping_sub(code.first) < codes {
                if code.length == FRAGMENT_BITS && code.bits == code.first {
                    return Err(Fragment);
                }
                code = Code::default();
            } else if code.length < CODES.len() {
                code.first = (code.first + codes) << 1;
            } else {
                // No such code: the codec refuses it.
                code = Code::default();
            }
        }
        Ok(Coded(Some(code)))
    }
}

#[cfg(test)]
mod tests;
