//! The branch that encodes audio, once for each tier.

use bytes::Bytes;
use gst::prelude::*;

use super::parts::{Building, bug, link};
use super::{AudioFeed, Feed, Graph, coded_sink, other};
use crate::worker::aac::AudioInfo;
use crate::worker::encoder;
use crate::worker::ipc::Failed;

/// Audio buffers waiting for the encoder: a second of AAC frames. Audio is cheap and is never
/// what is behind.
const AUDIO_FRAMES_MAX: u64 = 64;

impl Building {
    pub(super) fn audio(&mut self, graph: &Graph<'_>, feed: &AudioFeed) -> Result<Feed, Failed> {
        let (caps, compressed) = match feed {
            AudioFeed::Raw(caps) => (caps.clone(), false),
            AudioFeed::Aac { asc, info } => (aac_caps(asc, info), true),
        };
        let source = self.source("audio-in", &caps)?;
        let mut chain: Vec<gst::Element> = vec![source.clone().upcast()];
        if compressed {
            chain.push(self.add("avdec_aac", "gstreamer1.0-libav")?);
        }
        chain.push(self.add("tee", "libgstreamer1.0-0")?);
        link(&chain.iter().collect::<Vec<_>>())?;
        let Some(tee) = chain.pop() else { return Err(other("no tee".to_owned())) };
        for (output, tier) in &graph.tiers {
            let (encoder, name) = encoder::make_audio(tier.kbps)?;
            self.pipeline.add(&encoder).map_err(bug)?;
            let rate = gst::Caps::builder("audio/x-raw")
                .field("rate", tier.sample_rate as i32)
                .field("channels", tier.channels as i32)
                .build();
            let aac = gst::Caps::builder("audio/mpeg")
                .field("mpegversion", 4i32)
                .field("stream-format", "raw")
                .build();
            let queue = self.queue(AUDIO_FRAMES_MAX as u32)?;
            let convert = self.add("audioconvert", "gstreamer1.0-plugins-base")?;
            let resample = self.add("audioresample", "gstreamer1.0-plugins-base")?;
            let (filter, sink) = (self.filter(&rate)?, self.sink(*output, &aac)?);
            link(&[&tee, &queue, &convert, &resample, &filter, &encoder, &sink])?;
            self.encoders.push((*output, name));
        }
        Ok(Feed { source, frames_max: AUDIO_FRAMES_MAX })
    }

    fn sink(&self, output: usize, caps: &gst::Caps) -> Result<gst::Element, Failed> {
        let sink = coded_sink(output, 0, caps, &self.events, || {});
        self.pipeline.add(&sink).map_err(bug)?;
        Ok(sink.upcast())
    }
}

fn aac_caps(asc: &Bytes, info: &AudioInfo) -> gst::Caps {
    gst::Caps::builder("audio/mpeg")
        .field("mpegversion", 4i32)
        .field("stream-format", "raw")
        .field("framed", true)
        .field("rate", info.sample_rate as i32)
        .field("channels", info.channels as i32)
        .field("codec_data", gst::Buffer::from_slice(asc.clone()))
        .build()
}
