//! Ways to change the right story.

use super::Tamper;
use crate::check::parse::MediaPlaylist;
use crate::check::rules::Engine;
use crate::check::testing::{Story, Told};

pub(super) fn text(change: impl FnMut(usize, &str, String) -> String + 'static) -> Tamper {
    Tamper { playlist: Box::new(change), ..Tamper::default() }
}

pub(super) fn told(script: impl FnMut(&mut Story, usize) + 'static) -> Tamper {
    Tamper { script: Box::new(script), ..Tamper::default() }
}

pub(super) fn always(from: &'static str, to: &'static str) -> Tamper {
    text(move |_, _, t| t.replace(from, to))
}

/// From a step on, in one rendition or (with an empty name) all.
pub(super) fn from(
    first: usize,
    whose: &'static str,
    from: &'static str,
    to: &'static str,
) -> Tamper {
    text(move |step, name, t| {
        let chosen = step >= first && (whose.is_empty() || whose == name);
        if chosen { t.replace(from, to) } else { t }
    })
}

/// Changes single lines; an empty one is left out.
pub(super) fn lines(change: impl Fn(usize, &str, &str) -> Option<String> + 'static) -> Tamper {
    text(move |step, name, t| {
        t.lines()
            .map(|l| change(step, name, l).unwrap_or_else(|| l.to_owned()))
            .filter(|l| !l.is_empty())
            .map(|l| l + "\n")
            .collect()
    })
}

pub(super) fn bytes(
    change: impl FnMut(&str, &Told, Option<usize>, Vec<u8>) -> Vec<u8> + 'static,
) -> Tamper {
    Tamper { bytes: Box::new(change), ..Tamper::default() }
}

pub(super) fn segment_480(change: impl Fn(&Told, Vec<u8>) -> Vec<u8> + 'static) -> Tamper {
    bytes(
        move |name, told, _, right| {
            if name == "480p" && told.msn == 110 { change(told, right) } else { right }
        },
    )
}

pub(super) fn part_720(index: usize, change: impl Fn(&Told) -> Vec<u8> + 'static) -> Tamper {
    bytes(move |name, told, part, right| {
        let chosen = name == "720p" && told.msn == 110 && part == Some(index);
        if chosen { change(told) } else { right }
    })
}

pub(super) fn after(step: usize, what: impl Fn(&mut Engine, u64) + 'static) -> Tamper {
    Tamper {
        after: Box::new(move |engine, now, at_ms| {
            if now == step {
                what(engine, at_ms);
            }
        }),
        ..Tamper::default()
    }
}

/// At step 48 hands over the playlist of 720p as it stands.
pub(super) fn playlist_at_48(what: impl Fn(&mut Engine, u64, &str) + 'static) -> Tamper {
    at_48(|story| story.playlist("720p", false), what)
}

/// At step 48, when there is something to skip, hands in a delta update that was changed.
pub(super) fn delta_at_48(change: impl Fn(String) -> String + 'static) -> Tamper {
    at_48(
        move |story| change(story.playlist("720p", true)),
        |engine, at_ms, text| {
            let base: MediaPlaylist = engine.playlist("720p").cloned().expect("a playlist");
            engine.handle_delta(at_ms, "720p", &base, text);
        },
    )
}

fn at_48(
    render: impl Fn(&Story) -> String + 'static,
    what: impl Fn(&mut Engine, u64, &str) + 'static,
) -> Tamper {
    // The script runs before the step, so it renders what the step will lead to.
    let text = std::rc::Rc::new(std::cell::RefCell::new(String::new()));
    let kept = text.clone();
    Tamper {
        script: Box::new(move |story, step| {
            if step == 48 {
                let mut next = story.clone();
                next.step();
                *kept.borrow_mut() = render(&next);
            }
        }),
        after: Box::new(move |engine, step, at_ms| {
            if step == 48 {
                what(engine, at_ms, &text.borrow());
            }
        }),
        ..Tamper::default()
    }
}

/// 720p's report of 480p is off by so many segments, from step 30 on.
pub(super) fn reports(by: i64) -> Tamper {
    Tamper {
        until: 80,
        ..lines(move |step, name, line| {
            let chosen = step >= 30
                && name == "720p"
                && line.starts_with("#EXT-X-RENDITION-REPORT")
                && line.contains("480p");
            if !chosen {
                return None;
            }
            let (head, tail) = line.split_once("LAST-MSN=")?;
            let (number, part) = tail.split_once(',')?;
            let number: i64 = number.parse().expect("a number");
            Some(format!("{head}LAST-MSN={},{part}", number + by))
        })
    }
}

/// Changes or removes the date line of a segment.
pub(super) fn edit_before_segment(
    text: &str,
    msn: u64,
    change: impl Fn(&str) -> Option<String>,
) -> String {
    let needle = format!("/{msn}.");
    let lines: Vec<&str> = text.lines().collect();
    let first = lines.iter().position(|l| l.contains(&needle) && !l.starts_with("#EXT-X-PRELOAD"));
    let date = first
        .and_then(|f| lines[..f].iter().rposition(|l| l.starts_with("#EXT-X-PROGRAM-DATE-TIME")));
    lines
        .iter()
        .enumerate()
        .filter_map(|(i, l)| if Some(i) == date { change(l) } else { Some((*l).to_owned()) })
        .map(|l| l + "\n")
        .collect()
}

/// Drops the parts of complete segments.
pub(super) fn only_open_parts(text: &str) -> String {
    let last_whole = text.lines().collect::<Vec<_>>();
    let end = last_whole.iter().rposition(|l| l.starts_with("#EXTINF")).unwrap_or(0);
    last_whole
        .iter()
        .enumerate()
        .filter(|(i, l)| *i > end || !l.starts_with("#EXT-X-PART:"))
        .map(|(_, l)| format!("{l}\n"))
        .collect()
}

/// Drops what is listed of the segment in progress and hints at its first part.
pub(super) fn without_open_segment(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let Some(end) = lines.iter().rposition(|l| l.ends_with(".m4s") && !l.starts_with('#')) else {
        return text.to_owned();
    };
    let file = lines[end];
    let (folder, number) = file.rsplit_once('/').expect("a path");
    let number: u64 = number.trim_end_matches(".m4s").parse().expect("a number");
    let hint = format!("#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"{folder}/{}.0.m4s\"", number + 1);
    lines[..=end]
        .iter()
        .copied()
        .chain([hint.as_str()])
        .chain(lines.iter().copied().filter(|l| l.starts_with("#EXT-X-RENDITION-REPORT")))
        .map(|l| format!("{l}\n"))
        .collect()
}
