//! Signing in: how client and host prove to each other that they hold the tenant's authkey.
//!
//! Five messages, each one CBOR array that starts with its own number, preceded in the lane by its length as frames
//! are:
//!
//! ```text
//! client                                            host
//!   | -- Hello: who I claim to be, a nonce -----------> |
//!   | <--------- Challenge: the algorithm, a nonce ---- |      or Refusal
//!   | -- Proof: a MAC over all of it -----------------> |
//!   | <--------- SignedWelcome: a session, and a MAC -- |      or Refusal
//! ```
//!
//! The proofs cover the two messages before them and the connection they travel on ([`Channel`]), so that neither a
//! recording nor a relay is worth anything. The client proves first: who does not hold the key learns nothing that
//! could be guessed against. The host answers for an unknown key exactly as for a known one ([`AuthKey::dummy`]).
//!
//! These are pure functions: nonces, secrets and the connection's binding are brought by the caller, who also keeps
//! the time limits, compares the uid with the peer's credentials and throttles failures. As with frames, a reader
//! skips fields that it does not know at the end of a message; the MACs cover them nevertheless.

use std::fmt;

use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::Malformed;
use crate::cbor::{self, Reader};

/// The version of the protocol that is spoken here.
pub const VERSION: u16 = 1;

/// The application protocol of TLS (RFC 7301).
pub const ALPN: &[u8] = b"steward/1";

/// The label of the TLS exporter whose 32 bytes, with an empty context, bind the proofs to the connection (RFC 9266).
pub const EXPORTER_LABEL: &[u8] = b"EXPORTER-Channel-Binding";

/// The only algorithm of the proofs.
pub const ALGORITHM: &str = "hmac-sha256";

/// A client's message may not be longer before it is authenticated.
pub const CLIENT_BYTES_MAX: usize = 256;

/// A host's message may not be longer during sign-in.
pub const HOST_BYTES_MAX: usize = 4096;

/// Names of tenants, keys and hosts may not be longer; a message with a longer one is malformed.
pub const NAME_BYTES_MAX: usize = 64;

/// How many algorithms a client may offer; a message with more is malformed.
pub const ALGORITHMS_MAX: usize = 4;

/// The name of an algorithm may not be longer.
pub const ALGORITHM_BYTES_MAX: usize = 12;

const HELLO: u64 = 1;
const CHALLENGE: u64 = 2;
const PROOF: u64 = 3;
const WELCOME: u64 = 4;
const REFUSAL: u64 = 5;

const CONTEXT: &[u8] = b"steward-auth-1";
const CLIENT_INFO: &[u8] = b"steward-auth-1 client";
const HOST_INFO: &[u8] = b"steward-auth-1 server";
const DUMMY_INFO: &[u8] = b"steward-auth-1 dummy";

/// The client's first message: who it claims to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The version the client speaks: [`VERSION`].
    pub version: u16,
    /// The tenant, at most [`NAME_BYTES_MAX`] bytes.
    pub tenant: String,
    /// Which of the tenant's keys, at most [`NAME_BYTES_MAX`] bytes.
    pub key_id: String,
    /// 32 random bytes, never used before.
    pub nonce: [u8; 32],
    /// The algorithms that the client accepts, at most [`ALGORITHMS_MAX`].
    pub algorithms: Vec<String>,
    /// The session to resume, which the client must then prove with its secret.
    pub resume: Option<u64>,
    /// The client's user id: on a Unix socket always, elsewhere never.
    pub uid: Option<u32>,
}

