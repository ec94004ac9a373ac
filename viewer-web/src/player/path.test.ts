import { describe, expect, it } from 'vitest';
import { renditionOf, renditionsIn, sessionOf, streamOf } from './path';

describe('addresses', () => {
  it('name the rendition of a playlist, with or without a query', () => {
    expect(renditionOf('http://host/live/demo/720p/media.m3u8')).toBe('720p');
    expect(renditionOf('/live/demo/low-500/media.m3u8?_HLS_msn=3')).toBe('low-500');
    expect(renditionOf('http://host/')).toBeNull();
  });

  it('name the renditions that a multivariant playlist lists', () => {
    const master = [
      '#EXTM3U',
      '#EXT-X-MEDIA:TYPE=AUDIO,URI="audio/media.m3u8"',
      '#EXT-X-STREAM-INF:BANDWIDTH=1',
      '720p/media.m3u8',
      '',
      '#EXT-X-STREAM-INF:BANDWIDTH=1',
      'https://host/live/demo/360p/media.m3u8\r',
    ].join('\n');
    expect(renditionsIn(master, '/live/demo/master.m3u8?x=1')).toEqual(['720p', '360p']);
  });

  it('name the session of media', () => {
    expect(sessionOf('http://host/live/demo/12/720p/77.3.m4s')).toBe(12);
    expect(sessionOf('/live/demo/3/audio/init-1.mp4')).toBe(3);
    expect(sessionOf('http://host/video/segment.m4s')).toBeNull();
  });

  it('name the stream of a page, and none that could not exist', () => {
    expect(streamOf('/watch/demo')).toBe('demo');
    expect(streamOf('/embed/my-show/')).toBe('my-show');
    expect(streamOf('/watch/')).toBeNull();
    expect(streamOf('/watch/Big%20Show')).toBeNull();
    expect(streamOf('/watch/../secret')).toBeNull();
  });
});
