//! How a session begins: its source is opened, its renditions are planned, its graph is started.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use common::rendition::{AudioTier, Kind, SOURCE_ID};

use super::{Session, init_gstreamer, input, lock, spawn};
use crate::worker::cut::SourceCuts;
use crate::worker::encoder::VideoEncoder;
use crate::worker::encoder::choice::{self, Candidate};
use crate::worker::ipc::{Failed, MadeRendition, Order, PASSTHROUGH, Source};
use crate::worker::ladder::{self, Picture, Plan};
use crate::worker::pipeline::{AudioFeed, Graph, Running, VideoFeed, other};
use crate::worker::rendition::Rendition;
use crate::worker::source_push::{self, Intake};
use crate::worker::{rungs, source_file, source_test, trial};

impl Session {
    pub(super) fn begin(&mut self) -> Result<(), Failed> {
        match self.start.source.clone() {
            Source::Test { width, height, fps } => self.begin_test(width, height, fps),
            Source::File { path, repeat } => {
                init_gstreamer()?;
                let passthrough = ladder::wants_source(&self.start.ladder);
                source_file::open(path, repeat, passthrough, &self.pulse, &self.sender, &self.stop)
            }
            Source::Push => {
                self.intake = Some(Intake::default());
                Ok(())
            }
        }
    }

    fn begin_test(&mut self, width: u32, height: u32, fps: (u32, u32)) -> Result<(), Failed> {
        init_gstreamer()?;
        if !(64..=7680).contains(&width)
            || !(64..=7680).contains(&height)
            || fps.0 == 0
            || fps.1 == 0
        {
            return Err(input(
                "the test source needs 64 to 7680 pixels a side and a frame rate".into(),
            ));
        }
        let source = source_test::TestSource { width: width & !1, height: height & !1, fps };
        let picture = Picture {
            width: source.width,
            height: source.height,
            pixel_aspect: (1, 1),
            fps: Some(fps),
            passable: false,
        };
        let video = VideoFeed::Raw(source_test::video_caps(source.width, source.height, fps));
        let audio = AudioFeed::Raw(source_test::audio_caps());
        self.build(Some((picture, video)), Some((audio, None)))?;
        let graph = self.graph.as_ref();
        let (Some(video), audio) =
            (graph.and_then(|g| g.video.clone()), graph.and_then(|g| g.audio.clone()))
        else {
            return Err(other("the test source has nowhere to go".into()));
        };
        let (pulse, events, stop) =
            (Arc::clone(&self.pulse), self.sender.clone(), Arc::clone(&self.stop));
        spawn("test-source", move || {
            source_test::run(source, &video, audio.as_ref(), &pulse, &events, &stop);
        })
    }

