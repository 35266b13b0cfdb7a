use serde_json::{Value, json};

use super::Counts;

/// Counts that somebody said were well, and the compiler that they are for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Baseline {
    /// What `rustc --version` says.
    pub(crate) rustc: String,
    /// Instructions an operation, to a tenth.
    pub(crate) instructions: Counts,
}

impl Baseline {
    pub(crate) fn from_json(text: &str) -> Result<Self, String> {
        let value: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let rustc = value["rustc"].as_str().ok_or("no `rustc`")?.to_owned();
        let entries = value["instructions"].as_object().ok_or("no `instructions`")?;
        let number = |(name, count): (&String, &Value)| {
            count.as_f64().map(|count| (name.clone(), count)).ok_or_else(|| format!("{name} is no number"))
        };
        Ok(Self { rustc, instructions: entries.iter().map(number).collect::<Result<_, _>>()? })
    }

    /// One line a bench, sorted, so that a diff tells what changed by how much.
    pub(crate) fn to_json(&self) -> String {
        let line = |(name, count): (&String, &f64)| format!("    {}: {count:.1}", json!(name));
        let lines: Vec<_> = self.instructions.iter().map(line).collect();
        format!(
            "{{\n  \"rustc\": {},\n  \"instructions\": {{\n{}\n  }}\n}}\n",
            json!(self.rustc),
            lines.join(",\n")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_sorted() {
        let counts = [("b::two", 12.0), ("a::one", 345.6)].map(|(name, count)| (name.to_owned(), count));
        let baseline = Baseline { rustc: "rustc 1.0".into(), instructions: counts.into_iter().collect() };
        let text = baseline.to_json();
        assert!(text.find("a::one").unwrap() < text.find("b::two").unwrap());
        assert!(text.contains("    \"b::two\": 12.0\n"));
        assert_eq!(Baseline::from_json(&text).unwrap(), baseline);
    }

    #[test]
    fn a_file_that_is_no_baseline_is_an_error() {
        for text in ["", "{}", r#"{"rustc":"1"}"#, r#"{"rustc":"1","instructions":{"a":"b"}}"#] {
            assert!(Baseline::from_json(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_baseline_of_the_repository_is_one() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../benches/instructions/baseline.json");
        let text = std::fs::read_to_string(path).unwrap();
        assert_eq!(Baseline::from_json(&text).unwrap().to_json(), text);
    }
}
