import { describe, expect, it } from 'vitest';
import { parseInfo } from './info';

describe('parseInfo', () => {
  it('reads what the broadcaster writes', () => {
    const info = parseInfo({
      stream: 'demo',
      title: 'Demo',
      state: 'live',
      broadcast: 4,
      session: 9,
      renditions: [
        {
          id: '720p',
          kind: 'video',
          codec: 'avc1',
          width: 1280,
          height: 720,
          fps: 30,
          bitrate: 2_500_000,
          label: 'Medium',
        },
        {
          id: 'audio',
          kind: 'audio',
          codec: 'mp4a.40.2',
          width: 0,
          height: 0,
          fps: 0,
          bitrate: 128_000,
          label: '',
        },
      ],
      latency_target_ms: 1_650,
      started_at: '2030-01-01T00:00:00Z',
    });
    expect(info?.session).toBe(9);
    expect(info?.renditions.map(({ id, kind }) => [id, kind])).toEqual([
      ['720p', 'video'],
      ['audio', 'audio'],
    ]);
  });

  it('takes nothing for a stream that is not one', () => {
    for (const value of [null, 7, 'live', [], {}, { state: 'dancing' }, { error: { code: 'X' } }]) {
      expect(parseInfo(value)).toBeNull();
    }
  });

  it('survives fields of the wrong type', () => {
    const info = parseInfo({
      state: 'live',
      title: 5,
      renditions: [null, { id: 3 }, { id: '480p', width: 'x' }],
    });
    expect(info?.title).toBe('');
    expect(info?.renditions).toHaveLength(1);
    expect(info?.renditions[0]?.width).toBe(0);
  });
});
