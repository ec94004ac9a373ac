//! Finding out which encoders work, with fake ones in real child processes.
//!
//! This program is both the tests and the worker that they start: as `worker ...` it registers
//! the fakes that `SHOAL_FAKE_ENCODERS` names and then does what the broadcaster's worker does,
//! with smaller pictures. `cargo test -p broadcaster --test encoders [-- NAME]`.

#![allow(missing_docs)]

#[path = "../../src/worker/encoder/fakes.rs"]
mod fakes;
#[allow(dead_code, clippy::unwrap_used, reason = "other tests use the rest of it")]
#[path = "../combinations/pictures.rs"]
mod pictures;
#[allow(dead_code, clippy::unwrap_used, reason = "other tests use the rest of it")]
#[path = "../combinations/playlists.rs"]
mod playlists;
#[allow(dead_code, clippy::unwrap_used, reason = "other tests use the rest of it")]
#[path = "../serve/rig.rs"]
mod rig;
mod running;

use std::fs;
use std::future::Future;
use std::os::unix::fs::PermissionsExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::ExitCode;
use std::time::Duration;

use broadcaster::supervise::devices::Devices;
use broadcaster::supervise::encoders::{Finder, Known, Preference, Told};
use broadcaster::worker;
use broadcaster::worker::encoder::Effort;
use broadcaster::worker::encoder::attempt::Demands;
use broadcaster::worker::encoder::choice::{ProvenEncoder, RungLoad, assign};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.first().map(String::as_str) {
        Some("worker") => return work(&args[1..]),
        // The broadcaster, whose workers are this program.
        Some("serve") => return broadcaster::cli::main(),
        _ => {}
    }
    let wanted = |name: &str| {
        let mut filters = args.iter().filter(|arg| !arg.starts_with('-')).peekable();
        filters.peek().is_none() || filters.any(|filter| name.contains(filter.as_str()))
    };
    let mut failed = false;
    for (name, test) in TESTS.iter().filter(|(name, _)| wanted(name)) {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let result = catch_unwind(AssertUnwindSafe(|| runtime.block_on(test())));
        println!("test {name} ... {}", if result.is_ok() { "ok" } else { "FAILED" });
        failed |= result.is_err();
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// The worker with its fakes.
fn work(args: &[String]) -> ExitCode {
    fakes::register_all(&std::env::var("SHOAL_FAKE_ENCODERS").unwrap_or_default());
    // Small pictures and little speed: a busy machine must not fail a test.
    let demands = Demands {
        sizes: vec![(320, 180, 400), (640, 360, 700), (160, 90, 200)],
        frames: 60,
        speed_min: 1.0,
        silence_max: Duration::from_secs(2),
    };
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--list-encoders"] => worker::run_list_encoders(),
        ["--try-encoder", element] => worker::run_try_encoder(element, &demands),
        _ => worker::run(),
    }
}

type Test = fn() -> Pin<Box<dyn Future<Output = ()>>>;

const TESTS: [(&str, Test); 13] = [
    ("each_fault_falls_to_the_next_encoder_with_its_reason", || {
        Box::pin(each_fault_falls_to_the_next_encoder_with_its_reason())
    }),
    ("one_that_refuses_large_pictures_is_used_for_small_ones", || {
        Box::pin(one_that_refuses_large_pictures_is_used_for_small_ones())
    }),
    ("rungs_beyond_the_limit_of_sessions_begin_with_the_next", || {
        Box::pin(rungs_beyond_the_limit_of_sessions_begin_with_the_next())
    }),
    ("a_verdict_holds_until_something_changes", || {
        Box::pin(a_verdict_holds_until_something_changes())
    }),
    ("without_hardware_nobody_is_asked", || Box::pin(without_hardware_nobody_is_asked())),
    ("software_follows_hardware_only_where_it_may", || {
        Box::pin(software_follows_hardware_only_where_it_may())
    }),
    ("all_encoders_are_shown_each_with_its_reason", || {
        Box::pin(all_encoders_are_shown_each_with_its_reason())
    }),
    ("x264_works_for_real", || Box::pin(x264_works_for_real())),
    ("the_only_rung_goes_on_when_its_encoder_dies", || {
        Box::pin(running::the_only_rung_goes_on_when_its_encoder_dies())
    }),
    ("one_of_several_rungs_goes_on_when_its_encoder_dies", || {
        Box::pin(running::one_of_several_rungs_goes_on_when_its_encoder_dies())
    }),
    ("all_rungs_go_on_when_their_device_dies", || {
        Box::pin(running::all_rungs_go_on_when_their_device_dies())
    }),
    ("an_encoder_that_hangs_is_replaced_within_a_second_and_costs_the_others_nothing", || {
        Box::pin(running::an_encoder_that_hangs_is_replaced_within_a_second())
    }),
    ("an_encoder_that_hangs_while_it_opens_gives_way_to_the_next", || {
        Box::pin(running::an_encoder_that_hangs_while_it_opens_gives_way_to_the_next())
    }),
];

