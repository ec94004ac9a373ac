//! Coded frames, and where they come out of an encoder.

use std::sync::mpsc::SyncSender;

use bytes::Bytes;

use crate::worker::rung::Generation;
use crate::worker::session::Event;

/// One coded frame.
#[derive(Debug)]
pub struct Coded {
    /// The number its output was given.
    pub output: usize,
    /// Which encoder of that output it comes from; 0 for audio.
    pub generation: Generation,
    /// Session time in nanoseconds.
    pub pts_ns: u64,
    /// Whether decoding can start here.
    pub key: bool,
    /// The decoder configuration, with the first frame of an output.
    pub config: Option<Bytes>,
    /// The access unit.
    pub data: Bytes,
}

/// Where an encoder's frames come out: each is told of by `on_frame` and sent to the session.
pub(in crate::worker) fn coded_sink(
    output: usize,
    generation: Generation,
    caps: &gst::Caps,
    events: &SyncSender<Event>,
    on_frame: impl Fn() + Send + 'static,
) -> gst_app::AppSink {
    let (events, ended) = (events.clone(), events.clone());
    let mut configured = false;
    let callbacks = gst_app::AppSinkCallbacks::builder()
        .new_sample(move |sink| {
            let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
            on_frame();
            let Some(mut coded) = coded(output, generation, &sample) else {
                return Ok(gst::FlowSuccess::Ok);
            };
            if configured {
                coded.config = None;
            }
            configured |= coded.config.is_some();
            // Waits while the session is busy, which bounds everything before it.
            events.send(Event::Coded(coded)).map_err(|_| gst::FlowError::Eos)?;
            Ok(gst::FlowSuccess::Ok)
        })
        .eos(move |_| {
            // Nobody is listening when the session is already over.
            let _ = ended.send(Event::OutputEnded { output, generation });
        })
        .build();
    prompt_sink(callbacks).name(format!("out-{output}")).caps(caps).build()
}

/// A sink that hands over what comes when it comes, and keeps nothing.
pub(in crate::worker) fn prompt_sink<'a>(
    callbacks: gst_app::AppSinkCallbacks,
) -> gst_app::app_sink::AppSinkBuilder<'a> {
    gst_app::AppSink::builder()
        .sync(false)
        .async_(false)
        .enable_last_sample(false)
        .callbacks(callbacks)
}

/// Takes a coded frame out of what an encoder gave.
fn coded(output: usize, generation: Generation, sample: &gst::Sample) -> Option<Coded> {
    let buffer = sample.buffer_owned()?;
    // x264enc moves its timestamps by 1000 h and says so in the segment.
    let segment = sample.segment()?.downcast_ref::<gst::ClockTime>()?;
    let pts_ns = segment.to_running_time(buffer.pts()?)?.nseconds();
    let key = !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT);
    let config = (sample.caps()?.structure(0)?.get::<gst::Buffer>("codec_data").ok())
        .and_then(|b| Some(Bytes::copy_from_slice(&b.map_readable().ok()?)));
    let data = Bytes::from_owner(buffer.into_mapped_buffer_readable().ok()?);
    Some(Coded { output, generation, pts_ns, key, config, data })
}
