//! Guarantees, as typed and as shown.

use clap::Args;
use vfiomux_rpc::{Guarantees, RateLimit};

use crate::{size, units};

/// What a channel is promised, and what it is held to. A limit is so much a second, and after a slash so much at once.
#[derive(Debug, Args)]
pub(crate) struct GuaranteeArguments {
    /// Most requests a second
    #[arg(long, value_parser = count, value_name = "N[/BURST]", help_heading = "Guarantees")]
    iops: Option<RateLimit>,
    /// Most bytes a second, read and written: bytes, or with K, M, G or T
    #[arg(long, value_parser = bytes, value_name = "SIZE[/BURST]", help_heading = "Guarantees")]
    bps: Option<RateLimit>,
    /// Most reads a second
    #[arg(long, value_parser = count, value_name = "N[/BURST]", help_heading = "Guarantees")]
    read_iops: Option<RateLimit>,
    /// Most bytes read a second
    #[arg(long, value_parser = bytes, value_name = "SIZE[/BURST]", help_heading = "Guarantees")]
    read_bps: Option<RateLimit>,
    /// Most requests a second that are no reads
    #[arg(long, value_parser = count, value_name = "N[/BURST]", help_heading = "Guarantees")]
    write_iops: Option<RateLimit>,
    /// Most bytes written a second
    #[arg(long, value_parser = bytes, value_name = "SIZE[/BURST]", help_heading = "Guarantees")]
    write_bps: Option<RateLimit>,
    /// Reads of 4K a second, or what costs as much, that go before what others do beyond theirs
    #[arg(long, value_name = "N", help_heading = "Guarantees")]
    reserve: Option<u64>,
    /// Weight over what is left, from 1 to 10000 [default: 100]
    #[arg(long, value_name = "N", help_heading = "Guarantees")]
    share: Option<u32>,
}

impl GuaranteeArguments {
    pub(crate) fn to_guarantees(&self) -> Guarantees {
        Guarantees {
            ops: self.iops,
            bytes: self.bps,
            read_ops: self.read_iops,
            read_bytes: self.read_bps,
            write_ops: self.write_iops,
            write_bytes: self.write_bps,
            reservation_ops: self.reserve,
            share: self.share,
        }
    }
}

fn count(text: &str) -> Result<RateLimit, String> {
    rate(text, |text| {
        text.parse().map_err(|_| "a rate is a whole number, such as 5000 or 5000/500".to_owned())
    })
}

fn bytes(text: &str) -> Result<RateLimit, String> {
    rate(text, size::parse)
}

fn rate(text: &str, number: impl Fn(&str) -> Result<u64, String>) -> Result<RateLimit, String> {
    let (per_second, burst) = match text.split_once('/') {
        Some((per_second, burst)) => (per_second, Some(burst)),
        None => (text, None),
    };
    Ok(RateLimit { per_second: number(per_second)?, burst: burst.map(number).transpose()? })
}

/// One line a guarantee; empty when there is none.
pub(crate) fn lines(guarantees: &Guarantees) -> Vec<String> {
    let Guarantees { ops, bytes, read_ops, read_bytes, write_ops, write_bytes, reservation_ops, share } =
        *guarantees;
    let limit = |what: &str, limit: Option<RateLimit>, show: fn(u64) -> String| {
        let RateLimit { per_second, burst } = limit?;
        let burst = burst.map_or_else(String::new, |burst| format!(", {} at once", show(burst)));
        Some(format!("at most {}{what} a second{burst}", show(per_second)))
    };
    let plain: fn(u64) -> String = |value| value.to_string();
    [
        limit(" requests", ops, plain),
        limit("", bytes, units::bytes),
        limit(" reads", read_ops, plain),
        limit(" read", read_bytes, units::bytes),
        limit(" writes", write_ops, plain),
        limit(" written", write_bytes, units::bytes),
        reservation_ops.map(|ops| format!("{ops} reads of 4K a second reserved")),
        share.map(|share| format!("share {share}")),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_a_rate_and_a_burst_if_one_is_typed() {
        assert_eq!(count("5000"), Ok(RateLimit { per_second: 5000, burst: None }));
        assert_eq!(count("5000/500"), Ok(RateLimit { per_second: 5000, burst: Some(500) }));
        assert_eq!(bytes("100M/1M"), Ok(RateLimit { per_second: 100 << 20, burst: Some(1 << 20) }));
        for text in ["", "/5", "5/", "5/5/5", "5k", "-1"] {
            assert!(count(text).is_err(), "{text:?} was taken");
        }
    }

    #[test]
    fn what_is_promised_is_shown_in_words() {
        let limit = |per_second, burst| Some(RateLimit { per_second, burst });
        let guarantees = Guarantees {
            ops: limit(5000, None),
            write_bytes: limit(100 << 20, Some(1 << 20)),
            reservation_ops: Some(800),
            ..Guarantees::default()
        };
        assert_eq!(
            lines(&guarantees),
            [
                "at most 5000 requests a second",
                "at most 100M written a second, 1M at once",
                "800 reads of 4K a second reserved"
            ]
        );
        assert!(lines(&Guarantees::default()).is_empty());
    }
}