impl Hello {
    /// The message's body. A name beyond its limit is written as it is, and refused by whoever receives it.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(CLIENT_BYTES_MAX);
        cbor::put_array(&mut out, 8);
        cbor::put_u64(&mut out, HELLO);
        cbor::put_u64(&mut out, self.version.into());
        cbor::put_text(&mut out, &self.tenant);
        cbor::put_text(&mut out, &self.key_id);
        cbor::put_bytes(&mut out, &self.nonce);
        cbor::put_array(&mut out, self.algorithms.len());
        for algorithm in &self.algorithms {
            cbor::put_text(&mut out, algorithm);
        }
        put_optional(&mut out, self.resume);
        put_optional(&mut out, self.uid.map(u64::from));
        out
    }

    /// Reads the message's body.
    ///
    /// Another version is no fault here: the host answers it with [`RefusalCode::Version`].
    ///
    /// # Errors
    /// [`Malformed`] for another shape, more than [`CLIENT_BYTES_MAX`] bytes, a name beyond its limit.
    pub fn decode(body: &[u8]) -> Result<Self, Malformed> {
        let mut message = Message::open(body, HELLO, 8, CLIENT_BYTES_MAX)?;
        let reader = &mut message.reader;
        let hello = Self {
            version: version(reader)?,
            tenant: name(reader, NAME_BYTES_MAX)?,
            key_id: name(reader, NAME_BYTES_MAX)?,
            nonce: bytes(reader)?,
            algorithms: {
                let count = reader.array()?;
                if count > ALGORITHMS_MAX {
                    return Err(Malformed::SignIn("too many algorithms"));
                }
                (0..count).map(|_| name(reader, ALGORITHM_BYTES_MAX)).collect::<Result<_, _>>()?
            },
            resume: optional(reader)?,
            uid: match optional(reader)? {
                Some(uid) => Some(u32::try_from(uid).map_err(|_| Malformed::SignIn("a uid has 32 bits"))?),
                None => None,
            },
        };
        message.close()?;
        Ok(hello)
    }
}

/// The host's answer to [`Hello`], the same whether it knows the key or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// The version both will speak: the client's.
    pub version: u16,
    /// The algorithm, one of those the client offered.
    pub algorithm: String,
    /// 32 random bytes, never used before.
    pub nonce: [u8; 32],
    /// Names this host, for logs and for clients that know it already; at most [`NAME_BYTES_MAX`] bytes.
    pub server_id: String,
}

impl Challenge {
    /// The message's body.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        cbor::put_array(&mut out, 5);
        cbor::put_u64(&mut out, CHALLENGE);
        cbor::put_u64(&mut out, self.version.into());
        cbor::put_text(&mut out, &self.algorithm);
        cbor::put_bytes(&mut out, &self.nonce);
        cbor::put_text(&mut out, &self.server_id);
        out
    }

    /// Reads the message's body.
    ///
    /// # Errors
    /// [`Malformed`] for another shape, more than [`CLIENT_BYTES_MAX`] bytes, a name beyond its limit.
    pub fn decode(body: &[u8]) -> Result<Self, Malformed> {
        let mut message = Message::open(body, CHALLENGE, 5, CLIENT_BYTES_MAX)?;
        let reader = &mut message.reader;
        let challenge = Self {
            version: version(reader)?,
            algorithm: name(reader, ALGORITHM_BYTES_MAX)?,
            nonce: bytes(reader)?,
            server_id: name(reader, NAME_BYTES_MAX)?,
        };
        message.close()?;
        Ok(challenge)
    }
}

/// The client's proofs: [`Proofs::client`], and [`Proofs::resume`] if it resumes a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// That the client holds the authkey.
    pub proof: [u8; 32],
    /// That it holds the session's secret.
    pub resume: Option<[u8; 32]>,
}

impl Proof {
    /// The message's body.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        cbor::put_array(&mut out, 3);
        cbor::put_u64(&mut out, PROOF);
        cbor::put_bytes(&mut out, &self.proof);
        match &self.resume {
            Some(resume) => cbor::put_bytes(&mut out, resume),
            None => cbor::put_null(&mut out),
        }
        out
    }

    /// Reads the message's body.
    ///
    /// # Errors
    /// [`Malformed`] for another shape or more than [`CLIENT_BYTES_MAX`] bytes.
    pub fn decode(body: &[u8]) -> Result<Self, Malformed> {
        let mut message = Message::open(body, PROOF, 3, CLIENT_BYTES_MAX)?;
        let reader = &mut message.reader;
        let proof = bytes(reader)?;
        let resume = if reader.null() { None } else { Some(bytes(reader)?) };
        message.close()?;
        Ok(Self { proof, resume })
    }
}

/// What a session may do at once. The client keeps to it by waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionLimits {
    /// A client's frame may not be longer.
    pub request_bytes_max: u64,
    /// A host's frame may not be longer; a result beyond it is refused.
    pub reply_bytes_max: u64,
    /// Frames of more bytes go on a stream of their own, so that no small call queues behind them.
    pub bulk_bytes_min: u64,
    /// Calls sent and neither answered nor parked.
    pub calls_running_max: u32,
    /// Calls parked.
    pub calls_parked_max: u32,
    /// Replies that the client has not acknowledged.
    pub reply_rows_max: u32,
    /// Bytes of such replies.
    pub reply_row_bytes_max: u64,
}

