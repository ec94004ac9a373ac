//! Whether the server is there: outages, and answers that broke off.

use super::Engine;
use crate::check::catalog::Rule;

/// Longest outage after first contact that breaks no rule.
const OUTAGE_MAX_MS: u64 = 15_000;
/// A break this near to an outage is part of it: the server was going away or coming back.
const NEAR_MS: u64 = 2_000;

/// A time in which the server refused connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Outage {
    pub(crate) from_ms: u64,
    /// When the first answer came again, or the check ended.
    pub(crate) to_ms: u64,
}

/// What is known about reaching the server.
#[derive(Debug, Default)]
pub(super) struct Contact {
    down_since_ms: Option<u64>,
    outages: Vec<Outage>,
    told: usize,
    suspects: Vec<Suspect>,
}

#[derive(Debug)]
struct Suspect {
    at_ms: u64,
    rule: Rule,
    rendition: String,
    detail: String,
}

impl Engine {
    /// A connection was refused, or could not be made.
    pub(crate) fn handle_refused(&mut self, at_ms: u64) {
        if self.contact.down_since_ms.is_none() {
            self.contact.down_since_ms = Some(at_ms);
            self.forget_pace();
        }
    }

    /// An answer came to a request that was sent at `sent_ms`. True when that ended an outage.
    pub(crate) fn handle_answered(&mut self, at_ms: u64, sent_ms: u64) -> bool {
        let Some(from_ms) = self.contact.down_since_ms.filter(|from| *from <= sent_ms) else {
            return false;
        };
        self.contact.down_since_ms = None;
        self.end_outage(Outage { from_ms, to_ms: at_ms });
        true
    }

    /// An answer broke off, or a request was refused that should not have been: held against the
    /// server unless it turns out to be going away or coming back.
    pub(crate) fn handle_broken(&mut self, at_ms: u64, name: &str, detail: String) {
        self.suspect(at_ms, Rule::ResponseBroken, name, detail);
    }

    pub(super) fn suspect(&mut self, at_ms: u64, rule: Rule, name: &str, detail: String) {
        // A bound against a server that breaks everything; the rest would say the same.
        if self.contact.suspects.len() < 1_000 {
            self.contact.suspects.push(Suspect { at_ms, rule, rendition: name.to_owned(), detail });
        }
    }

    /// Judges what was held back and is old enough to be judged.
    pub(crate) fn handle_time(&mut self, at_ms: u64) {
        self.judge(at_ms, NEAR_MS);
    }

    /// The check ends: an outage that goes on ends here too.
    pub(crate) fn handle_end(&mut self, at_ms: u64) {
        if let Some(from_ms) = self.contact.down_since_ms.take() {
            self.end_outage(Outage { from_ms, to_ms: at_ms });
        }
        self.judge(at_ms, 0);
        self.judge_all_short_parts();
    }

    /// Outages that ended since the last call.
    pub(crate) fn take_outages(&mut self) -> Vec<Outage> {
        let new = self.contact.outages.get(self.contact.told..).unwrap_or(&[]).to_vec();
        self.contact.told = self.contact.outages.len();
        new
    }

    fn end_outage(&mut self, outage: Outage) {
        let length_ms = outage.to_ms - outage.from_ms;
        if length_ms > OUTAGE_MAX_MS {
            let detail = format!("connections were refused for {:.1} s", length_ms as f64 / 1e3);
            self.find(outage.to_ms, Rule::Unreachable, "", detail);
        }
        self.contact.outages.push(outage);
    }

    fn judge(&mut self, at_ms: u64, wait_ms: u64) {
        let down_since = self.contact.down_since_ms;
        let (judged, waiting): (Vec<_>, Vec<_>) = std::mem::take(&mut self.contact.suspects)
            .into_iter()
            .partition(|s| at_ms.saturating_sub(s.at_ms) >= wait_ms);
        self.contact.suspects = waiting;
        for suspect in judged {
            let near = |from: u64, to: u64| {
                suspect.at_ms + NEAR_MS >= from && suspect.at_ms <= to.saturating_add(NEAR_MS)
            };
            let excused = self.contact.outages.iter().any(|o| near(o.from_ms, o.to_ms))
                || down_since.is_some_and(|from| near(from, u64::MAX));
            if !excused {
                self.find(suspect.at_ms, suspect.rule, &suspect.rendition, suspect.detail);
            }
        }
    }
}
