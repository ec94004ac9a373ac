//! `broadcaster encoders`: which video encoders work on this machine, why others do not, and
//! which would make which size.

use clap::Args;
use common::rendition::PRESETS;
use serde::Serialize;

use crate::config::{Config, Settings};
use crate::say;
use crate::supervise::encoders::{self, Known, Preference, Told};
use crate::worker::encoder::choice::{Candidate, ProvenEncoder, RungLoad, assign};
use crate::worker::encoder::{Effort, Family, video_named};

/// What `encoders` is told.
#[derive(Clone, Debug, Args)]
pub struct EncodersArgs {
    #[command(flatten)]
    pub(crate) settings: Settings,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Try them all again, whatever is known
    #[arg(long)]
    again: bool,
}

/// What is printed as JSON.
#[derive(Debug, Serialize)]
struct Shown<'a> {
    encoders: &'a [Known],
    refused: Option<&'a str>,
    sizes: Vec<SizeUse>,
}

/// The encoders that one size tries, best first.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct SizeUse {
    rendition: &'static str,
    tries: Vec<String>,
}

/// Tries what is not known yet and prints the table.
///
/// # Errors
/// When GStreamer cannot say which encoders are installed.
pub async fn show(args: &EncodersArgs, config: &Config) -> anyhow::Result<()> {
    let finder = encoders::finder(std::env::current_exe()?, config);
    let known = finder.all(args.again).await?;
    let told = encoders::tell(&known, config.encoders);
    let sizes = sizes(&known, &told);
    let text = if args.json {
        let shown = Shown { encoders: &known, refused: told.refused.as_deref(), sizes };
        serde_json::to_string_pretty(&shown)? + "\n"
    } else {
        page(&known, &told, config.encoders, &sizes)
    };
    if !say::text(format_args!("{text}")) {
        anyhow::bail!("what was found is kept; run this again");
    }
    Ok(())
}

/// What each size tries when it is encoded alone.
fn sizes(known: &[Known], told: &Told) -> Vec<SizeUse> {
    if told.refused.is_some() {
        return Vec::new();
    }
    let mut proven = told.encoders.clone();
    if proven.is_empty() {
        let works = known.iter().filter(|k| k.tried.ok && is_software(k));
        proven.extend(works.map(|k| ProvenEncoder::unlimited(&k.tried.element)));
    }
    let load = |preset: &common::rendition::Preset| RungLoad {
        width: preset.width,
        height: preset.height,
        pixel_rate: u64::from(preset.width) * u64::from(preset.height) * u64::from(preset.fps),
    };
    let alone = |preset| assign(&proven, &[load(preset)], Effort::default()).remove(0);
    let uses = PRESETS.iter().map(|preset| SizeUse {
        rendition: preset.id,
        tries: alone(preset).iter().map(name).collect(),
    });
    uses.collect()
}

fn name(candidate: &Candidate) -> String {
    match candidate.effort {
        Effort::Superfast => candidate.encoder.element.to_owned(),
        Effort::Ultrafast => format!("{} (ultrafast)", candidate.encoder.element),
    }
}

fn is_software(known: &Known) -> bool {
    video_named(&known.tried.element).is_some_and(|e| e.family == Family::Software)
}

fn page(known: &[Known], told: &Told, preference: Preference, sizes: &[SizeUse]) -> String {
    let head = ["element", "kind", "result", "speed", "at once", "device", "driver", "reason"];
    let mut rows = vec![head.map(str::to_owned)];
    rows.extend(known.iter().map(row));
    let mut page = table(&rows);
    page.push('\n');
    if !preference.hardware {
        page.push_str("Hardware is not used: PREFER_HARDWARE_ENCODING is false.\n");
    }
    if let Some(refused) = &told.refused {
        page.push_str(&format!("Streams that need encoding are refused: {refused}.\n"));
    }
    if sizes.iter().all(|size| size.tries.is_empty()) && told.refused.is_none() {
        page.push_str("Nothing can encode here: install gstreamer1.0-plugins-ugly.\n");
        return page;
    }
    for group in sizes.chunk_by(|a, b| a.tries == b.tries) {
        let names: Vec<_> = group.iter().map(|size| size.rendition).collect();
        page.push_str(&format!("{}: {}\n", names.join(", "), group[0].tries.join(", then ")));
    }
    page
}