const DEFAULT: Preference = Preference { hardware: true, fallback: true };

/// A machine with a graphics chip and fake encoders.
struct Machine {
    dir: tempfile::TempDir,
    finder: Finder,
}

impl Machine {
    fn with(fakes: &str) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let finder = Finder {
            program: dir.path().join("worker.sh"),
            data: dir.path().join("data"),
            devices: Devices::under(&dir.path().join("machine")),
            // What ends a driver that hangs when it is opened.
            patience: Duration::from_secs(5),
        };
        fs::create_dir(&finder.data).expect("made");
        let nodes = dir.path().join("machine/dev/dri");
        fs::create_dir_all(&nodes).expect("made");
        fs::write(nodes.join("renderD128"), "").expect("written");
        let machine = Self { dir, finder };
        machine.driver("i915");
        machine.fakes(fakes);
        machine
    }

    /// The program that trials run, which writes down what it was asked.
    fn fakes(&self, fakes: &str) {
        let own = std::env::current_exe().expect("our own program");
        let script = format!(
            "#!/bin/sh\necho \"$*\" >> '{}'\nSHOAL_FAKE_ENCODERS='{fakes}' exec '{}' \"$@\"\n",
            self.asked_file().display(),
            own.display(),
        );
        fs::write(&self.finder.program, script).expect("written");
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(&self.finder.program, mode).expect("made executable");
    }

    fn driver(&self, name: &str) {
        let device = self.dir.path().join("machine/sys/class/drm/renderD128/device");
        fs::create_dir_all(&device).expect("made");
        let link = device.join("driver");
        if link.is_symlink() {
            fs::remove_file(&link).expect("removed");
        }
        std::os::unix::fs::symlink(Path::new("drivers").join(name), link).expect("linked");
    }

    fn asked_file(&self) -> PathBuf {
        self.dir.path().join("asked")
    }

    /// How many trials were run since the last time this was asked.
    fn trials(&self) -> usize {
        let asked = fs::read_to_string(self.asked_file()).unwrap_or_default();
        fs::write(self.asked_file(), "").expect("written");
        asked.lines().filter(|line| line.contains("--try-encoder")).count()
    }

    fn known(&self, element: &str) -> Known {
        let known = self.finder.kept().into_iter().find(|k| k.tried.element == element);
        known.expect("it is kept")
    }
}

fn names(told: &Told) -> Vec<&str> {
    told.encoders.iter().map(|proven| proven.element.as_str()).collect()
}

async fn each_fault_falls_to_the_next_encoder_with_its_reason() {
    for (fault, reason) in [
        ("open", "no such device"),
        ("open-hangs", "no answer within 5 s"),
        ("hangs", "it hangs: nothing came out for 2000 ms after 0 frames"),
        ("crashes", "its trial failed: signal: 6"),
        ("slow", "it is too slow"),
        ("deaf", "a forced key frame did not come at its frame"),
        ("late-idr", "its first frame is no IDR"),
        ("keys", "a key frame came unasked"),
        ("reorders", "it makes B-frames"),
        ("double", "its bitrate is"),
        ("dies", "the device is gone"),
    ] {
        let machine = Machine::with(&format!("vah264enc={fault},vaapih264enc=none"));
        let told = machine.finder.for_workers(DEFAULT).await;
        assert_eq!(names(&told), ["vaapih264enc", "x264enc", "openh264enc"], "{fault}");
        let tried = machine.known("vah264enc").tried;
        assert!(!tried.ok, "{fault}");
        let said = tried.reason.expect("a reason");
        assert!(said.contains(reason), "{fault}: {said}");
        assert!(machine.known("vaapih264enc").tried.ok, "{fault}");
    }
}

async fn one_that_refuses_large_pictures_is_used_for_small_ones() {
    let machine = Machine::with("qsvh264enc=not-large");
    let told = machine.finder.for_workers(DEFAULT).await;
    let proven = &told.encoders[0];
    assert_eq!((proven.element.as_str(), proven.largest), ("qsvh264enc", Some((320, 180))));
    let reason = machine.known("qsvh264enc").tried.reason.expect("a reason");
    assert!(reason.starts_with("not for 640x360: it fails"), "{reason}");
}

