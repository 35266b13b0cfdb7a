//! Guarantees, as typed and as shown.

use clap::Args;
use vfiomux_rpc::{Guarantees, Limits, Objective, RateLimit};

use crate::{size, units};

/// What is not to be exceeded. A limit is so much a second, and after a slash so much at once.
#[derive(Debug, Args)]
pub(crate) struct LimitArguments {
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
}

/// What a channel is promised, and what it is held to.
#[derive(Debug, Args)]
pub(crate) struct GuaranteeArguments {
    #[command(flatten)]
    limits: LimitArguments,
    /// Reads of 4K a second, or what costs as much, that go before what others do beyond theirs
    #[arg(long, value_name = "N", help_heading = "Guarantees")]
    reserve: Option<u64>,
    /// Weight over what is left, from 1 to 10000 [default: 100]
    #[arg(long, value_name = "N", help_heading = "Guarantees")]
    share: Option<u32>,
    /// What requests should take at most, which policies work towards: us, ms or s, and the percentile [default: 99]
    #[arg(long, value_parser = objective, value_name = "TIME[@PERCENTILE]", help_heading = "Guarantees")]
    objective: Option<Objective>,
}

impl LimitArguments {
    pub(crate) fn to_limits(&self) -> Limits {
        Limits {
            ops: self.iops,
            bytes: self.bps,
            read_ops: self.read_iops,
            read_bytes: self.read_bps,
            write_ops: self.write_iops,
            write_bytes: self.write_bps,
        }
    }
}

impl GuaranteeArguments {
    pub(crate) fn to_guarantees(&self) -> Guarantees {
        let Limits { ops, bytes, read_ops, read_bytes, write_ops, write_bytes } = self.limits.to_limits();
        Guarantees {
            ops,
            bytes,
            read_ops,
            read_bytes,
            write_ops,
            write_bytes,
            reservation_ops: self.reserve,
            share: self.share,
            objective: self.objective,
        }
    }
}

pub(crate) fn count(text: &str) -> Result<RateLimit, String> {
    rate(text, |text| {
        text.parse().map_err(|_| "a rate is a whole number, such as 5000 or 5000/500".to_owned())
    })
}

pub(crate) fn bytes(text: &str) -> Result<RateLimit, String> {
    rate(text, size::parse)
}

fn rate(text: &str, number: impl Fn(&str) -> Result<u64, String>) -> Result<RateLimit, String> {
    let (per_second, burst) = match text.split_once('/') {
        Some((per_second, burst)) => (per_second, Some(burst)),
        None => (text, None),
    };
    Ok(RateLimit { per_second: number(per_second)?, burst: burst.map(number).transpose()? })
}

pub(crate) fn objective(text: &str) -> Result<Objective, String> {
    let wrong = || "an objective is a time and a percentile, such as 500us, 2ms or 2ms@99.9".to_owned();
    let (time, percentile) = text.split_once('@').unwrap_or((text, "99"));
    let unit_at = time.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let (number, unit) = time.split_at(unit_at);
    let unit_ns: u64 = match unit {
        "us" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        _ => return Err(wrong()),
    };
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let latency_ns = number.checked_mul(unit_ns).ok_or_else(wrong)?;
    // One decimal at most: thousandths are what is counted.
    let (whole, tenth) = percentile.split_once('.').unwrap_or((percentile, "0"));
    let digit = tenth.len() == 1 && tenth.bytes().all(|byte| byte.is_ascii_digit());
    let whole: u16 = whole.parse().map_err(|_| wrong())?;
    let tenth: u16 = if digit { tenth.parse().map_err(|_| wrong())? } else { return Err(wrong()) };
    let permille = whole.checked_mul(10).and_then(|tens| tens.checked_add(tenth)).ok_or_else(wrong)?;
    Some(Objective { permille, latency_ns }).filter(Objective::is_sane).ok_or_else(wrong)
}

/// One line a guarantee; empty when there is none.
pub(crate) fn lines(guarantees: &Guarantees) -> Vec<String> {
    let Guarantees {
        ops,
        bytes,
        read_ops,
        read_bytes,
        write_ops,
        write_bytes,
        reservation_ops,
        share,
        objective,
    } = *guarantees;
    let promised = [
        reservation_ops.map(|ops| format!("{ops} reads of 4K a second reserved")),
        share.map(|share| format!("share {share}")),
        objective.map(|Objective { permille, latency_ns }| {
            let (whole, tenth) = (permille / 10, permille % 10);
            let percentile = if tenth == 0 { whole.to_string() } else { format!("{whole}.{tenth}") };
            format!("p{percentile} of at most {} wanted", units::nanoseconds(latency_ns))
        }),
    ];
    let limits = Limits { ops, bytes, read_ops, read_bytes, write_ops, write_bytes };
    limit_lines(&limits).into_iter().chain(promised.into_iter().flatten()).collect()
}

/// One line a limit; empty when there is none.
pub(crate) fn limit_lines(limits: &Limits) -> Vec<String> {
    let Limits { ops, bytes, read_ops, read_bytes, write_ops, write_bytes } = *limits;
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
    fn an_objective_is_a_time_at_a_percentile() {
        assert_eq!(objective("500us"), Ok(Objective { permille: 990, latency_ns: 500_000 }));
        assert_eq!(objective("2ms@99.9"), Ok(Objective { permille: 999, latency_ns: 2_000_000 }));
        assert_eq!(objective("1s@50"), Ok(Objective { permille: 500, latency_ns: 1_000_000_000 }));
        for text in ["", "5", "ms", "0ms", "2ms@", "2ms@100", "2ms@0", "2ms@99.99", "2ms@9.", "-2ms", "2h"] {
            assert!(objective(text).is_err(), "{text:?} was taken");
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
