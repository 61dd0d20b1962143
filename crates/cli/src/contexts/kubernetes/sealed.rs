//! What an agent says to one command alone, though others carry it: sealed to the public half of a key of that command's.
//!
//! ```text
//!   command: a key, its public half ──spec.asks──> operator ──> agent: a key of its own, X25519 of both, HKDF-SHA-256 over both
//!            public halves, ChaCha20-Poly1305 ──> its public half and what is sealed ──status.answers──> command
//! ```
//!
//! Each key is used once, so that a nonce of zeros is no other's. Who reads the resource, and who carries the answer, learns
//! nothing of it; that the operator passes the right key on is what a command has to believe, as it believes the API server.

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use ring::agreement::{EphemeralPrivateKey, UnparsedPublicKey, X25519, agree_ephemeral};
use ring::hkdf::{HKDF_SHA256, Salt};
use ring::rand::SystemRandom;

use crate::contexts::hex;

/// Bytes of a public half.
const PUBLIC_BYTES: usize = 32;

/// What the keys are for, and nothing else.
const PURPOSE: &[u8] = b"bough invitation 1";

/// Most bytes that are opened: an invitation of sixteen sessions has a fourth of it.
const SEALED_BYTES_MAX: usize = 8 << 10;

/// The half of a key that its owner keeps.
pub(crate) struct OpeningKey {
    private: EphemeralPrivateKey,
    public: [u8; PUBLIC_BYTES],
}

impl OpeningKey {
    /// A new one; none where the system gives no randomness.
    pub(crate) fn draw() -> Option<Self> {
        let random = SystemRandom::new();
        let private = EphemeralPrivateKey::generate(&X25519, &random).ok()?;
        let public = private.compute_public_key().ok()?;
        let public = public.as_ref().try_into().ok()?;
        Some(Self { private, public })
    }

    /// The other half, as resources and commands carry it.
    pub(crate) fn public_text(&self) -> String {
        hex::write(&self.public)
    }

    /// What was sealed to the other half; none where it was not, or was touched.
    pub(crate) fn open(self, text: &str) -> Option<String> {
        let sealed = bytes(text)?;
        let (theirs, sealed) = sealed.split_at_checked(PUBLIC_BYTES)?;
        let theirs: [u8; PUBLIC_BYTES] = theirs.try_into().ok()?;
        let key = agree(self.private, &theirs, &theirs, &self.public)?;
        let mut words = sealed.to_vec();
        let words = key.open_in_place(nonce(), Aad::empty(), &mut words).ok()?;
        String::from_utf8(words.to_vec()).ok()
    }
}

/// Seals `words` to whoever has the other half of `public`; none where that is no public half.
pub(crate) fn seal(public: &[u8; PUBLIC_BYTES], words: &str) -> Option<String> {
    let own = OpeningKey::draw()?;
    let key = agree(own.private, public, &own.public, public)?;
    let mut sealed = words.as_bytes().to_vec();
    key.seal_in_place_append_tag(nonce(), Aad::empty(), &mut sealed)
        .ok()?;
    Some(hex::write(&[&own.public[..], &sealed].concat()))
}

/// The one key of two halves; `sealer` and `opener` are the public halves of who seals and who opens.
fn agree(
    own: EphemeralPrivateKey,
    theirs: &[u8; PUBLIC_BYTES],
    sealer: &[u8; PUBLIC_BYTES],
    opener: &[u8; PUBLIC_BYTES],
) -> Option<LessSafeKey> {
    let theirs = UnparsedPublicKey::new(&X25519, theirs);
    let derive = |shared: &[u8]| {
        let extracted = Salt::new(HKDF_SHA256, PURPOSE).extract(shared);
        let info: [&[u8]; 2] = [sealer, opener];
        let key = extracted.expand(&info, &CHACHA20_POLY1305).ok()?;
        Some(LessSafeKey::new(UnboundKey::from(key)))
    };
    agree_ephemeral(own, &theirs, derive).ok()?
}

fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}

/// Two digits each.
fn bytes(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    if !digits.len().is_multiple_of(2) || digits.len() > 2 * SEALED_BYTES_MAX {
        return None;
    }
    let pairs = digits.chunks(2);
    let bytes = pairs.map(|pair| hex::parse::<1>(str::from_utf8(pair).ok()?));
    bytes.map(|byte| Some(byte?[0])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn public(key: &OpeningKey) -> [u8; PUBLIC_BYTES] {
        hex::parse(&key.public_text()).expect("digits")
    }

    #[test]
    fn only_who_asked_reads_the_answer() {
        let (asker, other) = (OpeningKey::draw(), OpeningKey::draw());
        let (asker, other) = (asker.expect("a key"), other.expect("a key"));
        let sealed = seal(&public(&asker), "port and keys").expect("sealed");
        assert!(!sealed.contains(&hex::write(b"port")), "{sealed}");
        assert_eq!(other.open(&sealed), None);
        assert_eq!(asker.open(&sealed).as_deref(), Some("port and keys"));
    }

    #[test]
    fn what_was_touched_is_not_opened_and_nothing_is_sealed_the_same_way_twice() {
        for touched in 0..3 {
            let asker = OpeningKey::draw().expect("a key");
            let sealed = seal(&public(&asker), "x").expect("sealed");
            assert_ne!(Some(&sealed), seal(&public(&asker), "x").as_ref());
            let place = [0, 2 * PUBLIC_BYTES, sealed.len() - 1][touched];
            let mut bad = sealed.into_bytes();
            bad[place] = if bad[place] == b'0' { b'1' } else { b'0' };
            let bad = String::from_utf8(bad).expect("digits");
            assert_eq!(asker.open(&bad), None, "{touched}");
        }
        for bad in [
            "",
            "0",
            "zz",
            &"0".repeat(64),
            &"00".repeat(SEALED_BYTES_MAX + 1),
        ] {
            let asker = OpeningKey::draw().expect("a key");
            assert_eq!(asker.open(bad), None);
        }
        // A half that is no one's key.
        assert_eq!(seal(&[0; PUBLIC_BYTES], "x"), None);
    }
}
