/** What a viewer can pick, put together from the playlist and from `info.json`. Pure. */
import type { StreamInfo } from './info';
import type { Quality } from './source';

/** The video renditions that are made now; none while nothing is known. */
export function videoIds(info: StreamInfo | null): string[] {
  const video = (info?.renditions ?? []).filter(({ kind }) => kind === 'video');
  return video.map(({ id }) => id);
}

/** Everything there is to choose from, best first. */
export function allQualities(
  listed: readonly Quality[],
  info: StreamInfo | null,
  pinned: string | null,
): Quality[] {
  if (listed.length === 0) return [];
  const isListed = (id: string): boolean => listed.some((quality) => quality.id === id);
  // One that came since the playlist was read can be picked all the same.
  const others = (info?.renditions ?? [])
    .filter(({ id, kind }) => kind === 'video' && !isListed(id))
    .map(({ id, width, height, fps, bitrate }) => ({
      ...{ id, width, height, fps, bitrate },
      paused: false,
    }));
  const all = [...listed, ...others];
  const height = Number(/^(\d+)p/.exec(pinned ?? '')?.[1] ?? 0);
  if (pinned !== null && height > 0 && !all.some(({ id }) => id === pinned)) {
    // Picked by the address of the page, and not there yet.
    all.push({ id: pinned, width: 0, height, fps: 0, bitrate: 0, paused: true });
  }
  return all.sort((a, b) => b.height - a.height || b.bitrate - a.bitrate);
}

/** Whether to open afresh in a new session, since it makes something else than the last one. */
export function isOutdated(
  listed: readonly Quality[],
  info: StreamInfo,
  before: StreamInfo | null,
): boolean {
  if (listed.length === 0 || info.state !== 'live') return false;
  const made = videoIds(info);
  const isListed = (id: string): boolean => listed.some((quality) => quality.id === id);
  // What was not made before either sleeps or is paused, and may come back.
  const madeBefore = videoIds(before);
  return (
    !made.every(isListed) || listed.some(({ id }) => madeBefore.includes(id) && !made.includes(id))
  );
}
