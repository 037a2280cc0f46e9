//! Commands and responses of a TPM 2.0 (TPM 2.0 Library, part 1, section 18; part 3): what goes over the device, byte for
//! byte. A response comes from outside the guest, so every length in it is checked against what is there.

use std::io;

/// `TPM_ST_NO_SESSIONS` and `TPM_ST_SESSIONS`.
const PLAIN: u16 = 0x8001;
const WITH_SESSIONS: u16 = 0x8002;
/// `TPM_RS_PW`: the empty password, which our keys and the hierarchies have.
const PASSWORD: u32 = 0x4000_0009;
/// Largest response that is taken; a TPM's buffers have 4 KiB.
pub(crate) const MAX_RESPONSE: usize = 4096;

/// Where a TPM's commands go and responses come from.
pub trait Channel: Send {
    /// Sends one command and waits for its response, of at most 4 KiB.
    ///
    /// # Errors
    /// The device's.
    fn transact(&mut self, command: &[u8]) -> io::Result<Vec<u8>>;
}

/// What a TPM answered that is no success.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The device failed.
    #[error("TPM device: {0}")]
    Device(#[from] io::Error),
    /// The TPM refused (part 2, section 6.6: response codes).
    #[error("{command}: the TPM answers {code:#x}")]
    Refused {
        /// The command.
        command: &'static str,
        /// Its response code.
        code: u32,
    },
    /// The response is not one of that command.
    #[error("{0}: the response is malformed")]
    Malformed(&'static str),
}

/// Proof of a right to use a handle.
#[derive(Clone, Copy)]
pub(crate) enum Auth {
    /// The empty password.
    Password,
    /// A policy session, used up by the command.
    Policy(u32),
}

/// A command in the making.
pub(crate) struct Command {
    name: &'static str,
    code: u32,
    handles: Vec<u32>,
    auths: Vec<Auth>,
    parameters: Vec<u8>,
    /// Whether the response has a handle.
    gives_handle: bool,
}

impl Command {
    pub(crate) fn new(name: &'static str, code: u32) -> Self {
        Command {
            name,
            code,
            handles: Vec::new(),
            auths: Vec::new(),
            parameters: Vec::new(),
            gives_handle: false,
        }
    }

    pub(crate) fn handle(mut self, handle: u32) -> Self {
        self.handles.push(handle);
        self
    }

    pub(crate) fn auth(mut self, auth: Auth) -> Self {
        self.auths.push(auth);
        self
    }

    pub(crate) fn giving_handle(mut self) -> Self {
        self.gives_handle = true;
        self
    }

    pub(crate) fn bytes(mut self, bytes: &[u8]) -> Self {
        self.parameters.extend_from_slice(bytes);
        self
    }

    pub(crate) fn u16(self, value: u16) -> Self {
        self.bytes(&value.to_be_bytes())
    }

    pub(crate) fn u32(self, value: u32) -> Self {
        self.bytes(&value.to_be_bytes())
    }

    /// A buffer after its 16-bit length.
    pub(crate) fn sized(self, bytes: &[u8]) -> Self {
        // Longer ones do not exist here: every caller bounds its own.
        self.u16(u16::try_from(bytes.len()).unwrap_or(u16::MAX)).bytes(bytes)
    }

    fn encode(&self) -> Vec<u8> {
        let mut body: Vec<u8> = self.handles.iter().flat_map(|handle| handle.to_be_bytes()).collect();
        if !self.auths.is_empty() {
            let area: Vec<u8> = self.auths.iter().flat_map(|auth| auth.encode()).collect();
            body.extend(length(area.len()));
            body.extend(area);
        }
        body.extend_from_slice(&self.parameters);
        let tag = if self.auths.is_empty() { PLAIN } else { WITH_SESSIONS };
        let mut command = tag.to_be_bytes().to_vec();
        command.extend(length(body.len() + 10));
        command.extend(self.code.to_be_bytes());
        command.extend(body);
        command
    }

    /// Runs it.
    pub(crate) fn run(self, channel: &mut dyn Channel) -> Result<Response, Error> {
        let bytes = channel.transact(&self.encode())?;
        self.response(&bytes)
    }

    fn response(&self, bytes: &[u8]) -> Result<Response, Error> {
        let malformed = || Error::Malformed(self.name);
        let mut r = Fields { command: self.name, rest: bytes };
        let tag = r.u16()?;
        let size = r.u32()?;
        let code = r.u32()?;
        if usize::try_from(size).ok() != Some(bytes.len()) || bytes.len() > MAX_RESPONSE {
            return Err(malformed());
        }
        if code != 0 {
            return Err(Error::Refused { command: self.name, code });
        }
        let handle = if self.gives_handle { Some(r.u32()?) } else { None };
        let parameters = match tag {
            WITH_SESSIONS if !self.auths.is_empty() => {
                let length = usize::try_from(r.u32()?).map_err(|_| malformed())?;
                r.take(length)?
            }
            PLAIN if self.auths.is_empty() => r.rest,
            _ => return Err(malformed()),
        };
        Ok(Response { command: self.name, handle, parameters: parameters.to_vec() })
    }
}

impl Auth {
    fn encode(self) -> [u8; 9] {
        let session = match self {
            Auth::Password => PASSWORD,
            Auth::Policy(session) => session,
        };
        let [a, b, c, d] = session.to_be_bytes();
        // No nonce, no attributes (the session ends with the command), no HMAC.
        [a, b, c, d, 0, 0, 0, 0, 0]
    }
}

fn length(length: usize) -> [u8; 4] {
    u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes()
}

/// A response's parts.
pub(crate) struct Response {
    command: &'static str,
    handle: Option<u32>,
    parameters: Vec<u8>,
}

impl Response {
    /// The handle, of a command that gives one.
    pub(crate) fn handle(&self) -> Result<u32, Error> {
        self.handle.ok_or(Error::Malformed(self.command))
    }

    /// Its parameters, to be read one after the other.
    pub(crate) fn fields(&self) -> Fields<'_> {
        Fields { command: self.command, rest: &self.parameters }
    }
}

