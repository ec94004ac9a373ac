/** Media by the browser's own HLS player, for browsers without Media Source (older iPhones). */
import type { Quality, Source, SourceEvents } from './source';

/** Whether the browser plays HLS by itself. */
export function canPlayNatively(video: HTMLVideoElement): boolean {
  return video.canPlayType('application/vnd.apple.mpegurl') !== '';
}

/** Safari's name for the wall clock at media time 0. */
type DatedVideo = HTMLVideoElement & { getStartDate?: () => Date };

export class NativeSource implements Source {
  /** The browser chooses, and does not say from what. */
  readonly qualities: readonly Quality[] = [];
  readonly bandwidthBps = 0;
  /** It keeps its own distance to the live edge. */
  readonly distance = null;
  readonly #video: DatedVideo;
  readonly #url: string;
  readonly #stop = new AbortController();

  constructor(video: HTMLVideoElement, options: { url: string; events: SourceEvents }) {
    this.#video = video;
    this.#url = options.url;
    const { events } = options;
    const { signal } = this.#stop;
    video.addEventListener('loadedmetadata', () => events.onOpened(), { signal });
    video.addEventListener('error', () => this.#reportError(events), { signal });
    // A live stream has no end; once it has one, the playlist was closed.
    video.addEventListener(
      'durationchange',
      () => {
        if (Number.isFinite(video.duration) && video.duration > 0) events.onEndList();
      },
      { signal },
    );
    this.load();
  }

  setQuality(): void {
    // Not ours to choose here.
  }

  setMade(): void {
    // The browser finds out by itself.
  }

  load(): void {
    this.#video.src = this.#url;
    this.#video.load();
  }

  recover(): void {
    this.load();
  }

  get livePositionS(): number | null {
    const { seekable } = this.#video;
    return seekable.length > 0 ? seekable.end(seekable.length - 1) : null;
  }

  get playingDateMs(): number | null {
    const startMs = this.#video.getStartDate?.().getTime() ?? NaN;
    return Number.isNaN(startMs) ? null : startMs + this.#video.currentTime * 1000;
  }

  destroy(): void {
    this.#stop.abort();
    this.#video.removeAttribute('src');
    this.#video.load();
  }

  #reportError(events: SourceEvents): void {
    const { error } = this.#video;
    if (!error) return;
    const fault = error.code === MediaError.MEDIA_ERR_DECODE ? 'media' : 'network';
    events.onFault(fault, error.message || `media error ${error.code}`);
  }
}
