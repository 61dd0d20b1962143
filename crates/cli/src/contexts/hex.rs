//! Keys and ids as hexadecimal digits, as files and pipes carry them.

/// Two digits a byte.
pub(crate) fn write(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Exactly `N` bytes of two digits each.
pub(crate) fn parse<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
        *byte = u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_that_many_digits_and_nothing_else() {
        let text = "0f".repeat(32);
        assert_eq!(parse(&text), Some([15; 32]));
        assert_eq!(write(&[15; 32]), text);
        for bad in ["", &text[1..], &format!("{text}0"), &"+f".repeat(32)] {
            assert_eq!(parse::<32>(bad), None, "{bad}");
        }
    }
}
