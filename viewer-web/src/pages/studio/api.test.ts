import { describe, expect, it } from 'vitest';
import { parseStream } from './api';

describe('parseStream', () => {
  it('reads a live stream', () => {
    const stream = parseStream({
      name: 'show',
      state: 'live',
      source: 'rtmp',
      viewers: 2,
      ingest: {
        bitrate_bps: 6e6,
        keyframe_interval_s: 2,
        b_frames: false,
        frames_dropped: 0,
        codec: 'avc1',
        width: 1920,
        height: 1080,
        fps: 30,
      },
      renditions: [
        {
          id: 'source',
          kind: 'video',
          width: 1920,
          height: 1080,
          bitrate: 6e6,
          codec: 'avc1',
          state: 'live',
          msn: 7,
        },
      ],
      notes: ['one', { message: 'two' }, 3],
      reason: { code: 'STARTED', message: 'started' },
    });
    expect(stream.ingest?.keyframeIntervalS).toBe(2);
    expect(stream.renditions[0]?.id).toBe('source');
    expect(stream.notes).toEqual(['one', 'two']);
  });

  it('makes nothing up for a stream without an encoder', () => {
    const stream = parseStream({ name: 'show', state: 'waiting', ingest: null });
    expect(stream.ingest).toBeNull();
    expect(stream.renditions).toEqual([]);
    expect(stream.startedAt).toBeNull();
  });
});