    /// Plans the renditions of a source whose tracks are known, and starts the graph. Audio comes
    /// with its configuration when it is AAC.
    pub(super) fn build(
        &mut self,
        video: Option<(Picture, VideoFeed)>,
        audio: Option<(AudioFeed, Option<Bytes>)>,
    ) -> Result<(), Failed> {
        self.has_video = video.is_some();
        let plan = match &video {
            Some((picture, _)) => self.plan(*picture)?,
            None => Plan::default(),
        };
        let mut made = Vec::new();
        if let (true, Some((picture, _))) = (plan.source, &video) {
            self.pass.video =
                Some((0, SourceCuts::new(self.start.segment_us, self.start.keyframe_max_us)));
            self.source_index = Some(0);
            lock(&self.timeline).cut_by_marks();
            made.push(source_rendition(*picture)?);
        }
        let first_rung = made.len();
        made.extend(plan.rungs.iter().map(|r| MadeRendition {
            id: r.rung.id.clone(),
            kind: Kind::Video,
            codec: String::new(),
            width: r.width,
            height: r.height,
            fps: r.fps.unwrap_or((0, 1)),
            sample_rate: 0,
            channels: 0,
            bitrate: r.rung.video_kbps * 1000,
            encoder: String::new(),
            init: Bytes::new(),
        }));
        let first_tier = made.len();
        let tiers = if audio.is_some() { self.start.audio.clone() } else { Vec::new() };
        let tiers = if plan.passes_only() { tiers.into_iter().take(1).collect() } else { tiers };
        let config = audio.as_ref().and_then(|(_, config)| config.clone());
        for (i, tier) in tiers.iter().enumerate() {
            made.push(audio_rendition(tier));
            let passes = self.pass.audio.is_none()
                && config
                    .as_deref()
                    .is_some_and(|c| source_push::aac_fits(c, tier, plan.passes_only()));
            if passes {
                self.pass.audio = Some(first_tier + i);
            }
        }
        let rungs: Vec<_> =
            plan.rungs.iter().enumerate().map(|(i, r)| (first_rung + i, r)).collect();
        let candidates = self.candidates(&plan)?;
        let encoded = tiers.iter().enumerate().map(|(i, t)| (first_tier + i, t));
        let mut graph = Graph {
            rungs,
            marks: self.start.marks,
            video: video.map(|(_, feed)| feed),
            tiers: encoded.filter(|(i, _)| self.pass.audio != Some(*i)).collect(),
            audio: audio.map(|(feed, _)| feed),
        };
        let only_stills = if graph.rungs.is_empty() { graph.video.take() } else { None };
        if !graph.rungs.is_empty() || !graph.tiers.is_empty() {
            init_gstreamer()?;
            let running = Running::start(&graph, &self.timeline, &self.sender)?;
            let outlets = running.outlets.iter().zip(&plan.rungs);
            let rungs = outlets.map(|((i, outlet), r)| (*i, r.clone(), Arc::clone(outlet)));
            self.rungs.plan(rungs, candidates);
            self.graph = Some(running);
        }
        if let Some(video) = only_stills {
            self.start_stills(video);
        }
        let orders = self.start.orders.clone();
        self.rungs.handle_orders(&orders);
        let off = |o: &&Order| !o.on && o.rendition.as_str() == SOURCE_ID;
        if self.source_index.is_some() && orders.iter().any(|o| off(&o)) {
            (self.pass.ordered_off, self.pass.is_off) = (true, true);
        }
        self.rungs.start();
        for (output, encoder) in self.graph.iter().flat_map(|g| &g.encoders) {
            made[*output].encoder = (*encoder).to_owned();
        }
        for (i, made) in made.iter_mut().enumerate() {
            if let Some(encoder) = self.rungs.element(i) {
                made.encoder = encoder.to_owned();
            }
        }
        for made in &mut made {
            if made.encoder.is_empty() {
                made.encoder = PASSTHROUGH.to_owned();
            }
        }
        self.renditions =
            made.into_iter().map(|made| Rendition::new(made, self.start.part_us)).collect();
        if let (Some(i), Some(config)) = (self.pass.audio, config) {
            self.configure(i, &config)?;
        }
        self.notes.extend(plan.notes);
        self.began = Instant::now();
        Ok(())
    }

    /// For each rung of a plan, what can encode it.
    fn candidates(&self, plan: &Plan) -> Result<Vec<Vec<Candidate>>, Failed> {
        if plan.rungs.is_empty() {
            return Ok(Vec::new());
        }
        init_gstreamer()?;
        let refused = self.start.encoding_refused.as_deref();
        let proven = choice::usable(&self.start.encoders, refused, VideoEncoder::is_installed)?;
        let loads: Vec<_> = plan.rungs.iter().map(rungs::load).collect();
        choice::assign_all(&proven, &loads, plan.effort)
    }

    fn plan(&mut self, picture: Picture) -> Result<Plan, Failed> {
        if ladder::wants_trial(&self.start.ladder) && self.start.trial.is_none() {
            self.start.trial = Some(trial::run()?);
        }
        ladder::plan(&self.start.ladder, picture, self.start.trial.as_ref())
            .map_err(|error| input(error.to_string()))
    }
}

fn source_rendition(picture: Picture) -> Result<MadeRendition, Failed> {
    Ok(MadeRendition {
        id: SOURCE_ID.parse().map_err(|_| other("'source' is no id".into()))?,
        kind: Kind::Video,
        codec: String::new(),
        width: picture.width,
        height: picture.height,
        fps: picture.fps.unwrap_or((0, 1)),
        sample_rate: 0,
        channels: 0,
        bitrate: 0,
        encoder: String::new(),
        init: Bytes::new(),
    })
}

fn audio_rendition(tier: &AudioTier) -> MadeRendition {
    MadeRendition {
        id: tier.id.clone(),
        kind: Kind::Audio,
        codec: String::new(),
        width: 0,
        height: 0,
        fps: (0, 1),
        sample_rate: tier.sample_rate,
        channels: tier.channels,
        bitrate: tier.kbps * 1000,
        encoder: String::new(),
        init: Bytes::new(),
    }
}