impl Default for SessionLimits {
    fn default() -> Self {
        Self {
            request_bytes_max: 1 << 20,
            reply_bytes_max: 4 << 20,
            bulk_bytes_min: 65_536,
            calls_running_max: 256,
            calls_parked_max: 10_000,
            reply_rows_max: 1024,
            reply_row_bytes_max: 8 << 20,
        }
    }
}

/// What an authenticated client is given: a session.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct Welcome {
    /// The session's number; worth nothing without the secret.
    pub session: u64,
    /// Resumes the session, once: every welcome brings another one.
    pub secret: [u8; 32],
    /// The host's incarnation. Objects of another epoch are gone.
    pub epoch: u64,
    /// How long the session lives without a frame.
    pub lease_ms: u64,
    /// What the session may do at once.
    #[zeroize(skip)]
    pub limits: SessionLimits,
}

impl fmt::Debug for Welcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Welcome")
            .field("session", &self.session)
            .field("epoch", &self.epoch)
            .field("lease_ms", &self.lease_ms)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

impl Welcome {
    /// The body that [`Proofs::welcome_mac`] covers and [`SignedWelcome`] carries.
    pub fn encode(&self) -> Vec<u8> {
        // Room for the longest, so that growing leaves no copy of the secret behind.
        let mut out = Vec::with_capacity(CLIENT_BYTES_MAX);
        cbor::put_array(&mut out, 5);
        cbor::put_u64(&mut out, self.session);
        cbor::put_bytes(&mut out, &self.secret);
        cbor::put_u64(&mut out, self.epoch);
        cbor::put_u64(&mut out, self.lease_ms);
        cbor::put_array(&mut out, 7);
        cbor::put_u64(&mut out, self.limits.request_bytes_max);
        cbor::put_u64(&mut out, self.limits.reply_bytes_max);
        cbor::put_u64(&mut out, self.limits.bulk_bytes_min);
        cbor::put_u64(&mut out, self.limits.calls_running_max.into());
        cbor::put_u64(&mut out, self.limits.calls_parked_max.into());
        cbor::put_u64(&mut out, self.limits.reply_rows_max.into());
        cbor::put_u64(&mut out, self.limits.reply_row_bytes_max);
        out
    }

    /// Reads the body of a [`SignedWelcome`] whose MAC was verified.
    ///
    /// # Errors
    /// [`Malformed`] for another shape or more than [`HOST_BYTES_MAX`] bytes.
    pub fn decode(body: &[u8]) -> Result<Self, Malformed> {
        let mut message = Message::open_array(body, 5, HOST_BYTES_MAX)?;
        let reader = &mut message.reader;
        let (session, secret, epoch, lease_ms) = (reader.u64()?, bytes(reader)?, reader.u64()?, reader.u64()?);
        let fields = reader.array()?.checked_sub(7).ok_or(Malformed::SignIn("limits are missing"))?;
        let limits = SessionLimits {
            request_bytes_max: reader.u64()?,
            reply_bytes_max: reader.u64()?,
            bulk_bytes_min: reader.u64()?,
            calls_running_max: count(reader)?,
            calls_parked_max: count(reader)?,
            reply_rows_max: count(reader)?,
            reply_row_bytes_max: reader.u64()?,
        };
        for _ in 0..fields {
            reader.raw()?;
        }
        message.close()?;
        Ok(Self { session, secret, epoch, lease_ms, limits })
    }
}

/// A [`Welcome`] as it travels. The client verifies `mac` with [`Proofs::verify_welcome`] before it decodes `body`
/// or sends anything else.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct SignedWelcome {
    /// [`Welcome::encode`].
    pub body: Vec<u8>,
    /// [`Proofs::welcome_mac`] of the body.
    pub mac: [u8; 32],
}

impl fmt::Debug for SignedWelcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The body holds the session's secret.
        f.debug_struct("SignedWelcome").field("mac", &self.mac).finish_non_exhaustive()
    }
}

