//! Sizes as typed.

/// Reads a size: bytes, or with K, M, G or T (powers of 1024), as `256M`, `256MiB` or `268435456`.
pub(crate) fn parse(text: &str) -> Result<u64, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let shift = match unit.to_ascii_uppercase().as_str() {
        "" | "B" => 0,
        "K" | "KIB" => 10,
        "M" | "MIB" => 20,
        "G" | "GIB" => 30,
        "T" | "TIB" => 40,
        _ => return Err("a size is a whole number of bytes, or of K, M, G or T, such as 256M".to_owned()),
    };
    if number.is_empty() {
        return Err("the number is missing; write a size like 256M".to_owned());
    }
    number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(1 << shift))
        .ok_or_else(|| "that is more than 64 bits can count".to_owned())
}

/// Reads the size of a block.
pub(crate) fn parse_block(text: &str) -> Result<u32, String> {
    match u32::try_from(parse(text)?) {
        Ok(bytes) if bytes.is_power_of_two() && bytes >= 512 => Ok(bytes),
        _ => Err("a block has 512 bytes or a larger power of two, such as 4096".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_every_unit() {
        for (text, bytes) in
            [("0", 0), ("512", 512), ("4k", 4096), ("256M", 256 << 20), ("2GiB", 2 << 30), ("1T", 1 << 40)]
        {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused_with_what_one_looks_like() {
        for text in ["", "M", "-1", "1.5G", "1X", "1 G", "1MB", "0x10", "99999999999999999999", "16777216T"] {
            assert!(parse(text).is_err(), "{text:?} was taken");
        }
    }

    #[test]
    fn a_block_is_a_power_of_two_of_at_least_512() {
        assert_eq!(parse_block("4K"), Ok(4096));
        for text in ["0", "256", "513", "8G"] {
            assert!(parse_block(text).is_err(), "{text:?} was taken");
        }
    }
}
