import { describe, expect, it } from 'vitest';
import { parseInfo, type StreamInfo } from './info';
import { allQualities, isOutdated } from './qualities';
import type { Quality } from './source';

const quality = (height: number, paused = false): Quality => ({
  ...{ id: `${height}p`, width: (height * 16) / 9, height, fps: 30, bitrate: height * 1000 },
  paused,
});

function infoWith(...heights: number[]): StreamInfo {
  const video = heights.map((height) => ({ ...quality(height), kind: 'video' }));
  const info = parseInfo({ state: 'live', renditions: [...video, { id: 'audio', kind: 'audio' }] });
  if (!info) throw new Error('it parses');
  return info;
}

const ids = (qualities: readonly Quality[]): string[] =>
  qualities.map(({ id, paused }) => (paused ? `${id} paused` : id));

describe('what there is to choose from', () => {
  it('is nothing before the playlist was read', () => {
    expect(allQualities([], infoWith(720), null)).toEqual([]);
  });

  it('holds what appeared after the playlist was read', () => {
    expect(ids(allQualities([quality(360)], infoWith(720, 360), null))).toEqual(['720p', '360p']);
  });

  it('holds a picked quality that is not there yet, as paused, and no nonsense', () => {
    const listed = [quality(360, true), quality(240)];
    expect(ids(allQualities(listed, infoWith(240), '480p'))).toEqual([
      '480p paused',
      '360p paused',
      '240p',
    ]);
    expect(ids(allQualities(listed, null, 'nonsense'))).toEqual(['360p paused', '240p']);
  });
});

describe('the source is opened afresh', () => {
  it('when a new session makes something else, but not for what is only paused', () => {
    const before = infoWith(720, 360);
    expect(isOutdated([quality(720), quality(360)], infoWith(360), before)).toBe(true);
    expect(isOutdated([quality(720, true), quality(360)], infoWith(360), infoWith(360))).toBe(
      false,
    );
    expect(isOutdated([quality(360)], infoWith(720, 360), before)).toBe(true);
    expect(isOutdated([quality(360)], infoWith(360), infoWith(360))).toBe(false);
    expect(isOutdated([], infoWith(360), null)).toBe(false);
  });
});