impl SignedWelcome {
    /// The message's body.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.body.len() + 64);
        cbor::put_array(&mut out, 3);
        cbor::put_u64(&mut out, WELCOME);
        cbor::put_bytes(&mut out, &self.body);
        cbor::put_bytes(&mut out, &self.mac);
        out
    }

    /// Reads the message's body.
    ///
    /// # Errors
    /// [`Malformed`] for another shape or more than [`HOST_BYTES_MAX`] bytes.
    pub fn decode(body: &[u8]) -> Result<Self, Malformed> {
        let mut message = Message::open(body, WELCOME, 3, HOST_BYTES_MAX)?;
        let reader = &mut message.reader;
        let (body, mac) = (reader.bytes()?.to_vec(), bytes(reader)?);
        message.close()?;
        Ok(Self { body, mac })
    }
}

/// Why a client is not let in, as far as it may know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum RefusalCode {
    /// Not authenticated: one code for every cause, so that nobody learns which tenants and keys exist.
    Denied = 1,
    /// The host does not speak the client's version or none of its algorithms.
    Version = 2,
    /// Too many failures, sessions or connections, or the host is about to end: later it may work.
    TryLater = 3,
}

/// What the host sends instead of [`Challenge`] or [`SignedWelcome`], before it closes the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// For programs.
    pub code: RefusalCode,
    /// For people; it tells no more than the code to whom is not authenticated.
    pub message: String,
}

impl Refusal {
    /// The message's body.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        cbor::put_array(&mut out, 3);
        cbor::put_u64(&mut out, REFUSAL);
        cbor::put_u64(&mut out, self.code as u64);
        cbor::put_text(&mut out, &self.message);
        out
    }

    /// Reads the message's body. A code of a later version is taken for [`RefusalCode::Denied`].
    ///
    /// # Errors
    /// [`Malformed`] for another shape or more than [`HOST_BYTES_MAX`] bytes.
    pub fn decode(body: &[u8]) -> Result<Self, Malformed> {
        let mut message = Message::open(body, REFUSAL, 3, HOST_BYTES_MAX)?;
        let reader = &mut message.reader;
        let code = match reader.u64()? {
            2 => RefusalCode::Version,
            3 => RefusalCode::TryLater,
            _ => RefusalCode::Denied,
        };
        let text = reader.text()?.to_owned();
        message.close()?;
        Ok(Self { code, message: text })
    }
}

/// Whatever a host sends during sign-in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerAnswer {
    /// To [`Hello`].
    Challenge(Challenge),
    /// To [`Proof`].
    Welcome(SignedWelcome),
    /// To either.
    Refused(Refusal),
}

impl ServerAnswer {
    /// Reads the body of any message of a host. Which of them may come now is for the caller to say.
    ///
    /// # Errors
    /// [`Malformed`] for none of them.
    pub fn decode(body: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(body);
        reader.array()?;
        match reader.u64()? {
            CHALLENGE => Challenge::decode(body).map(Self::Challenge),
            WELCOME => SignedWelcome::decode(body).map(Self::Welcome),
            REFUSAL => Refusal::decode(body).map(Self::Refused),
            _ => Err(Malformed::SignIn("not a host's message of sign-in")),
        }
    }
}

/// The connection that the proofs are bound to.
#[derive(Clone, Copy, Debug)]
pub enum Channel<'a> {
    /// TLS 1.3.
    Tls {
        /// 32 bytes of the exporter [`EXPORTER_LABEL`] with an empty context.
        exporter: &'a [u8; 32],
        /// The leaf certificate (DER) that the host serves on this very connection.
        leaf_certificate: &'a [u8],
    },
    /// A Unix socket.
    Unix {
        /// The client's user id: its own for the client, the peer's credentials' for the host.
        client_uid: u32,
    },
}

/// The proofs of one sign-in. Client and host compute the same ones.
#[derive(ZeroizeOnDrop)]
pub struct Proofs {
    /// `T`: everything said so far and where.
    transcript: [u8; 32],
    /// `PROOF`.
    client: [u8; 32],
    /// `Ks`.
    host_key: [u8; 32],
}

impl fmt::Debug for Proofs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proofs").finish_non_exhaustive()
    }
}

