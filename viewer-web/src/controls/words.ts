/** What the player says about its state: pure, so that every state has words. */
import type { Quality } from '../player/source';
import type { ViewerState } from '../player/api';

/** The card over the picture. */
export interface Message {
  title: string;
  detail: string;
  /** Whether something is going on that needs no help. */
  busy: boolean;
  action: 'replay' | 'try-again' | 'all-streams' | null;
}

/** The card for a state; null when the picture speaks for itself. */
export function messageFor(state: ViewerState, stream: string | null): Message | null {
  switch (state.phase) {
    case 'playing':
      return null;
    case 'loading':
      return { title: 'Loading…', detail: '', busy: true, action: null };
    case 'waiting':
      return {
        title: 'Waiting for the broadcaster',
        detail: 'The stream starts here by itself as soon as it goes live.',
        busy: true,
        action: null,
      };
    case 'reconnecting':
      return reconnecting(state);
    case 'ended':
      return {
        title: 'The broadcast has ended',
        detail: state.replayable
          ? 'Its last moments can still be watched.'
          : 'Thanks for watching.',
        busy: false,
        action: state.replayable ? 'replay' : 'all-streams',
      };
    case 'missing':
      return {
        title: 'No such stream',
        detail:
          stream === null
            ? 'This address names no stream.'
            : `There is no stream called “${stream}” here. It may have been removed, or the address is mistyped.`,
        busy: false,
        action: 'all-streams',
      };
    case 'failed':
      return state.stream === 'failed'
        ? {
            title: 'The stream has stopped',
            detail:
              'The broadcaster could not keep it running. It comes back here once it is restarted.',
            busy: false,
            action: 'try-again',
          }
        : {
            title: 'This browser cannot play the stream',
            detail: 'It lacks support for live video over HTTP. A current browser will do.',
            busy: false,
            action: null,
          };
  }
}

function reconnecting(state: ViewerState): Message {
  // Also while it cannot be reached: it said so before it went.
  if (state.stream === 'restarting') {
    return {
      title: 'The broadcaster is restarting',
      detail: 'Playback goes on by itself in a few seconds.',
      busy: true,
      action: null,
    };
  }
  if (!state.reachable) {
    return {
      title: 'Reconnecting…',
      detail: 'The server cannot be reached. Playback goes on by itself once it answers.',
      busy: true,
      action: 'try-again',
    };
  }
  if (state.stream === 'grace') {
    return {
      title: 'The broadcaster lost its connection',
      detail: 'Playback goes on by itself when it is back.',
      busy: true,
      action: null,
    };
  }
  return {
    title: 'Reconnecting…',
    detail: 'Playback goes on by itself.',
    busy: true,
    action: null,
  };
}

/** A quality's name in the menu. */
export function qualityLabel(quality: { id: string; height: number; fps: number }): string {
  if (quality.id === 'source') return quality.height > 0 ? `Source · ${quality.height}p` : 'Source';
  return quality.id;
}

/** What the viewer is told when qualities were paused or came back; null when nothing changed. */
export function qualityNotice(
  before: readonly Quality[],
  after: readonly Quality[],
  pinned: string | null,
): { text: string; concerns: 'picked' | 'others' } | null {
  const wasPaused = (id: string): boolean => before.some((one) => one.id === id && one.paused);
  const wasThere = (id: string): boolean => before.some((one) => one.id === id && !one.paused);
  const paused = after.filter((one) => one.paused && !wasPaused(one.id));
  const back = after.filter((one) => !one.paused && wasPaused(one.id));
  // What is paused on arrival is news only to the one who asked for it.
  const news = paused.filter(({ id }) => wasThere(id) || id === pinned);
  if (news.length === 0 && back.length === 0) return null;
  const picked = news.find(({ id }) => id === pinned);
  if (picked) {
    const text = `${qualityLabel(picked)} is paused. It comes back here as soon as it can.`;
    return { text, concerns: 'picked' };
  }
  const isPickedBack = back.some(({ id }) => id === pinned);
  const sentence = (some: readonly Quality[], end: string): string =>
    some.length === 0
      ? ''
      : `${some.map(qualityLabel).join(', ')} ${some.length === 1 ? 'is' : 'are'} ${end}.`;
  const text = [sentence(news, 'paused'), sentence(back, 'back')].filter(Boolean).join(' ');
  return { text, concerns: isPickedBack ? 'picked' : 'others' };
}

/** A bit rate for people. */
export function bitrateLabel(bps: number): string {
  if (bps <= 0) return '';
  if (bps >= 1_000_000) return `${(bps / 1_000_000).toFixed(1)} Mbit/s`;
  return `${Math.round(bps / 1000)} kbit/s`;
}

/** An amount of bytes for people. */
export function bytesLabel(bytes: number): string {
  if (bytes >= 1e9) return `${(bytes / 1e9).toFixed(2)} GB`;
  if (bytes >= 1e6) return `${(bytes / 1e6).toFixed(1)} MB`;
  return `${Math.round(bytes / 1e3)} kB`;
}

/** How long ago, in words that need no update each second. */
export function agoLabel(sinceMs: number, nowMs: number): string {
  const minutes = Math.floor((nowMs - sinceMs) / 60_000);
  if (minutes < 1) return 'just now';
  if (minutes < 60) return `${minutes} min ago`;
  const hours = Math.floor(minutes / 60);
  if (hours < 24) return `${hours} h ${minutes % 60} min ago`;
  return `${Math.floor(hours / 24)} days ago`;
}