/// Fields not yet read.
pub(crate) struct Fields<'a> {
    command: &'static str,
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(crate) fn malformed(&self) -> Error {
        Error::Malformed(self.command)
    }

    pub(crate) fn take(&mut self, length: usize) -> Result<&'a [u8], Error> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(Error::Malformed(self.command))?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let taken = self.take(N)?;
        taken.try_into().map_err(|_| Error::Malformed(self.command))
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Error> {
        self.array().map(u8::from_be_bytes)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Error> {
        self.array().map(u16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Error> {
        self.array().map(u32::from_be_bytes)
    }

    /// A buffer after its 16-bit length.
    pub(crate) fn sized(&mut self) -> Result<&'a [u8], Error> {
        let length = self.u16()?;
        self.take(usize::from(length))
    }

    /// All that was not read.
    pub(crate) fn remainder(self) -> &'a [u8] {
        self.rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Says(Vec<u8>);

    impl Channel for Says {
        fn transact(&mut self, _: &[u8]) -> io::Result<Vec<u8>> {
            Ok(self.0.clone())
        }
    }

    #[test]
    fn a_command_has_the_bytes_of_the_specification() {
        // TPM2_PCR_Extend of register 8 with a password (part 3, 22.2).
        let command =
            Command::new("x", 0x182).handle(8).auth(Auth::Password).u32(1).u16(0x000b).bytes(&[1; 32]);
        let expected = [
            "8002",
            "00000041",
            "00000182",
            "00000008",
            "00000009",
            "4000000900000000",
            "00",
            "00000001",
            "000b",
        ]
        .concat();
        assert_eq!(hex(&command.encode()), expected + &"01".repeat(32));
        assert_eq!(hex(&Command::new("x", 0x17e).u32(7).encode()), "80010000000e0000017e00000007");
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|b| format!("{b:02x}")).collect()
    }

    #[test]
    fn a_response_is_whole_and_of_its_command() {
        let plain = || Command::new("x", 1);
        let good = [0x80, 1, 0, 0, 0, 12, 0, 0, 0, 0, 7, 7];
        assert_eq!(plain().run(&mut Says(good.to_vec())).unwrap().fields().remainder(), [7, 7]);
        let refused = plain().run(&mut Says(vec![0x80, 1, 0, 0, 0, 10, 0, 0, 1, 1])).err().unwrap();
        assert!(matches!(refused, Error::Refused { code: 0x101, .. }), "{refused}");
        for length in 0..good.len() {
            assert!(plain().run(&mut Says(good[..length].to_vec())).is_err(), "{length}");
        }
        let mut longer = good.to_vec();
        longer.push(0);
        assert!(plain().run(&mut Says(longer)).is_err());
        // Sessions where none were sent, and the other way round.
        assert!(plain().auth(Auth::Password).run(&mut Says(good.to_vec())).is_err());
        let sessions = [0x80, 2, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0, 1, 9, 0];
        let with = || plain().auth(Auth::Password);
        assert_eq!(with().run(&mut Says(sessions.to_vec())).unwrap().fields().remainder(), [9]);
        let mut lying = sessions;
        lying[13] = 3;
        assert!(with().run(&mut Says(lying.to_vec())).is_err(), "more parameters than there are");
        assert!(plain().giving_handle().run(&mut Says(good.to_vec())).is_err(), "no room for the handle");
        let huge = [&[0x80, 1, 0, 0, 0x20, 0, 0, 0, 0, 0][..], &[0; 0x1ff6]].concat();
        assert!(plain().run(&mut Says(huge)).is_err(), "larger than a TPM's buffers");
    }
}