impl Proofs {
    /// Derives the proofs from the tenant's key, the two messages as they travelled, and the connection.
    ///
    /// # Errors
    /// [`Malformed`] if either message does not decode; if the challenge speaks another version than the client or an
    /// algorithm that it did not offer; if the hello's uid is not the channel's.
    pub fn new(authkey: &[u8], hello: &[u8], challenge: &[u8], channel: &Channel<'_>) -> Result<Self, Malformed> {
        let (said, asked) = (Hello::decode(hello)?, Challenge::decode(challenge)?);
        if said.version != asked.version {
            return Err(Malformed::SignIn("the challenge speaks another version than the client"));
        }
        if asked.algorithm != ALGORITHM || !said.algorithms.contains(&asked.algorithm) {
            return Err(Malformed::SignIn("the challenge asks for an algorithm that the client did not offer"));
        }
        let binding: Zeroizing<[u8; 32]>;
        let certificate_hash: [u8; 32];
        let certificate: &[u8];
        let uid = match *channel {
            Channel::Tls { exporter, leaf_certificate } => {
                binding = Zeroizing::new(*exporter);
                certificate_hash = Sha256::digest(leaf_certificate).into();
                certificate = &certificate_hash;
                None
            }
            Channel::Unix { client_uid } => {
                binding = Zeroizing::new(hash_of(&[&said.nonce, &asked.nonce, &client_uid.to_be_bytes()]));
                certificate = b"";
                Some(client_uid)
            }
        };
        if said.uid != uid {
            return Err(Malformed::SignIn("the uid is not that of the connection"));
        }
        let transcript = hash_of(&[CONTEXT, hello, challenge, certificate]);
        let keys = Hkdf::<Sha256>::new(Some(&*binding), authkey);
        let derive = |info: &[u8]| {
            let mut key = Zeroizing::new([0; 32]);
            keys.expand(info, &mut *key).expect("hkdf-sha256 gives up to 8160 bytes");
            key
        };
        let client = mac_of(&*derive(CLIENT_INFO), &[&transcript]);
        Ok(Self { transcript, client, host_key: *derive(HOST_INFO) })
    }

    /// That the client holds the authkey.
    pub fn client(&self) -> [u8; 32] {
        self.client
    }

    /// Whether `proof` is [`Self::client`], in constant time.
    pub fn verify_client(&self, proof: &[u8]) -> bool {
        self.client.as_slice().ct_eq(proof).into()
    }

    /// That the client holds the secret of the session it resumes.
    pub fn resume(&self, secret: &[u8; 32]) -> [u8; 32] {
        mac_of(secret, &[&self.transcript, &self.client])
    }

    /// Whether `proof` is [`Self::resume`] for `secret`, in constant time.
    pub fn verify_resume(&self, secret: &[u8; 32], proof: &[u8]) -> bool {
        self.resume(secret).as_slice().ct_eq(proof).into()
    }

    /// That the host holds the authkey, and that the welcome is its own.
    pub fn welcome_mac(&self, body: &[u8]) -> [u8; 32] {
        mac_of(&self.host_key, &[&self.transcript, &self.client, body])
    }

    /// Whether `mac` is [`Self::welcome_mac`] of `body`, in constant time.
    pub fn verify_welcome(&self, body: &[u8], mac: &[u8]) -> bool {
        self.welcome_mac(body).as_slice().ct_eq(mac).into()
    }
}

/// A tenant's key: at least [`AuthKey::BYTES_MIN`] random bytes, wiped when dropped, never printed.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct AuthKey(Vec<u8>);

/// Why bytes are no [`AuthKey`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthKeyError {
    /// Too few to withstand guessing.
    #[error("authkey is {bytes} bytes, at least {} are needed", AuthKey::BYTES_MIN)]
    TooShort {
        /// How many there are.
        bytes: usize,
    },
    /// Not pairs of hexadecimal digits.
    #[error("authkey is not hexadecimal: digit {at} is no digit or lacks its pair")]
    NotHex {
        /// Which character, counted from 1.
        at: usize,
    },
}

impl AuthKey {
    /// A shorter key is refused.
    pub const BYTES_MIN: usize = 32;

    /// A key of these bytes.
    ///
    /// # Errors
    /// [`AuthKeyError::TooShort`].
    pub fn new(bytes: Vec<u8>) -> Result<Self, AuthKeyError> {
        // Owned at once, so that a refused key is wiped as well.
        let key = Self(bytes);
        if key.0.len() < Self::BYTES_MIN {
            return Err(AuthKeyError::TooShort { bytes: key.0.len() });
        }
        Ok(key)
    }