fn row(known: &Known) -> [String; 8] {
    let tried = &known.tried;
    let result = match (tried.ok, &known.plugin_version) {
        (true, _) => "works",
        (false, Some(_)) => "fails",
        (false, None) => "absent",
    };
    let or_dash = |text: Option<String>| text.filter(|t| !t.is_empty()).unwrap_or("-".into());
    let at_once = match (tried.ok && !is_software(known), tried.sessions_max) {
        (true, Some(sessions)) => Some(sessions.to_string()),
        (true, None) => Some("8 or more".to_owned()),
        (false, _) => None,
    };
    [
        tried.element.clone(),
        if is_software(known) { "software" } else { "hardware" }.to_owned(),
        result.to_owned(),
        or_dash(tried.speed.map(|speed| format!("{speed:.1}x"))),
        or_dash(at_once),
        or_dash(Some(known.device.device.clone())),
        or_dash(Some(known.device.driver.clone())),
        or_dash(tried.reason.clone()),
    ]
}

fn table(rows: &[[String; 8]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<_> = (0..8).map(|column| width(column).unwrap_or(0)).collect();
    let line = |row: &[String; 8]| {
        let cells: Vec<_> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        cells.join("  ").trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supervise::devices::Device;
    use crate::worker::encoder::verdict::{SizeTried, Tried, conclude, untried};

    const DEFAULT: Preference = Preference { hardware: true, fallback: true };

    fn known(tried: Tried) -> Known {
        let device = Device { device: "0x8086:0x46a6".into(), driver: "i915 6.1".into() };
        Known { version: String::new(), plugin_version: Some("1.22".into()), device, tried }
    }

    fn works(element: &str, speed: f64) -> Known {
        let size = |width, height| SizeTried {
            width,
            height,
            reason: None,
            hangs: false,
            speed: Some(speed),
            bitrate_ratio: Some(1.0),
        };
        known(conclude(element, vec![size(1280, 720), size(1920, 1080)], Some(3)))
    }

    #[test]
    fn the_table_says_what_works_why_others_do_not_and_what_is_used_for_which_size() {
        let known = [
            known(untried("nvh264enc", "at 1280x720: it hangs")),
            works("vah264enc", 1.5),
            works("x264enc", 1.0),
        ];
        let told = encoders::tell(&known, DEFAULT);
        let page = page(&known, &told, DEFAULT, &sizes(&known, &told));
        let line = |start: &str| page.lines().find(|l| l.starts_with(start)).expect(start);
        assert!(line("nvh264enc").contains("fails") && line("nvh264enc").ends_with("it hangs"));
        let words: Vec<_> = line("vah264enc").split_whitespace().collect();
        assert_eq!(words[1..5], ["hardware", "works", "1.5x", "3"]);
        assert!(line("x264enc").contains("software"));
        assert!(
            page.contains("1080p: vah264enc, then x264enc, then x264enc (ultrafast)"),
            "{page}"
        );
        assert!(page.contains("\n1080p60, 1440p60, 2160p60: x264enc, then"), "too much: {page}");
    }

    #[test]
    fn a_refusal_is_said_in_place_of_sizes() {
        let known = [known(untried("vah264enc", "why")), works("x264enc", 1.0)];
        let strict = Preference { hardware: true, fallback: false };
        let told = encoders::tell(&known, strict);
        let page = page(&known, &told, strict, &sizes(&known, &told));
        assert!(page.contains("are refused: no hardware encoder works here"), "{page}");
        assert!(!page.contains("720p:"), "{page}");
    }

    #[test]
    fn software_is_used_where_hardware_is_not_wanted() {
        let known = [works("vah264enc", 9.0), works("x264enc", 1.0)];
        let software = Preference { hardware: false, fallback: true };
        let told = encoders::tell(&known, software);
        for size in sizes(&known, &told) {
            assert_eq!(size.tries, ["x264enc", "x264enc (ultrafast)"]);
        }
    }
}