async fn rungs_beyond_the_limit_of_sessions_begin_with_the_next() {
    let machine = Machine::with("qsvh264enc=two-sessions");
    let told = machine.finder.for_workers(DEFAULT).await;
    let card = ProvenEncoder { pixel_rate_max: None, ..told.encoders[0].clone() };
    assert_eq!((card.element.as_str(), card.sessions_max), ("qsvh264enc", Some(2)));
    let proven = [&[card], &told.encoders[1..]].concat();
    let rung = |height: u32| RungLoad { width: height, height, pixel_rate: u64::from(height) };
    let lists = assign(&proven, &[rung(90), rung(720), rung(360)], Effort::Superfast);
    let first: Vec<_> = lists.iter().map(|list| list[0].encoder.element).collect();
    assert_eq!(first, ["x264enc", "qsvh264enc", "qsvh264enc"]);
}

async fn a_verdict_holds_until_something_changes() {
    let machine = Machine::with("vah264enc=open,vaapih264enc=none");
    let first = machine.finder.for_workers(DEFAULT).await;
    assert_eq!(machine.trials(), 2);
    assert_eq!(machine.finder.for_workers(DEFAULT).await, first);
    assert_eq!(machine.trials(), 0, "both verdicts hold, the bad one too");
    machine.driver("xe");
    machine.fakes("vah264enc=none,vaapih264enc=none");
    let after = machine.finder.for_workers(DEFAULT).await;
    assert_eq!(machine.trials(), 2, "the driver is another one");
    assert_eq!(names(&after)[..2], ["vah264enc", "vaapih264enc"]);
    fs::write(machine.finder.data.join("encoders.json"), "[{").expect("written");
    machine.finder.for_workers(DEFAULT).await;
    assert_eq!(machine.trials(), 2, "what cannot be read is found out again");
}

async fn without_hardware_nobody_is_asked() {
    let machine = Machine::with("vah264enc=none");
    let bare = Finder { devices: Devices::under(Path::new("/nowhere")), ..machine.finder.clone() };
    assert_eq!(bare.for_workers(DEFAULT).await, Told::default());
    let unwanted = Preference { hardware: false, fallback: false };
    assert_eq!(machine.finder.for_workers(unwanted).await, Told::default());
    assert!(!machine.asked_file().exists(), "no child was started");
}

async fn software_follows_hardware_only_where_it_may() {
    let strict = Preference { hardware: true, fallback: false };
    let good = Machine::with("vah264enc=none");
    let told = good.finder.for_workers(strict).await;
    assert_eq!((names(&told), told.refused.is_some()), (vec!["vah264enc"], false));
    let bad = Machine::with("vah264enc=open");
    let told = bad.finder.for_workers(strict).await;
    let refused = told.refused.as_deref().expect("there is nothing to encode with");
    assert!(refused.contains("HARDWARE_ENCODER_FALLBACK=true"), "{refused}");
    assert!(told.encoders.is_empty());
    assert_eq!(bad.finder.for_workers(DEFAULT).await, Told::default(), "software as installed");
}

async fn all_encoders_are_shown_each_with_its_reason() {
    let machine = Machine::with("vah264enc=deaf");
    let all = machine.finder.all(false).await.expect("a list");
    let of = |element: &str| {
        let known = all.iter().find(|k| k.tried.element == element).expect("it is listed");
        (known.tried.ok, known.tried.reason.clone().unwrap_or_default())
    };
    let (ok, reason) = of("vah264enc");
    assert!(!ok && reason.contains("forced key frame"), "{reason}");
    let (ok, reason) = of("nvh264enc");
    assert!(!ok && reason.contains("not installed"), "{reason}");
    assert_eq!(of("x264enc"), (true, String::new()));
    machine.trials();
    machine.finder.all(true).await.expect("a list");
    assert_eq!(machine.trials(), 3, "again means all that are installed");
}

async fn x264_works_for_real() {
    let machine = Machine::with("");
    let program = PathBuf::from(env!("CARGO_BIN_EXE_broadcaster"));
    let finder = Finder { program, ..machine.finder.clone() };
    let all = finder.all(false).await.expect("a list");
    let x264 = all.iter().find(|k| k.tried.element == "x264enc").expect("it is listed");
    assert!(x264.tried.ok, "{x264:?}");
    let hd = &x264.tried.sizes[0];
    assert_eq!((hd.width, hd.height, hd.reason.as_deref()), (1280, 720, None));
}
