//! What the user reads: a few lines for each broken rule, outages, and how often more.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::catalog::Rule;
use super::rules::{Finding, Outage};

/// Lines printed for one rule in one rendition; the rest is counted.
const LINES_MAX: usize = 3;

/// Collects findings; whoever holds it prints what it gives back.
#[derive(Debug, Default)]
pub(crate) struct Report {
    broken: BTreeMap<(Rule, String), Broken>,
    outages: Vec<Outage>,
    pub(crate) seen: Seen,
}

/// How much was looked at, so that silence can be told from blindness.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Seen {
    pub(crate) playlists: u64,
    pub(crate) renditions: u64,
    pub(crate) segments: u64,
    pub(crate) parts: u64,
    pub(crate) bytes: u64,
}

#[derive(Debug)]
struct Broken {
    first_ms: u64,
    count: u64,
    lines: Vec<String>,
}

impl Report {
    /// Takes in a finding; returns the line to print, unless there were enough of its kind.
    pub(crate) fn add(&mut self, finding: &Finding) -> Option<String> {
        let key = (finding.rule, finding.rendition.clone());
        let broken = self.broken.entry(key).or_insert_with(|| Broken {
            first_ms: finding.at_ms,
            count: 0,
            lines: Vec::new(),
        });
        broken.count += 1;
        if broken.lines.len() >= LINES_MAX {
            return None;
        }
        let at = finding.at_ms as f64 / 1e3;
        let whose = if finding.rendition.is_empty() { "" } else { ": " };
        let line = format!(
            "{}{whose}{}: {} (at {at:.1} s)",
            finding.rule, finding.rendition, finding.detail
        );
        broken.lines.push(line.clone());
        Some(line)
    }

    /// Takes in an outage; returns the line to print.
    pub(crate) fn add_outage(&mut self, outage: Outage) -> String {
        self.outages.push(outage);
        format!("OUTAGE: refused for {:.1} s", outage.length_ms() as f64 / 1e3)
    }

    /// Whether any rule was broken.
    pub(crate) fn is_clean(&self) -> bool {
        self.broken.is_empty()
    }

    /// The rules that were broken.
    #[cfg(test)]
    pub(crate) fn broken_rules(&self) -> impl Iterator<Item = Rule> {
        let rules: std::collections::BTreeSet<Rule> =
            self.broken.keys().map(|(rule, _)| *rule).collect();
        rules.into_iter()
    }

    /// One line for each rule that was broken more often than it was printed.
    pub(crate) fn rest(&self) -> Vec<String> {
        let more = self.broken.iter().filter(|(_, b)| b.count > LINES_MAX as u64);
        more.map(|((rule, rendition), b)| {
            let whose = if rendition.is_empty() { "" } else { ": " };
            format!("{rule}{whose}{rendition}: {} times in all", b.count)
        })
        .collect()
    }

    /// The whole report.
    pub(crate) fn json(&self, url: &str, length_ms: u64) -> Value {
        let seconds = |ms: u64| ms as f64 / 1e3;
        let broken: Vec<Value> = self
            .broken
            .iter()
            .map(|((rule, rendition), b)| {
                json!({"rule": rule.name(), "rendition": rendition, "count": b.count,
                       "first_at_s": seconds(b.first_ms), "lines": b.lines})
            })
            .collect();
        let outages: Vec<Value> = self
            .outages
            .iter()
            .map(|o| json!({"at_s": seconds(o.from_ms), "seconds": seconds(o.length_ms())}))
            .collect();
        let seen = self.seen;
        json!({
            "url": url, "seconds": seconds(length_ms), "broken": broken, "outages": outages,
            "seen": {"renditions": seen.renditions, "playlists": seen.playlists,
                     "segments": seen.segments, "parts": seen.parts, "bytes": seen.bytes},
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_rule_is_printed_a_few_times_and_counted() {
        let mut report = Report::default();
        let finding = |rendition: &str| Finding {
            at_ms: 1500,
            rule: Rule::PartTooLong,
            rendition: rendition.into(),
            detail: "part 1.2".into(),
        };
        let lines: Vec<_> = (0..10).filter_map(|_| report.add(&finding("720p"))).collect();
        assert_eq!(lines.len(), LINES_MAX);
        assert_eq!(lines[0], "part-too-long: 720p: part 1.2 (at 1.5 s)");
        assert_eq!(report.add(&finding("")), Some("part-too-long: part 1.2 (at 1.5 s)".to_owned()));
        assert_eq!(report.rest(), ["part-too-long: 720p: 10 times in all"]);
        assert!(!report.is_clean());
    }

    #[test]
    fn an_outage_alone_leaves_the_report_clean() {
        let mut report = Report::default();
        let line = report.add_outage(Outage { from_ms: 1000, to_ms: 4200 });
        assert_eq!(line, "OUTAGE: refused for 3.2 s");
        assert!(report.is_clean());
    }
}