    /// A key written in hexadecimal, as key files hold it; white space around it is ignored.
    ///
    /// # Errors
    /// [`AuthKeyError`]; it tells where the fault is and nothing of the key.
    pub fn from_hex(text: &str) -> Result<Self, AuthKeyError> {
        let digits = text.trim().as_bytes();
        let mut key = Self(Vec::with_capacity(digits.len() / 2));
        for (pair, two) in digits.chunks(2).enumerate() {
            let digit = |place: usize| {
                let value = two.get(place).and_then(|&digit| char::from(digit).to_digit(16));
                value.ok_or(AuthKeyError::NotHex { at: 2 * pair + place + 1 })
            };
            key.0.push((digit(0)? << 4 | digit(1)?) as u8);
        }
        if key.0.len() < Self::BYTES_MIN {
            return Err(AuthKeyError::TooShort { bytes: key.0.len() });
        }
        Ok(key)
    }

    /// The key in hexadecimal, for a key file.
    pub fn to_hex(&self) -> Zeroizing<String> {
        let mut hex = Zeroizing::new(String::with_capacity(2 * self.0.len()));
        for byte in &self.0 {
            hex.push(char::from_digit(u32::from(byte >> 4), 16).expect("four bits are a digit"));
            hex.push(char::from_digit(u32::from(byte & 15), 16).expect("four bits are a digit"));
        }
        hex
    }

    /// A key that nobody holds, for a tenant or key that does not exist: always the same one, so that repeated
    /// attempts look as they do for a key that exists.
    pub fn dummy(boot_secret: &[u8; 32], tenant: &str, key_id: &str) -> Self {
        let claim = hash_of(&[DUMMY_INFO, tenant.as_bytes(), key_id.as_bytes()]);
        Self(mac_of(boot_secret, &[&claim]).to_vec())
    }

    /// The bytes, for [`Proofs::new`].
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for AuthKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AuthKey(…)")
    }
}

/// SHA-256 of the parts, each preceded by its length in four bytes.
fn hash_of(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        let length = u32::try_from(part.len()).expect("messages of sign-in are bounded far below 4 GiB");
        hash.update(length.to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

/// HMAC-SHA256 of the parts, one after the other.
fn mac_of(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("hmac takes keys of any length");
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

/// A message being read: an array with at least the fields of this version.
struct Message<'a> {
    reader: Reader<'a>,
    /// Fields of later versions, at the end.
    unknown: usize,
}

impl<'a> Message<'a> {
    fn open(body: &'a [u8], kind: u64, fields: usize, bytes_max: usize) -> Result<Self, Malformed> {
        let mut message = Self::open_array(body, fields, bytes_max)?;
        if message.reader.u64()? != kind {
            return Err(Malformed::SignIn("another message of sign-in was expected"));
        }
        Ok(message)
    }

    fn open_array(body: &'a [u8], fields: usize, bytes_max: usize) -> Result<Self, Malformed> {
        if body.len() > bytes_max {
            return Err(Malformed::SignIn("the message is longer than allowed before authentication"));
        }
        let mut reader = Reader::new(body);
        let unknown = reader.array()?.checked_sub(fields).ok_or(Malformed::SignIn("fields are missing"))?;
        Ok(Self { reader, unknown })
    }

    fn close(mut self) -> Result<(), Malformed> {
        for _ in 0..self.unknown {
            self.reader.raw()?;
        }
        match self.reader.remaining() {
            0 => Ok(()),
            trailing => Err(Malformed::Trailing(trailing)),
        }
    }
}

fn put_optional(out: &mut Vec<u8>, number: Option<u64>) {
    match number {
        Some(number) => cbor::put_u64(out, number),
        None => cbor::put_null(out),
    }
}

fn optional(reader: &mut Reader<'_>) -> Result<Option<u64>, Malformed> {
    if reader.null() { Ok(None) } else { reader.u64().map(Some) }
}

fn version(reader: &mut Reader<'_>) -> Result<u16, Malformed> {
    u16::try_from(reader.u64()?).map_err(|_| Malformed::SignIn("a version has 16 bits"))
}

fn count(reader: &mut Reader<'_>) -> Result<u32, Malformed> {
    u32::try_from(reader.u64()?).map_err(|_| Malformed::SignIn("a number of calls or replies has 32 bits"))
}

fn name(reader: &mut Reader<'_>, bytes_max: usize) -> Result<String, Malformed> {
    match reader.text()? {
        name if name.len() <= bytes_max => Ok(name.to_owned()),
        _ => Err(Malformed::SignIn("a name is longer than allowed")),
    }
}

fn bytes(reader: &mut Reader<'_>) -> Result<[u8; 32], Malformed> {
    reader.bytes()?.try_into().map_err(|_| Malformed::SignIn("32 bytes were expected"))
}
