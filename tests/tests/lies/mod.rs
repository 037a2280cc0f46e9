//! Requests as a host that lies sends them: protobuf by hand, so that each field can be absent, empty, huge, of another kind,
//! or said twice.

pub mod table;

/// What a field holds, and so which lies fit it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Text: ids, names, paths, URIs.
    Text,
    /// A number.
    Number,
    /// Yes or no.
    Flag,
    /// A message, such as an Any.
    Message,
}

/// A field of a request, with what an honest host would say.
#[derive(Clone, Debug)]
pub struct Field {
    number: u64,
    /// Its name.
    pub name: &'static str,
    kind: Kind,
    honest: Vec<u8>,
}

/// A method's request.
#[derive(Clone, Debug)]
pub struct Method {
    /// The service's full name.
    pub service: &'static str,
    /// The method's.
    pub name: &'static str,
    /// Its request's fields.
    pub fields: Vec<Field>,
}

const TEXT: u64 = 2;
const NUMBER: u64 = 0;

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = u8::try_from(value & 0x7f).unwrap();
        value >>= 7;
        if value == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}

/// A field with bytes in it: text, or a message.
pub fn bytes(number: u64, value: &[u8]) -> Vec<u8> {
    [varint((number << 3) | TEXT), varint(value.len() as u64), value.to_vec()].concat()
}

/// A field with a number in it.
pub fn varied(number: u64, value: u64) -> Vec<u8> {
    [varint((number << 3) | NUMBER), varint(value)].concat()
}

/// An Any.
pub fn any(type_url: &str, value: &[u8]) -> Vec<u8> {
    [bytes(1, type_url.as_bytes()), bytes(2, value)].concat()
}

/// A text field; honest: this text.
pub fn text(number: u64, name: &'static str, honest: &str) -> Field {
    let honest = if honest.is_empty() { Vec::new() } else { bytes(number, honest.as_bytes()) };
    Field { number, name, kind: Kind::Text, honest }
}

/// A number field.
pub fn number(number: u64, name: &'static str, honest: u64) -> Field {
    Field { number, name, kind: Kind::Number, honest: varied(number, honest) }
}

/// A flag; honestly not set.
pub fn flag(number: u64, name: &'static str) -> Field {
    Field { number, name, kind: Kind::Flag, honest: Vec::new() }
}

/// A message field; honest: this message.
pub fn message(number: u64, name: &'static str, honest: &[u8]) -> Field {
    let honest = if honest.is_empty() { Vec::new() } else { bytes(number, honest) };
    Field { number, name, kind: Kind::Message, honest }
}

impl Method {
    /// The request of an honest host.
    pub fn honest(&self) -> Vec<u8> {
        self.fields.iter().flat_map(|f| f.honest.clone()).collect()
    }

    /// Every lie about every field, the others being honest; `foreign` are ids, ports and messages of others.
    pub fn lies(&self, foreign: &[&str], messages: &[Vec<u8>]) -> Vec<(String, Vec<u8>)> {
        let mut all = Vec::new();
        for (at, field) in self.fields.iter().enumerate() {
            for (what, lie) in field.lies(foreign, messages) {
                let of = |(n, f): (usize, &Field)| if n == at { lie.clone() } else { f.honest.clone() };
                let request = self.fields.iter().enumerate().flat_map(of).collect();
                all.push((format!("{}.{} {what}", self.name, field.name), request));
            }
        }
        all
    }
}

impl Field {
    fn lies(&self, foreign: &[&str], messages: &[Vec<u8>]) -> Vec<(String, Vec<u8>)> {
        let text = |t: &str| {
            (format!("{:?}", t.chars().take(40).collect::<String>()), bytes(self.number, t.as_bytes()))
        };
        let numbers = [0, 65, 4096, u64::from(u32::MAX), 1 << 31, u64::MAX];
        let mut lies = vec![
            ("absent".to_owned(), Vec::new()),
            (
                "of another kind".to_owned(),
                match self.kind {
                    Kind::Text | Kind::Message => varied(self.number, 7),
                    Kind::Number | Kind::Flag => bytes(self.number, b"7"),
                },
            ),
            ("said twice".to_owned(), [self.honest.clone(), self.honest.clone()].concat()),
            (
                "longer than the request".to_owned(),
                [varint((self.number << 3) | TEXT), varint(1 << 40)].concat(),
            ),
            ("a group that never ends".to_owned(), varint((self.number << 3) | 3).repeat(2000)),
        ];
        match self.kind {
            Kind::Text => {
                let long = ["x".repeat(129), "x".repeat(1 << 20), "../".repeat(2000)];
                let fixed = [
                    "",
                    ".",
                    "..",
                    "../../etc/passwd",
                    "/run/secrets/token",
                    "a\0b",
                    "\n",
                    "\u{202e}",
                    "-",
                    "$(id)",
                    "vsock://2:1024",
                    "vsock://2:1025",
                    "vsock://2:4294967296",
                    "vsock://2:-1",
                    "vsock://1:5000",
                    "file:///run/secrets/token",
                    "binary:///bin/sh?x",
                    "/dev/vda",
                    "http://127.0.0.1:8006/",
                ];
                lies.extend(long.iter().map(|t| text(t)));
                lies.extend(fixed.iter().chain(foreign).map(|t| text(t)));
                lies.push(("no UTF-8".to_owned(), bytes(self.number, &[0xff, 0xfe, 0xc0, 0x80])));
            }
            Kind::Number => lies.extend(numbers.iter().map(|n| (n.to_string(), varied(self.number, *n)))),
            Kind::Flag => lies.extend([1, u64::MAX].map(|n| (n.to_string(), varied(self.number, n)))),
            Kind::Message => {
                let noise: Vec<u8> =
                    (0..4096_u32).map(|n| (n.wrapping_mul(0x9e37_79b1) >> 24).try_into().unwrap()).collect();
                // Each byte pair opens a message within.
                let deep = (0..4000).fold(Vec::new(), |inner: Vec<u8>, _| bytes(1, &inner));
                let fixed = [Vec::new(), noise, vec![0; 1 << 20], deep];
                let of = |(n, m): (usize, &Vec<u8>)| {
                    (format!("message {n} of {} bytes", m.len()), bytes(self.number, m))
                };
                lies.extend(fixed.iter().chain(messages).enumerate().map(of));
            }
        }
        lies
    }
}
