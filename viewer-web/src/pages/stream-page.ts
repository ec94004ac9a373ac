/** What the watch page and the embedded player share: the stream of the address, the player, its window. */
import { createPlayer, type Player } from '../controls/player';
import { streamOf } from '../player/path';
import type { ViewerStats } from '../player/stats';

declare global {
  interface Window {
    /** For tests, scripts and curious viewers. */
    shoal?: { stats(): ViewerStats };
  }
}

/** A stream's player, sized by its container. Reads `?quality=` and `?p2p=`. */
export function openStream(): { stream: string | null; player: Player } {
  const stream = streamOf(location.pathname);
  const query = new URLSearchParams(location.search);
  const base = `/live/${stream ?? 'unknown'}`;
  const player = createPlayer({
    stream,
    src: `${base}/master.m3u8`,
    poster: `${base}/thumb.jpg`,
    quality: query.get('quality'),
    muted: query.has('muted'),
    // Counted from the navigation: what the viewer waited, not what this script did.
    startedAtMs: 0,
  });
  window.shoal = { stats: () => player.viewer.stats() };
  return { stream, player };
}
